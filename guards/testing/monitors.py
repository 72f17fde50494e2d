"""What every monitor owes the service, one check a method."""

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import get_args

import numpy as np
import torch

from guards.monitor import Monitor, MonitorParams, Series, State, Statistic
from guards.testing.example import (
    ROWS,
    STRANGE,
    Example,
    Kind,
    Task,
    check_params,
    example,
    reloaded,
    require,
    take,
    tensors_of,
    with_strange_row,
)
from guards.types import Batch

__all__ = ["MonitorChecks"]

BOUNDARIES = ((0, ROWS), (0, 1, 2, 9, ROWS), (0, 64, 128, 192, ROWS))
Key = tuple[str, str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class MonitorChecks:
    """The checks of one monitor on one kind of input; public methods alone are checks."""

    _monitor: type[Monitor]
    _params: MonitorParams
    _kind: Kind
    _task: Task

    def fit_gives_itself(self) -> None:
        """``fit`` answers the monitor it was called on."""
        made, monitor = self._example(), self._fresh()
        fitted = monitor.fit(replace(made.reference, y=None), made.outcome(made.reference.batch))
        require(fitted is monitor, "fit must return self")

    def name_is_the_configs(self) -> None:
        """A monitor is called what the config calls it."""
        require(self._fresh().name == self._params.name, "the monitor's name is not that of its parameters")

    def fit_counts_nothing(self) -> None:
        """Fitted, every counter is zero, and the report is there already."""
        monitor, _ = self._fitted()
        counted = [series for series in monitor.series() if series.kind == "counter" and series.value != 0]
        require(not counted, f"rows were counted before any was observed: {counted[:1]}")
        _check_report(monitor)

    def batches_do_not_matter(self) -> None:
        """However the rows are cut into batches, the figures come out the same."""
        whole, made = self._fitted()
        _observe(whole, made, made.rows)
        require(any(_counters(whole)) or not whole.series(), "no counter has counted any row")
        for cuts in BOUNDARIES:
            pieces, _ = self._fitted()
            for a, b in pairwise(cuts):
                _observe(pieces, made, made.rows[a:b])
            _require_same(whole, pieces, "the figures depend on how the rows are cut into batches")

    def order_does_not_matter(self) -> None:
        """Whatever the order of the rows, the figures come out the same."""
        whole, made = self._fitted()
        _observe(whole, made, made.rows)
        shuffled, _ = self._fitted()
        order = torch.randperm(len(made.rows), generator=torch.Generator().manual_seed(0))
        _observe(shuffled, made, take(made.rows, order))
        _require_same(whole, shuffled, "the figures depend on the order of the rows")

    def reading_changes_nothing(self) -> None:
        """``report``, ``series`` and ``state`` give the same when asked again."""
        monitor, made = self._fitted()
        _observe(monitor, made, made.rows)
        first = (monitor.series(), monitor.report(), monitor.state())
        require(first == (monitor.series(), monitor.report(), monitor.state()), "asked twice, the figures differ")
        _check_report(monitor)

    def series_are_fixed_at_construction(self) -> None:
        """Every series is there from the start, once, with finite values; rows of any kind add none."""
        monitor, made = self._fitted()
        keys = _keys(monitor)
        twice = [key for key, count in Counter(keys).items() if count > 1]
        require(not twice, f"a series is there twice: {twice[:1]}")
        require(set(_keys(self._fresh())) == set(keys), "fitting changes which series there are")
        names = {metric: {name for name, _ in labels} for metric, _, labels in keys}
        require(all({n for n, _ in labels} == names[metric] for metric, _, labels in keys), "label names vary")
        for row, value in enumerate(STRANGE):
            before = _counters(monitor)
            _observe(monitor, made, with_strange_row(made.rows, row, value))
            fallen = any(now < then for then, now in zip(before, _counters(monitor), strict=True))
            require(not fallen, "a counter fell")
        require(_keys(monitor) == keys, "rows have changed which series there are")
        require(all(math.isfinite(series.value) for series in monitor.series()), "a series is not finite")
        _check_report(monitor)

    def crashed_guards_are_counted_too(self) -> None:
        """Rows on which a guard crashed, so that its p-value is NaN, are observed like others."""
        monitor, made = self._fitted()
        outcome = made.outcome(made.rows)
        crashed = torch.full_like(outcome.verdict.p_value, torch.nan)
        monitor.observe(made.rows, replace(outcome, verdict=replace(outcome.verdict, p_value=crashed)))
        _check_report(monitor)

    def nothing_is_mutated(self) -> None:
        """Neither fitting nor observing writes into what it was given."""
        made, monitor = self._example(), self._fresh()
        outcomes = [made.outcome(batch) for batch in (made.reference.batch, made.rows)]
        given = [*tensors_of(made), *tensors_of(outcomes[0]), *tensors_of(outcomes[1])]
        before = [tensor.clone() for tensor in given]
        monitor.fit(replace(made.reference, y=None), outcomes[0])
        monitor.observe(made.rows, outcomes[1])
        same = all(torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0)) for a, b in zip(before, given, strict=True))
        require(same, "fit or observe writes into the batch or the outcome")

    def state_survives_a_bundle(self) -> None:
        """A fresh instance with the fitted one's buffers counts the same rows alike."""
        monitor, made = self._fitted()
        restored = reloaded(self._fresh(), monitor)
        known = restored.state_dict().keys() == monitor.state_dict().keys()
        require(known, "fit makes buffers that a fresh instance has not got; register them all in the constructor")
        for each in (monitor, restored):
            _observe(each, made, made.rows)
        require(monitor.series() == restored.series(), "restored from its buffers, the monitor counts otherwise")
        require(monitor.report() == restored.report(), "restored from its buffers, the monitor reports otherwise")

    def snapshots_go_on(self) -> None:
        """A fresh instance with a snapshot of numbers goes on like the one that gave it; none need be given."""
        monitor, made = self._fitted()
        _observe(monitor, made, made.rows[: ROWS // 3])
        saved = {key: np.array(array) for key, array in monitor.snapshot().items()}
        if not saved:
            return
        require(all(array.dtype.kind in "biuf" for array in saved.values()), "a snapshot holds arrays of numbers alone")
        restored, _ = self._fitted()
        restored.restore({key: array.copy() for key, array in saved.items()})
        require(restored.series() == monitor.series(), "restored from its snapshot, the monitor counts otherwise")
        require(restored.report() == monitor.report(), "restored from its snapshot, the monitor reports otherwise")
        require(restored.state() == monitor.state(), "restored from its snapshot, the monitor's state is another")
        _observe(monitor, made, made.rows[ROWS // 3 :])
        _observe(restored, made, made.rows[ROWS // 3 :])
        require(monitor.series() == restored.series(), "restored from its snapshot, the monitor goes on otherwise")
        require(monitor.report() == restored.report(), "restored from its snapshot, the monitor goes on otherwise")
        # Where monitors are replayed, they are taken back: what they have seen since must then be forgotten.
        monitor.restore(saved)
        _observe(monitor, made, made.rows[ROWS // 3 :])
        require(monitor.series() == restored.series(), "taken back to its snapshot, the monitor goes on otherwise")
        try:
            restored.restore({**saved, "no_such_array": np.zeros(1)})
        except ValueError:
            pass
        else:
            require(condition=False, sentence="an array that no snapshot has is restored; it must be refused")

    def params_are_closed(self) -> None:
        """The parameters refuse an unknown key, and survive JSON."""
        check_params(self._params)

    def _example(self) -> Example:
        return example(self._kind, self._task)

    def _fresh(self) -> Monitor:
        return self._monitor(self._params, self._example().context)

    def _fitted(self) -> tuple[Monitor, Example]:
        made = self._example()
        held_out = replace(made.reference, batch=made.calibration, y=None)
        return self._fresh().fit(held_out, made.outcome(made.calibration)), made


@torch.inference_mode()
def _observe(monitor: Monitor, made: Example, rows: Batch) -> None:
    monitor.observe(rows, made.outcome(rows))


def _keys(monitor: Monitor) -> list[Key]:
    return [(series.metric, series.kind, tuple(sorted(series.labels.items()))) for series in monitor.series()]


def _counters(monitor: Monitor) -> list[float]:
    return [series.value for series in monitor.series() if series.kind == "counter"]


def _check_report(monitor: Monitor) -> None:
    report = monitor.report()
    require(all(isinstance(statistic, Statistic) for statistic in report), "a report is a list of statistics")
    json.dumps([asdict(statistic) for statistic in report], allow_nan=False)
    numbers = [number for s in report for number in (s.value, *(s.interval or ()), s.n) if number is not None]
    bounded = [
        (s.interval[0], s.value, s.interval[1]) for s in report if s.interval is not None and s.value is not None
    ]
    require(all(low <= value <= high for low, value, high in bounded), "a value lies outside its own interval")
    require(all(type(number) in (int, float) for number in numbers), "a statistic's numbers must be plain, not numpy's")
    keys = Counter((statistic.name, tuple(sorted(statistic.labels.items()))) for statistic in report)
    require(all(count == 1 for count in keys.values()), "a statistic is reported twice")
    require(monitor.state() in get_args(State), f"{monitor.state()!r} is no state")


def _require_same(a: Monitor, b: Monitor, sentence: str) -> None:
    require(_counters(a) == _counters(b), sentence)
    close = [_close(one, two) for one, two in zip(_figures(a), _figures(b), strict=True)]
    require(all(close), sentence)


def _figures(monitor: Monitor) -> list[float | None]:
    gauges: list[Series] = [series for series in monitor.series() if series.kind == "gauge"]
    statistics = [value for s in monitor.report() for value in (s.value, *(s.interval or ()), float(s.n))]
    return [*(series.value for series in gauges), *statistics]


def _close(a: float | None, b: float | None) -> bool:
    return a is b if a is None or b is None else math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-9)
