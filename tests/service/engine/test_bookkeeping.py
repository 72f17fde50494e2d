"""Counts are the same if rows are counted batch by batch or many batches at once."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch

from guards import Bundle
from guards.monitors.optional_methods import HasSnapshots, series_of
from service.engine.bookkeeping import Bookkeeping
from service.engine.executor import Executor
from service.engine.job import Computed, Lesson
from service.engine.ledger import Ledger
from service.monitoring.live_monitors import Monitoring
from service.monitoring.teaching import Teaching
from service.telemetry.metrics.engine import EngineMetrics

MONITORS = [
    {"kind": "bins", "name": "streams"},
    {"kind": "sequential", "name": "drift", "epoch": 4, "average_run_length": 1000},
    {"kind": "sequential", "name": "clean", "epoch": 8, "average_run_length": 1000, "include": "clean"},
    {"kind": "groups", "name": "region", "attribute": "region", "source": {"request": "region"},
     "levels": ["north", "south"]},
    {"kind": "accuracy", "name": "right", "groups": "region"},
]  # fmt: skip
SIZES = (1, 1, 7, 3, 16, 2)


class Kept:
    """The books of one fitted bundle, without a store."""

    def __init__(self, kind: str, smallest_count: int = 1) -> None:
        self.bundle: Bundle = tiny_models.fitted(kind, monitors=MONITORS).bundle
        self.pipeline = self.bundle.pipeline()
        self.monitoring = Monitoring(self.bundle.monitors, smallest_count=smallest_count)
        names = [params.name for params in self.bundle.config.all_monitors]
        self.figures = EngineMetrics(self.pipeline.names, [], monitors=names)
        self.ledger = Ledger(self.bundle, self.pipeline, self.monitoring, self.figures, None)
        teaching = Teaching(self.bundle.config.all_monitors, self.figures.count_skipped)
        self.books = Bookkeeping(self.ledger, self.monitoring, self.figures, teaching, smallest_count=smallest_count)

    def batches(self) -> list[Computed]:
        executor, start, made = Executor(self.bundle, self.pipeline, max_batch_rows=16), 0, []
        x = tiny_models.inputs(self.bundle.schema.kind, sum(SIZES), 9).numpy()
        for size in SIZES:
            codes = {"region": np.arange(start, start + size) % 3}
            ids = [str(row) for row in range(start, start + size)]
            made.append(executor.compute(x[start : start + size], codes, ids, causes=size == 3))
            start += size
        return made

    def keep(self, lessons: Sequence[Lesson]) -> None:
        self.books.expect(len(lessons))
        self.books.keep(lessons)

    def state(self) -> dict[str, Any]:
        """Give everything that was counted."""
        found: dict[str, Any] = {}
        for monitor in self.bundle.monitors:
            if isinstance(monitor, HasSnapshots):
                arrays = monitor.snapshot()
                found |= {f"{monitor.name}.{name}": np.asarray(array).tolist() for name, array in arrays.items()}
            found[monitor.name] = series_of(monitor)
        counters = ("rows", "guard_rows", "guard_flags", "guard_errors", "violations")
        found |= {name: getattr(self.figures, name).values.tolist() for name in counters}
        return found | {"p_value": self.figures.p_value.counts.tolist()}

    def close(self) -> None:
        self.ledger.close()
        self.monitoring.close()


@pytest.fixture(params=tiny_models.KINDS)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Kept, Kept]]:
    made = Kept(request.param), Kept(request.param)
    yield made
    for each in made:
        each.close()


def test_joined_batches_count_as_single_ones(pair: tuple[Kept, Kept]) -> None:
    """Batches that are kept at once leave every monitor and every counter as the same batches kept one by one do."""
    singly, joined = pair
    for computed in singly.batches():
        singly.keep([Lesson(computed, 0, len(computed.ids))])
    joined.keep([Lesson(computed, 0, len(computed.ids)) for computed in joined.batches()])
    assert singly.state() == joined.state()
    assert sum(singly.state()["rows"]) == sum(SIZES)


def test_parts_of_batches_count_as_the_whole(pair: tuple[Kept, Kept]) -> None:
    """A batch whose requests are kept apart, in parts, counts each row once."""
    whole, parts = pair
    whole.keep([Lesson(computed, 0, len(computed.ids)) for computed in whole.batches()])
    for computed in parts.batches():
        middle, end = len(computed.ids) // 2, len(computed.ids)
        for start, stop in ((0, middle), (middle, end)):
            if start < stop:
                parts.keep([Lesson(computed, start, stop)])
    assert whole.state() == parts.state()


def test_computing_in_inference_mode_fills_no_row_in(pair: tuple[Kept, Kept]) -> None:
    """Of a batch that was filled up to a static shape the answer and the books have the asked rows alone."""
    kept, _ = pair
    computed = kept.batches()[2]
    assert len(computed.answer) == len(computed.about.batch) == len(computed.about.result) == SIZES[2]
    assert not computed.about.result.output.logits.requires_grad
    assert not torch.is_inference_mode_enabled()


def test_without_a_store_no_row_waits_to_be_stored(pair: tuple[Kept, Kept]) -> None:
    """Nothing is put into the writer's queue, and whoever waits for the lessons waits until the last has been kept."""
    kept, _ = pair
    first, second = (Lesson(computed, 0, len(computed.ids)) for computed in kept.batches()[:2])
    kept.books.expect(2)
    with ThreadPoolExecutor(1) as pool:
        flushed = pool.submit(kept.ledger.recorder.flush, 60.0)
        kept.books.keep([first])
        time.sleep(0.05)
        assert not flushed.done()
        kept.books.keep([second])
        assert kept.ledger.recorder.rows == 0
        assert flushed.result(60) is True


@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_figures_change_by_lots_of_rows(kind: str) -> None:
    """No figure changes by fewer rows than the smallest count, all figures change together, and none is lost."""
    singly, lots = Kept(kind), Kept(kind, smallest_count=10)
    shown = [0]
    for computed in singly.batches():
        singly.keep([Lesson(computed, 0, len(computed.ids))])
    for computed in lots.batches():
        before = lots.state()
        lots.keep([Lesson(computed, 0, len(computed.ids))])
        shown.append(int(sum(lots.state()["rows"])))
        assert (lots.state() == before) is (shown[-1] == shown[-2])
    assert [after - before for before, after in pairwise(shown)] == [0, 0, 0, 12, 16, 0]
    lots.books.close()
    assert singly.state() == lots.state()
    lots.books.close()  # nothing is left
    for each in (singly, lots):
        each.close()
