"""The rules that every monitor must keep, one check in each method."""

import math
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from guards.monitors.base import Monitor, MonitorParams
from guards.monitors.optional_methods import series_of
from guards.testing.example import (
    ROWS,
    STRANGE,
    Example,
    Kind,
    Task,
    check_constructor,
    check_params,
    example,
    reloaded,
    require,
    take,
    tensors_of,
    with_strange_row,
)
from guards.testing.monitor_figures import (
    check_alarms,
    check_report,
    counters_of,
    figures_of,
    require_same,
    restore,
    series_keys,
    snapshot_of,
)
from guards.types import Batch

__all__ = ["MonitorChecks"]

BOUNDARIES = ((0, ROWS), (0, 1, 2, 9, ROWS), (0, 64, 128, 192, ROWS))


@dataclass(frozen=True)
class MonitorChecks:
    """The checks of one monitor on one kind of input; every public method is a check."""

    _monitor: type[Monitor]
    _params: MonitorParams
    _kind: Kind
    _task: Task

    def constructor_takes_params_and_context(self) -> None:
        """The constructor takes the parameters and the context, in this order, and needs nothing else."""
        check_constructor(self._monitor, ("params", "context"))

    def fit_gives_itself(self) -> None:
        """``fit`` returns the monitor on which it was called."""
        made, monitor = self._example(), self._fresh()
        fitted = monitor.fit(replace(made.reference, y=None), made.outcome(made.reference.batch))
        require(fitted is monitor, "fit must return self")

    def name_is_the_configs(self) -> None:
        """A monitor's name is the name of its parameters."""
        require(self._fresh().name == self._params.name, "the monitor's name is not the name of its parameters")

    def fit_counts_nothing(self) -> None:
        """After ``fit`` every counter is zero, and there is a report already."""
        monitor, _ = self._fitted()
        counted = [series for series in series_of(monitor) if series.kind == "counter" and series.value != 0]
        require(not counted, f"a counter is not zero before any row was observed: {counted[:1]}")
        check_report(monitor)

    def batches_do_not_matter(self) -> None:
        """The figures do not depend on how the rows are cut into batches."""
        whole, made = self._fitted()
        _observe(whole, made, made.rows)
        require(any(counters_of(whole)) or not series_of(whole), "no counter has counted any row")
        for cuts in BOUNDARIES:
            pieces, _ = self._fitted()
            for a, b in pairwise(cuts):
                _observe(pieces, made, made.rows[a:b])
            require_same(whole, pieces, "the figures depend on how the rows are cut into batches")

    def order_does_not_matter(self) -> None:
        """The figures do not depend on the order of the rows."""
        whole, made = self._fitted()
        _observe(whole, made, made.rows)
        shuffled, _ = self._fitted()
        order = torch.randperm(len(made.rows), generator=torch.Generator().manual_seed(0))
        _observe(shuffled, made, take(made.rows, order))
        require_same(whole, shuffled, "the figures depend on the order of the rows")

    def reading_changes_nothing(self) -> None:
        """A second call of ``report``, ``series``, ``state`` and ``alarms`` returns the same figures."""
        monitor, made = self._fitted()
        _observe(monitor, made, made.rows)
        first = figures_of(monitor)
        require(first == figures_of(monitor), "a second call returns other figures")
        check_report(monitor)

    def series_are_fixed_at_construction(self) -> None:
        """Every series exists from the start, once, with a finite value; no rows add a series or lower a counter."""
        monitor, made = self._fitted()
        keys = series_keys(monitor)
        twice = [key for key, count in Counter(keys).items() if count > 1]
        require(not twice, f"a series exists twice: {twice[:1]}")
        require(set(series_keys(self._fresh())) == set(keys), "fit changes the set of series")
        names = {metric: {name for name, _ in labels} for metric, _, labels in keys}
        require(all({n for n, _ in labels} == names[metric] for metric, _, labels in keys), "label names vary")
        for row, value in enumerate(STRANGE):
            before = counters_of(monitor)
            _observe(monitor, made, with_strange_row(made.rows, row, value))
            fallen = any(now < then for then, now in zip(before, counters_of(monitor), strict=True))
            require(not fallen, "a counter fell")
        require(series_keys(monitor) == keys, "observed rows changed the set of series")
        require(all(math.isfinite(series.value) for series in series_of(monitor)), "a series is not finite")
        check_report(monitor)

    def crashed_guards_are_counted_too(self) -> None:
        """Rows with the p-value NaN, on which a guard crashed, are observed like other rows."""
        monitor, made = self._fitted()
        outcome = made.outcome(made.rows)
        crashed = torch.full_like(outcome.verdict.p_value, torch.nan)
        monitor.observe(made.rows, replace(outcome, verdict=replace(outcome.verdict, p_value=crashed)))
        check_report(monitor)

    def nothing_is_mutated(self) -> None:
        """Neither fitting nor observing changes its arguments."""
        made, monitor = self._example(), self._fresh()
        outcomes = [made.outcome(batch) for batch in (made.reference.batch, made.rows)]
        given = [*tensors_of(made), *tensors_of(outcomes[0]), *tensors_of(outcomes[1])]
        before = [tensor.clone() for tensor in given]
        monitor.fit(replace(made.reference, y=None), outcomes[0])
        monitor.observe(made.rows, outcomes[1])
        same = all(torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0)) for a, b in zip(before, given, strict=True))
        require(same, "fit or observe writes into the batch or the result")

    def state_survives_a_bundle(self) -> None:
        """A new monitor with the buffers of a fitted monitor counts and reports the same rows alike."""
        monitor, made = self._fitted()
        restored = reloaded(self._fresh(), monitor)
        known = restored.state_dict().keys() == monitor.state_dict().keys()
        require(known, "fit makes buffers that a new instance lacks; register all buffers in the constructor")
        for each in (monitor, restored):
            _observe(each, made, made.rows)
        require(series_of(monitor) == series_of(restored), "a monitor restored from its buffers has other counts")
        require(monitor.report() == restored.report(), "a monitor restored from its buffers has another report")

    def snapshots_go_on(self) -> None:
        """A new monitor that restores a snapshot continues like the monitor of the snapshot; a snapshot is optional."""
        monitor, made = self._fitted()
        _observe(monitor, made, made.rows[: ROWS // 3])
        saved = snapshot_of(monitor)
        if not saved:
            return
        require(all(array.dtype.kind in "biuf" for array in saved.values()), "a snapshot holds arrays of numbers alone")
        restored, _ = self._fitted()
        restore(restored, {key: array.copy() for key, array in saved.items()})
        require(series_of(restored) == series_of(monitor), "a monitor restored from a snapshot has other counts")
        require(restored.report() == monitor.report(), "a monitor restored from a snapshot has another report")
        require(restored.state() == monitor.state(), "a monitor restored from a snapshot has another state")
        require(restored.alarms() == monitor.alarms(), "a monitor restored from a snapshot has other alarms")
        _observe(monitor, made, made.rows[ROWS // 3 :])
        _observe(restored, made, made.rows[ROWS // 3 :])
        require(
            series_of(monitor) == series_of(restored),
            "a monitor restored from a snapshot counts later rows differently",
        )
        require(
            monitor.report() == restored.report(), "a monitor restored from a snapshot counts later rows differently"
        )
        # A replay restores a snapshot in the same monitor, which must then forget the rows observed since.
        restore(monitor, saved)
        _observe(monitor, made, made.rows[ROWS // 3 :])
        require(
            series_of(monitor) == series_of(restored),
            "a monitor that restores its own snapshot counts later rows differently",
        )
        try:
            restore(restored, {**saved, "no_such_array": np.zeros(1)})
        except ValueError:
            pass
        else:
            require(condition=False, sentence="restore accepts an array that no snapshot has; it must raise ValueError")

    def alarms_are_counts(self) -> None:
        """``alarms`` is None, or counts by a fixed set of streams; the counts are 0 after ``fit`` and never fall."""
        monitor, made = self._fitted()
        before = monitor.alarms()
        check_alarms(before)
        require(not any((before or {}).values()), "alarms are counted before any row was observed")
        for row, value in enumerate(STRANGE):
            _observe(monitor, made, with_strange_row(made.rows, row, value))
            after = monitor.alarms()
            check_alarms(after)
            require((after is None) == (before is None), "alarms returns None at one time and counts at another")
            require((after or {}).keys() == (before or {}).keys(), "observed rows changed the set of streams in alarms")
            fallen = any(count < (before or {})[stream] for stream, count in (after or {}).items())
            require(not fallen, "a count of alarms fell")
            before = after

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
