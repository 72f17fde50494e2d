"""What the guards and the bookkeeping add to a forward pass, in microseconds of CPU time, by rows of a batch.

Everything runs in this process on one torch thread, without a server. The variants take turns in every round, so that
whatever else the machine does meets them alike. Only the time of the calling thread counts: of the store, what the
device's thread pays for it.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import interpolate

from benchmarks.harness.report import print_document
from benchmarks.harness.servers import GUARDS, ROOT
from benchmarks.stacks.cnn import ROWS, images
from guards.bundle.bundle import Bundle
from guards.bundle.fit_rows import fit_rows
from guards.bundle.load_model import make_model
from guards.config.config import Config, parse
from guards.input.schema import InputSchema
from guards.types import Rows
from service import memory
from service.engine.bookkeeping import Bookkeeping
from service.engine.executor import Executor
from service.engine.job import Computed, Lesson
from service.engine.ledger import Ledger
from service.monitoring.live_monitors import Monitoring
from service.monitoring.teaching import Teaching
from service.store.local_store import LocalStore
from service.telemetry.metrics.engine import EngineMetrics

SIZES, JOINED = (1, 32), (1, 16)
MODELS = {"cnn": ("benchmarks.stacks.cnn:build", None, ROWS), "digits": ("model:build", ROOT / "examples/digits", 8)}
"""Builder, the folder of its module, and the height of an image."""
MONITORS = (
    {"name": "drift", "kind": "sequential"},
    {"name": "streams", "kind": "bins"},
    {"name": "sex", "kind": "groups", "attribute": "sex", "source": {"request": "sex"}, "levels": ["f", "m"]},
)
ROUNDS, QUICK_ROUNDS = 60, 3
SECONDS, QUICK_SECONDS = 0.02, 0.002
"""How much CPU time one variant takes in one round."""
CODES = {"sex": 1}
FLUSH_SECONDS = 10.0
Variant = Callable[[], object]
Figures = dict[str, float]


def main(*, quick: bool) -> None:
    """Measure, print the tables and the JSON document."""
    torch.set_num_threads(1)
    memory.keep()  # as a server does: otherwise the kernel zeroes the activations of every batch anew
    memory.settle()
    console = Console(stderr=True)
    forward: dict[str, dict[str, Figures]] = {}
    books: dict[str, dict[str, Figures]] = {}
    for name in MODELS:
        guarded, unguarded = _bundle(name, GUARDS), _bundle(name, [])
        for rows in SIZES:
            case = f"{name}, {rows} rows"
            forward[case] = _measured(_forwards(guarded, unguarded, rows), quick=quick)
            _show(console, f"{case}: a batch", forward[case])
    with tempfile.TemporaryDirectory() as folder:
        for rows in SIZES:
            for joined in JOINED:
                case = f"cnn, {rows} rows, {joined} batches at once"
                with _books(_bundle("cnn", GUARDS), rows, joined, Path(folder)) as variants:
                    books[case] = _measured(variants, quick=quick, per=joined)
                _show(console, f"{case}: the books of one batch", books[case])
    unit = "microseconds of CPU time a batch"
    print_document("row_cost", quick=quick, unit=unit, forward=forward, books=books)


def _bundle(name: str, guards: Sequence[Mapping[str, Any]]) -> Bundle:
    """Fit a model with random weights on smooth images, whose labels are mostly what the model says."""
    builder, folder, height = MODELS[name]
    config: Config = parse(
        {
            "name": "bench",
            "model": {"builder": builder, "device": "cpu", "classes": [str(digit) for digit in range(10)]},
            "input": {"kind": "image", "shape": [1, height, height]},
            "reference": {"path": "train.npz", "calibration": "heldout.npz"},
            "guards": guards,
            "monitors": MONITORS,
        }
    )
    schema = InputSchema(kind="image", shape=(1, height, height))
    model = make_model(config, schema, outputs=10, folder=folder, weights=None, program=None)

    def rows(count: int, seed: int) -> Rows:
        x = _rows(height, count, seed)
        y = torch.cat([model(chunk).logits.argmax(1) for chunk in torch.split(x, 256)])
        y[::10] = torch.arange(len(y[::10])) % 10
        return Rows(x, y.clone())

    classes = config.model.classes or ()
    made = fit_rows(config, schema=schema, classes=classes, model=model, train=rows(2000, 1), heldout=rows(1500, 2))
    return made.bundle


def _rows(height: int, count: int, seed: int) -> torch.Tensor:
    return interpolate(images(count, seed), size=(height, height), mode="bilinear").contiguous()


def _forwards(guarded: Bundle, unguarded: Bundle, rows: int) -> dict[str, Variant]:
    x = _rows(guarded.schema.shape[1], rows, 3)
    array, ids = x.numpy(), [f"row-{row}" for row in range(rows)]
    executors = {
        name: Executor(bundle, bundle.pipeline(), max_batch_rows=64)
        for name, bundle in (("guards: []", unguarded), ("guarded", guarded))
    }
    return {
        "bare forward": lambda: guarded.model(x),
        **{name: partial(each.compute, array, {}, ids, False) for name, each in executors.items()},
    }


@contextmanager
def _books(bundle: Bundle, rows: int, joined: int, folder: Path) -> Iterator[dict[str, Variant]]:
    """Give the books of a batch without anything, with each monitor, with the store, and with all of it."""
    pipeline = bundle.pipeline()
    executor = Executor(bundle, pipeline, max_batch_rows=64)
    groups = {name: np.full(rows, code) for name, code in CODES.items()}
    array = _rows(ROWS, rows * joined, 4).numpy()

    def computed(batch: int) -> Computed:
        ids = [f"row-{rows * batch + row}" for row in range(rows)]
        return executor.compute(array[rows * batch : rows * (batch + 1)], groups, ids, False)

    lessons = [Lesson(computed(batch), 0, rows) for batch in range(joined)]
    kinds = {monitor.kind: [monitor] for monitor in bundle.monitors}
    choices: dict[str, tuple[Sequence[Any], bool]] = {
        "counts alone": ((), False),
        **{kind: (some, False) for kind, some in kinds.items()},
        "store": ((), True),
        "all monitors, store": (bundle.monitors, True),
    }
    ledgers = []
    variants: dict[str, Variant] = {}
    for name, (monitors, stored) in choices.items():
        monitoring, metrics = Monitoring(monitors), EngineMetrics(pipeline.names, [])
        url = f"sqlite:///{folder}/{rows}-{joined}-{name.replace(' ', '-')}.db"
        watched = replace(bundle, monitors=tuple(monitors))
        opening = partial(LocalStore.open, url) if stored else None
        ledger = Ledger(watched, pipeline, monitoring, metrics, opening)
        if ledger.store is not None:
            ledger.store.prepare()  # two stores in one process must not make their tables at the same time
        ledgers.append((ledger, monitoring))
        books = Bookkeeping(ledger, monitoring, metrics, Teaching(bundle.config.all_monitors, metrics.count_skipped))
        variants[name] = _kept(books, ledger, lessons)
    yield variants
    for ledger, monitoring in ledgers:
        ledger.close()
        monitoring.close()


def _kept(books: Bookkeeping, ledger: Ledger, lessons: Sequence[Lesson]) -> Variant:
    def keep() -> None:
        for lesson in lessons:
            lesson.computed.about.batch.memo.clear()  # no batch is kept twice
        books.expect(len(lessons))
        books.keep(lessons)
        for lesson in lessons:
            books.ran(lesson.computed)

    keep.settle = lambda: ledger.recorder.flush(FLUSH_SECONDS)  # type: ignore[attr-defined]
    return keep


def _measured(variants: Mapping[str, Variant], *, quick: bool, per: int = 1) -> dict[str, Figures]:
    """Give the median and the quartiles over the rounds, of one call divided by ``per``."""
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
    calls = {name: max(1, round(seconds / _seconds(variant, 5))) for name, variant in variants.items()}
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            found[name].append(1e6 * _seconds(variant, calls[name]) / per)
    first = next(iter(found))
    return {name: _figures(each, found[first]) for name, each in found.items()}


def _seconds(variant: Variant, calls: int) -> float:
    """Give the CPU time of one call by this thread."""
    started = time.thread_time()
    for _ in range(calls):
        variant()
    took = (time.thread_time() - started) / calls
    getattr(variant, "settle", bool)()  # so that no round finds the store's queue full
    return took


def _figures(each: Sequence[float], first: Sequence[float]) -> Figures:
    beyond = [a - b for a, b in zip(each, first, strict=True)]
    low, median, high = _quartiles(each)
    more_low, more, more_high = _quartiles(beyond)
    return {
        "median": median, "low": low, "high": high, "more": more, "more_low": more_low, "more_high": more_high,
        "ratio": statistics.median(a / b for a, b in zip(each, first, strict=True)),
    }  # fmt: skip


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    low, median, high = statistics.quantiles(values, n=4)
    return round(low, 1), round(median, 1), round(high, 1)


def _show(console: Console, title: str, figures: Mapping[str, Figures]) -> None:
    first = next(iter(figures))
    table = Table(title=title, caption="medians of the rounds, and their quartiles")
    for heading in ("", "us of CPU time", f"more than {first}", "ratio"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, each in figures.items():
        interval = f"[{each['low']:.0f}, {each['high']:.0f}]"
        more = f"{each['more']:.0f} [{each['more_low']:.0f}, {each['more_high']:.0f}]"
        table.add_row(name, f"{each['median']:.0f} {interval}".replace("[", r"\["), more.replace("[", r"\["),
                      f"{each['ratio']:.2f}")  # fmt: skip
    console.print(table)
