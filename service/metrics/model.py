"""What there is to count of a model: its rows, guards, batches, device and monitors."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from guards.monitor import Series, State
from guards.types import Action
from service.answer import Answer
from service.gpu import Gpu
from service.metrics.families import PREFIX, Counters, Histograms, gauge
from service.retention import Figures
from service.store import Verdict

__all__ = ["P_VALUES", "ModelMetrics", "Promises"]

BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
P_VALUES = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
STORED = ("stored", "repeated", "dropped")
FEEDBACK = ("accepted", "duplicate", "conflicting", "unknown", "replaced")
STATES: tuple[State, ...] = ("ok", "warning", "alarm", "insufficient_data")


@dataclass(frozen=True, slots=True)
class Promises:
    """What the config promises, for rules to hold what is counted against."""

    false_alarm_budget: float
    coverage: float
    thresholds: tuple[float, ...]
    """Of each guard: the p-value at and under which it flags, which is the share of clean rows that it flags."""

    def collect(self, guards: Sequence[str]) -> Iterator[Metric]:
        """Render everything."""
        yield gauge(
            "false_alarm_budget_ratio", "Share of clean rows that all guards together may touch.",
            {(): self.false_alarm_budget},
        )  # fmt: skip
        yield gauge(
            "guard_threshold_ratio", "P-value at and under which a guard flags: the share of clean rows it flags.",
            {(guard,): value for guard, value in zip(guards, self.thresholds, strict=True)}, ["guard"],
        )  # fmt: skip
        yield gauge(
            "coverage_target_ratio", "Share of prediction sets and intervals that shall hold the truth.",
            {(): self.coverage},
        )  # fmt: skip


class ModelMetrics:
    """What there is to count once a bundle is loaded."""

    def __init__(
        self,
        guards: Sequence[str],
        series: Callable[[], Sequence[Series]],
        device: str,
        info: Mapping[str, str],
        *,
        promises: Promises | None = None,
        gpu: Gpu | None = None,
        states: Callable[[], Mapping[str, tuple[str, State]]] = dict,
    ) -> None:
        """Make the guards' series; ``series`` gives those of the monitors, ``states`` their kind and state by name.

        Both and ``gpu`` are asked at every scrape.
        """
        names = [(guard,) for guard in guards]
        self.guards, self._series, self.device, self.info = tuple(guards), series, device, dict(info)
        self._promises, self._gpu, self._states = promises, gpu, states
        self.rows = Counters(
            "rows", "Rows answered, by what was done to them.", ["action"], [(action.label,) for action in Action]
        )
        self.guard_rows = Counters("guard_rows", "Rows that a guard judged.", ["guard"], names)
        self.guard_flags = Counters("guard_flags", "Rows that a guard flagged.", ["guard"], names)
        self.guard_errors = Counters("guard_errors", "Rows on which a guard crashed.", ["guard"], names)
        self.violations = Counters(
            "guard_violations", "Rows that break a declared bound, which flags whatever the budget.", ["guard"], names
        )
        self.p_value = Histograms(
            "guard_p_value", "P-values of a guard; flat on clean rows.", P_VALUES, ["guard"], names
        )
        self.busy = Counters("device_busy_seconds", "Time the device spent on batches.", ["device"], [(device,)])
        self.batch_rows = Histograms("batch_rows", "Rows in a batch.", BATCH_ROWS)
        self.stored = Counters(
            "store_rows", "Answered rows: stored, not stored as their id was there already, or dropped.", ["result"],
            [(result,) for result in STORED],
        )  # fmt: skip
        self.store_deleted = Counters(
            "store_deleted_rows", "Rows deleted from the store, for their age or for its size.", ["reason"],
            [("age",), ("size",)],
        )  # fmt: skip
        self.files_lost = Counters(
            "store_files_lost", "How often the SQLite file was found deleted or replaced, and begun anew.", [], [()]
        )
        self.store_figures: Callable[[], Figures] = Figures
        self.last_batch = 0.0
        """When the last batch was answered, in seconds since the epoch; 0 before the first."""
        self.store_down: Callable[[], bool] = lambda: False
        self.feedback = Counters("feedback", "Outcomes received.", ["result"], [(result,) for result in FEEDBACK])

    def count_deleted(self, reason: str, rows: int) -> None:
        """Count rows that were deleted from the store for their ``age`` or for its ``size``."""
        self.store_deleted.add(reason, by=rows)

    def judged(self, verdict: Verdict) -> None:
        """Count outcomes that were stored, or that were stored before."""
        for result in ("accepted", "duplicate", "conflicting", "replaced"):
            self.feedback.add(result, by=len(getattr(verdict, result)))

    def ran(self, rows: int, seconds: float) -> None:
        """Count one batch of the device, whoever still waits for its rows."""
        self.busy.values[0] += seconds
        self.last_batch = time.time()
        self.batch_rows.observe(rows)

    def observe(self, answer: Answer) -> None:
        """Count rows that were answered."""
        actions = np.bincount(answer.action, minlength=len(Action))
        self.rows.values += actions
        crashed = np.isnan(answer.p_value)
        self.guard_errors.values += crashed.sum(0)
        self.guard_rows.values += (~crashed).sum(0)
        self.guard_flags.values += answer.flagged.sum(0)
        if answer.violated is not None:
            self.violations.values += answer.violated.sum(0)
        for index, guard in enumerate(self.guards):
            self.p_value.observe_many(answer.p_value[:, index], guard)

    def collect(self) -> Iterator[Metric]:
        """Render everything."""
        for family in (
            self.rows, self.guard_rows, self.guard_flags, self.guard_errors, self.violations, self.busy,
            self.stored, self.store_deleted, self.feedback,
        ):  # fmt: skip
            yield family.collect()
        yield gauge("store_down", "1 while the database cannot be reached.", {(): self.store_down()})
        yield from self._store()
        yield self.p_value.collect()
        yield self.batch_rows.collect()
        yield gauge("build_info", "What is being served.", {tuple(self.info.values()): 1}, list(self.info))
        if self._promises is not None:
            yield from self._promises.collect(self.guards)
        if self._gpu is not None:
            yield from self._device(self._gpu)
        monitors = self._states()
        yield gauge(
            "monitor_state", "1 for the state that a monitor is in, 0 for the others.",
            {(name, state): state == now for name, (_, now) in monitors.items() for state in STATES},
            ["monitor", "state"],
        )  # fmt: skip
        yield gauge(
            "monitor_info", "The kind of each monitor.", {(name, kind): 1 for name, (kind, _) in monitors.items()},
            ["monitor", "kind"],
        )  # fmt: skip
        yield from self._monitors()

    def _store(self) -> Iterator[Metric]:
        figures = self.store_figures()
        self.files_lost.values[0] = figures.files_lost
        yield self.files_lost.collect()
        yield gauge("store_max_bytes", "What the store may take: store.max_bytes.", {(): figures.max_bytes})
        size = "What the store takes: SQLite's files, or an estimate for this model's rows in PostgreSQL."
        yield gauge("store_bytes", size, {(): figures.bytes})
        oldest = "When the oldest stored prediction was answered, in seconds since 1970; NaN if there is none."
        yield gauge("store_oldest_row_timestamp_seconds", oldest, {(): figures.oldest})

    def _device(self, gpu: Gpu) -> Iterator[Metric]:
        read = gpu.read()
        yield gauge(
            "device_memory_bytes", "Memory of the device: of this process' tensors, of everybody, and all there is.",
            {(self.device, kind): value for kind, value in read.memory.items()}, ["device", "kind"],
        )  # fmt: skip
        for name, help_text, value in (
            ("gpu_utilization_ratio", "Share of time in which any kernel ran.", read.utilization),
            ("gpu_power_watts", "Power that the device draws.", read.watts),
        ):
            if value is not None:
                yield gauge(name, help_text, {(self.device,): value}, ["device"])

    def _monitors(self) -> Iterator[Metric]:
        """Render the monitors' own series, those of one metric together."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for series in self._series():
            family = families.get(series.metric)
            if family is None:
                kind = CounterMetricFamily if series.kind == "counter" else GaugeMetricFamily
                help_text = f"{series.metric.replace('_', ' ').removesuffix(' total').capitalize()}."
                family = kind(PREFIX + series.metric.removesuffix("_total"), help_text, labels=list(series.labels))
                families[series.metric] = family
            family.add_metric(list(series.labels.values()), series.value)
        yield from families.values()
