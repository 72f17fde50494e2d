"""The metric families that only the engine can give: of the monitors, the GPU, the store, and the config's promises."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import orjson

from guards.calibration.abstention import Abstention
from guards.monitors.base import Series, State
from service.telemetry.gpu import Gpu
from service.telemetry.metrics.engine import EngineMetrics
from service.telemetry.metrics.plain_families import FamiliesFile, Family, sample
from service.telemetry.store_figures import StoreFigures

__all__ = ["EngineFamilies", "Promises"]

STATES: tuple[State, ...] = ("ok", "warning", "alarm", "insufficient_data")
Values = Mapping[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Promises:
    """What the config promises, so that alerting rules can compare it with the counters."""

    false_alarm_budget: float
    coverage: float
    thresholds: tuple[float, ...]
    """For each guard, the p-value at and under which it flags. This is also the share of clean rows that it flags."""
    abstentions: Mapping[str, Abstention] = field(default_factory=dict)
    """The proven thresholds of the guards with a `target_error`, by the guard's name."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EngineFamilies:
    """Gives all families as plain data, and keeps the latest in a file for the time when this process has ended.

    The callables are called, and ``gpu`` is read, every time.
    """

    counts: EngineMetrics
    device: str
    info: Mapping[str, str]
    """The labels of ``build_info``: what is being served."""
    series: Callable[[], Sequence[Series]]
    """Returns the monitors' series."""
    states: Callable[[], Mapping[str, tuple[str, State]]] = dict
    """Returns each monitor's kind and state by the monitor's name."""
    store: Callable[[], StoreFigures] = StoreFigures
    remembered: Callable[[], Mapping[str, int]] = dict
    """Returns how many queries each guard with memory remembers, by the guard's name."""
    promises: Promises | None = None
    gpu: Gpu | None = None
    file: FamiliesFile | None = None
    """The file that keeps the latest families."""
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock, init=False)

    def encoded(self) -> bytes:
        """Give all families as JSON. They are written to the file before a front gets them."""
        with self._one_at_a_time:  # so that older families never replace newer families in the file
            encoded = orjson.dumps(self.families())
            if self.file is not None:
                self.file.write(encoded)
        return encoded

    def families(self) -> list[Family]:
        """Give all families."""
        figures = self.store()
        self.counts.set_files_lost(figures.files_lost)
        return [
            _family(
                "device_busy_seconds", "Time the device spent on batches.",
                {(self.device,): self.counts.busy_seconds}, ["device"], kind="counter",
            ),
            *_of_store(figures),
            _family("build_info", "What is being served.", {tuple(self.info.values()): 1}, list(self.info)),
            *(() if self.promises is None else _of_promises(self.promises, self.counts.guards)),
            *(() if self.gpu is None else self._of_device(self.gpu)),
            *_of_memory(self.remembered()),
            *_of_states(self.states()),
            *_of_series(self.series()),
        ]  # fmt: skip

    def _of_device(self, gpu: Gpu) -> Iterator[Family]:
        read = gpu.read()
        yield _family(
            "device_memory_bytes", "Memory of the device: of this process' tensors, of everybody, and all there is.",
            {(self.device, kind): value for kind, value in read.memory.items()}, ["device", "kind"],
        )  # fmt: skip
        for name, help_text, value in (
            ("gpu_utilization_ratio", "Share of time in which any kernel ran.", read.utilization),
            ("gpu_power_watts", "Power that the device draws.", read.watts),
        ):
            if value is not None:
                yield _family(name, help_text, {(self.device,): value}, ["device"])


def _family(
    name: str,
    help_text: str,
    values: Values,
    labels: Sequence[str] = (),
    *,
    kind: Literal["counter", "gauge"] = "gauge",
) -> Family:
    samples = [sample(labelled, value) for labelled, value in values.items()]
    return {"name": name, "help": help_text, "kind": kind, "labels": list(labels), "samples": samples}


def _of_memory(remembered: Mapping[str, int]) -> Iterator[Family]:
    if remembered:
        yield _family(
            "query_history_entries", "Queries that a guard with memory remembers in this process.",
            {(guard,): entries for guard, entries in remembered.items()}, ["guard"],
        )  # fmt: skip


def _of_store(figures: StoreFigures) -> Iterator[Family]:
    yield _family("store_down", "1 while the database cannot be reached.", {(): figures.down})
    yield _family("store_max_bytes", "What the store may take: store.max_bytes.", {(): figures.max_bytes})
    size = "What the store takes: SQLite's files, or an estimate for this model's rows in PostgreSQL."
    yield _family("store_bytes", size, {(): figures.bytes})
    oldest = "When the oldest stored prediction was answered, in seconds since 1970; NaN if there is none."
    yield _family("store_oldest_row_timestamp_seconds", oldest, {(): figures.oldest})


def _of_promises(promises: Promises, guards: Sequence[str]) -> Iterator[Family]:
    yield _family(
        "false_alarm_budget_ratio", "Share of clean rows that all guards together may touch.",
        {(): promises.false_alarm_budget},
    )  # fmt: skip
    yield _family(
        "guard_threshold_ratio", "P-value at and under which a guard flags: the share of clean rows it flags.",
        {(guard,): value for guard, value in zip(guards, promises.thresholds, strict=True)}, ["guard"],
    )  # fmt: skip
    proven = promises.abstentions.items()
    if proven:
        yield _family(
            "guard_target_error_ratio", "Error rate that the rows that a guard answers shall not exceed.",
            {(guard,): each.target for guard, each in proven}, ["guard"],
        )  # fmt: skip
        yield _family(
            "guard_error_bound_ratio", "Error rate of answered rows that calibration proved with 95 % confidence.",
            {(guard,): each.bound for guard, each in proven}, ["guard"],
        )  # fmt: skip
        yield _family(
            "guard_answered_ratio", "Share of calibration rows that a guard with a target_error answers.",
            {(guard,): each.share for guard, each in proven}, ["guard"],
        )  # fmt: skip
    yield _family(
        "coverage_target_ratio", "Share of prediction sets and intervals that shall hold the truth.",
        {(): promises.coverage},
    )  # fmt: skip


def _of_states(monitors: Mapping[str, tuple[str, State]]) -> Iterator[Family]:
    yield _family(
        "monitor_state", "1 for the state that a monitor is in, 0 for the others.",
        {(name, state): state == now for name, (_, now) in monitors.items() for state in STATES}, ["monitor", "state"],
    )  # fmt: skip
    yield _family(
        "monitor_info", "The kind of each monitor.", {(name, kind): 1 for name, (kind, _) in monitors.items()},
        ["monitor", "kind"],
    )  # fmt: skip


def _of_series(found: Sequence[Series]) -> list[Family]:
    """Turn the monitors' series into families, one for each metric."""
    families: dict[str, Family] = {}
    for series in found:
        family = families.get(series.metric)
        if family is None:
            help_text = f"{series.metric.replace('_', ' ').removesuffix(' total').capitalize()}."
            name = series.metric.removesuffix("_total")
            families[series.metric] = family = _family(name, help_text, {}, list(series.labels), kind=series.kind)
        family["samples"].append(sample(series.labels.values(), series.value))
    return list(families.values())
