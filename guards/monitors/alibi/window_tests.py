"""alibi-detect's window tests as monitors, one class for each ``kind``; and the list of all kinds."""

import math
from typing import Any, ClassVar

import numpy as np

from guards.monitors.alibi.base import AlibiMonitor, Array, Seen
from guards.monitors.alibi.online_tests import AlibiCvmOnline, AlibiLsddOnline, AlibiMmdOnline, OnlineTest
from guards.monitors.alibi.params import (
    Chi2Params,
    ClassifierParams,
    ContextMmdParams,
    CvmParams,
    KsParams,
    LsddParams,
    MmdParams,
    SpotTheDiffParams,
    TabularParams,
    WindowParams,
)
from guards.monitors.alibi.windows import Windows
from guards.monitors.base import Context, MonitorParams, Series, Statistic
from guards.monitors.slow_work.work import Arrays
from guards.types import Batch, Result

__all__ = ["ALIBI"]

LARGEST_DIFFERENCES = 5


class WindowTest(AlibiMonitor[WindowParams]):
    """Tests windows at a fixed level.

    With a test every k rows at the level k / L, the expected number of false alarms in h rows is h / L, by linearity,
    however the windows overlap and depend on the one reference. So the chance of any false alarm is at most h / L.
    """

    _function = "test"

    def __init__(self, params: WindowParams, context: Context) -> None:
        super().__init__(params, context)
        self.windows = Windows(params.window, params.stride)

    def _try_out(self, rows: Array) -> None:
        found = self._work("test", self._arrays(rows[: self.params.window])).run()
        if not np.isfinite(found["p_value"]):
            raise ValueError("the p-value of its own clean rows is not a number")

    def settle(self, result: Arrays | None) -> None:
        """Judge a window by its p-value."""
        p_value = math.nan if result is None else float(result["p_value"])
        if result is None or math.isnan(p_value):
            self._seen = self._seen.loses()
            return
        level = self.params.level
        found = {
            "p_value": p_value,
            "statistic": float(result["statistic"]),
            "threshold": level,
            "named": (*self._drifted(result.get("p_values"), level), *self._differences(result.get("difference"))),
        }
        self._seen = self._seen.tests(int(p_value <= level), found)

    def _drifted(self, p_values: Any, level: float) -> list[Statistic]:  # noqa: ANN401 - an array, or None
        """Name the streams that would raise an alarm alone, with their corrected p-values."""
        least: dict[str, float] = {}
        for place in [] if p_values is None else np.flatnonzero(p_values <= level).tolist():
            stream = self._stream(place)
            least[stream] = min(float(p_values[place]), least.get(stream, 1.0))
        return [Statistic("p_value", p, None, self.params.window, {"stream": name}) for name, p in least.items()]

    def _differences(self, difference: Any) -> list[Statistic]:  # noqa: ANN401 - an array, or None
        """Name the streams in which the window differs most, in standard deviations of the reference."""
        largest: dict[str, float] = {}
        for place, value in enumerate([] if difference is None else difference.tolist()):
            stream = self._stream(place)
            largest[stream] = max(value, largest.get(stream, 0.0), key=abs)
        named = sorted(largest.items(), key=lambda item: -abs(item[1]))[:LARGEST_DIFFERENCES]
        return [Statistic("difference", value, None, self.params.window, {"stream": name}) for name, value in named]

    def _figures(self, seen: Seen, n: int) -> list[Statistic]:
        return [
            Statistic("p_value", seen.p_value, None, n),
            Statistic("evidence", self._evidence(seen), None, n),
            Statistic("average_run_length", float(self.params.average_run_length)),
            *super()._figures(seen, n),
        ]

    def series(self) -> list[Series]:
        """Give the last window's ``drift_evidence`` too."""
        labels = {"monitor": self.name, "stream": "window"}
        return [*super().series(), Series("drift_evidence", "gauge", labels, self._evidence(self._seen))]

    @staticmethod
    def _evidence(seen: Seen) -> float:
        """Turn the last window's p-value into a log e-value, e = 1 / (2 sqrt(p)) (Vovk and Wang 2021); 0 before it."""
        return 0.0 if seen.p_value is None else -math.log(2.0) - 0.5 * math.log(seen.p_value)


class AlibiMmd(WindowTest):
    """Maximum mean discrepancy, by permutation."""

    Params: ClassVar[type[MonitorParams]] = MmdParams


class AlibiLsdd(WindowTest):
    """Least-squares density difference, by permutation."""

    Params: ClassVar[type[MonitorParams]] = LsddParams


class AlibiContextMmd(WindowTest):
    """Maximum mean discrepancy given a context, by conditional permutation."""

    Params: ClassVar[type[MonitorParams]] = ContextMmdParams

    def __init__(self, params: ContextMmdParams, context: Context) -> None:
        """Find the column of the context, if the context is a column.

        Raises:
            ValueError: the schema has no column of that name.
        """
        super().__init__(params, context)
        schema = context.schema
        self._column: int | None = None
        self._context = [0] * (len(context.classes) or 1)
        if params.context != "prediction":
            name = params.context.column
            if name not in schema.names:
                raise ValueError(f"context.column: no column {name!r}; there are {list(schema.names)}")
            self._column = schema.names.index(name)
            self._context = [len(schema.columns[self._column].categories or ())]

    def _rows(self, batch: Batch, outcome: Result) -> Array:
        prediction = outcome.prediction
        if self._column is not None:
            context = batch.x[:, self._column, None]
        elif prediction.probabilities is not None:
            context = prediction.probabilities
        else:
            assert prediction.value is not None  # noqa: S101 - a prediction has one or the other
            context = prediction.value[:, None]
        return np.concatenate([super()._rows(batch, outcome), context.float().cpu().numpy()], axis=1)

    def _task(self) -> dict[str, Any]:
        task = super()._task()
        width = self.reference.shape[1] - len(self._context)
        gaps = self._column is not None
        return {**task, "columns": task["columns"][:width], "context": self._context, "context_gaps": gaps}


class AlibiClassifier(WindowTest):
    """A classifier two-sample test."""

    Params: ClassVar[type[MonitorParams]] = ClassifierParams


class AlibiSpotTheDiff(WindowTest):
    """A classifier two-sample test that says where the difference lies."""

    Params: ClassVar[type[MonitorParams]] = SpotTheDiffParams

    def _stream(self, place: int) -> str:
        """Find the stream of an encoded column: numbers come first, then their missing values, then each category."""
        if not self._names or self._categories is None:
            return super()._stream(place)
        numbers = [name for name, count in zip(self._names, self._categories, strict=True) if not count]
        coded = [
            name for name, count in zip(self._names, self._categories, strict=True) for _ in range(count + 2) if count
        ]
        return [*numbers, *numbers, *coded][place]


class AlibiKs(WindowTest):
    """Kolmogorov-Smirnov by column."""

    Params: ClassVar[type[MonitorParams]] = KsParams


class AlibiCvm(WindowTest):
    """Cramer-von Mises by column."""

    Params: ClassVar[type[MonitorParams]] = CvmParams


class AlibiTabular(WindowTest):
    """Kolmogorov-Smirnov and chi-squared by column."""

    Params: ClassVar[type[MonitorParams]] = TabularParams

    def _stream(self, place: int) -> str:
        """Find the stream of an encoded column: all columns come first, then the missing values of the numbers."""
        numbers = [name for name, count in zip(self._names, self._categories or (), strict=True) if not count]
        return [*self._names, *numbers][place]


class AlibiChi2(WindowTest):
    """Chi-squared for the predicted class, or for the categorical columns."""

    Params: ClassVar[type[MonitorParams]] = Chi2Params


ALIBI: tuple[type[WindowTest] | type[OnlineTest], ...] = (
    AlibiMmd,
    AlibiLsdd,
    AlibiContextMmd,
    AlibiClassifier,
    AlibiSpotTheDiff,
    AlibiKs,
    AlibiCvm,
    AlibiTabular,
    AlibiChi2,
    AlibiMmdOnline,
    AlibiLsddOnline,
    AlibiCvmOnline,
)
