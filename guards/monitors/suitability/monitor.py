"""The suitability monitor: does the model do harm on recent rows? Answered before labels come, window by window."""

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from guards.monitors.base import Context, Monitor, MonitorParams, Series, State, Statistic
from guards.monitors.suitability.params import SuitabilityParams
from guards.monitors.suitability.shift_model import ShiftModel
from guards.monitors.suitability.verdict import REASONS, VERDICTS, Judgement, judge
from guards.monitors.suitability.window_counts import ROWS, WindowCounts
from guards.types import Batch, Reference, Result

__all__ = ["Suitability"]

STATES: dict[str, State] = {"no_harm": "ok", "harm": "alarm", "cannot_tell": "warning"}
HARM = "harm"


class Suitability(Monitor):
    """Judges each window of ``params.window`` answered rows once, when the window is full.

    The monitor estimates the window's accuracy without labels, and says `no_harm`, `harm` or `cannot_tell` of its loss
    against the held-out rows: see :mod:`guards.monitors.suitability.verdict`. A window whose loss is the margin gets
    `no_harm` with probability 0.05, and `harm` with probability ``window / average_run_length``, on average over
    references. Both hold for shifts of the inputs or of the class shares; if the same inputs get other labels than
    before, only labels show it.

    The bundle keeps means, covariances and coefficients of indicators, and no reference rows. The windows are those of
    one process; a snapshot holds the window that is being filled, and the last full window.
    """

    Params: ClassVar[type[MonitorParams]] = SuitabilityParams
    ordered: ClassVar[bool] = True

    def __init__(self, params: SuitabilityParams, context: Context) -> None:
        """Prepare the counts of a window.

        Raises:
            ValueError: the model is a regression, or the input is no table.
        """
        if not context.classes:
            raise ValueError("suitability: a regression has no accuracy; leave the monitor out")
        if context.schema.kind != "tabular":
            raise ValueError(
                f"suitability compares the columns of a table, and the input is of kind {context.schema.kind}"
            )
        super().__init__(params, context)
        self.params = params
        self.windows = WindowCounts(params, context)
        self.model = ShiftModel(self.windows, len(context.classes))
        self.current, self.last = (np.zeros(self.windows.size, np.int64) for _ in range(2))
        self.verdicts = np.zeros(len(VERDICTS), np.int64)
        self._judged: tuple[npt.NDArray[np.int64], Judgement] | None = None

    def fit(self, reference: Reference, outcome: Result) -> Self:
        """Learn bins, moments and coefficients from the held-out rows; without labels no window can be judged.

        Raises:
            ValueError: there are too few labelled rows, or too many bins.
        """
        self.windows.fit(reference, outcome)
        if reference.y is None:
            self.notices = (
                f"monitor {self.name}: the calibration rows have no labels, so every verdict is cannot_tell",
            )
            return self
        rows = self.windows.rows(reference.batch, outcome, self.model.accuracy_model)
        label = outcome.prediction.label
        assert label is not None  # noqa: S101 - the constructor refuses a regression
        y = reference.y.long().cpu().numpy()[rows.answered]
        self.model.fit(rows, label.cpu().numpy()[rows.answered] == y, y)
        self.model.to(reference.batch.x.device)
        return self

    def observe(self, batch: Batch, outcome: Result) -> None:
        """Count every answered row, and judge each window that is full."""
        rows = self.windows.rows(batch, outcome, self.model.accuracy_model)
        start, shift = 0, float(self.model.shift)
        while start < len(rows):
            stop = min(len(rows), start + self.params.window - int(self.current[ROWS]))
            self.current += self.windows.count(rows, slice(start, stop), shift)
            start = stop
            if self.current[ROWS] == self.params.window:
                self.last, self.current = self.current, np.zeros_like(self.current)
                self.verdicts[VERDICTS.index(self._judge(self.last).verdict)] += 1

    def _judge(self, counts: npt.NDArray[np.int64]) -> Judgement:
        """Judge a full window; each window is judged once."""
        judged = self._judged
        if judged is None or judged[0] is not counts:
            rows, params = int(counts[ROWS]), self.params
            if self.model.fitted:
                rate = params.window / params.average_run_length
                found = judge(self.model.estimate(counts), rows, margin=params.margin, false_alarms=rate)
            else:
                found = Judgement("cannot_tell", "no_labels", rows)
            judged = self._judged = (counts, found)
        return judged[1]

    def report(self) -> list[Statistic]:
        """Give the last full window's verdict, its expected accuracy and loss, and what the verdict rests on."""
        last = self.last
        judged = self._judge(last) if last[ROWS] else None
        n = int(last[ROWS])
        found = judged or Judgement("cannot_tell", "none", 0)
        return [
            Statistic("expected_accuracy", found.accuracy, found.accuracy_interval, n),
            Statistic("expected_loss", found.loss, found.loss_interval, n),
            *(Statistic(name, value, None, n) for name, value in found.further.items()),
            *(
                Statistic("suitability", None if judged is None else float(found.verdict == verdict), None, n,
                          {"verdict": verdict})
                for verdict in VERDICTS
            ),
            *(
                Statistic("cannot_tell", None if judged is None else float(found.reason == reason), None, n,
                          {"reason": reason})
                for reason in REASONS if reason != "none"
            ),
            *(
                Statistic("windows", float(count), None, int(self.verdicts.sum()), {"verdict": verdict})
                for verdict, count in zip(VERDICTS, self.verdicts.tolist(), strict=True)
            ),
        ]  # fmt: skip

    def state(self) -> State:
        """Alarm if the last full window does harm, warn if nobody can tell."""
        return STATES[self._judge(self.last).verdict] if self.last[ROWS] else "insufficient_data"

    def alarms(self) -> Mapping[str, int]:
        """Give the number of windows with the verdict `harm`."""
        return {HARM: int(self.verdicts[VERDICTS.index("harm")])}

    def cause(self) -> Statistic | None:
        """Give the expected loss of the last full window."""
        return next(each for each in self.report() if each.name == "expected_loss")

    def series(self) -> list[Series]:
        """Give ``suitability_windows_total`` by verdict."""
        return [
            Series("suitability_windows_total", "counter", {"monitor": self.name, "verdict": verdict}, float(count))
            for verdict, count in zip(VERDICTS, self.verdicts.tolist(), strict=True)
        ]

    def snapshot(self) -> dict[str, npt.NDArray[np.generic]]:
        """Give the counts of the window that is being filled and of the last full window, and the verdicts."""
        return {"current": self.current.copy(), "last": self.last.copy(), "verdicts": self.verdicts.copy()}

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Continue from a snapshot.

        Raises:
            ValueError: ``state`` is not a snapshot of this monitor.
        """
        own = self.snapshot()
        if state.keys() != own.keys() or any(state[name].shape != array.shape for name, array in own.items()):
            raise ValueError(f"a snapshot has {sorted(own)}, for {self.windows.size} counts of a window")
        self.current, self.last, self.verdicts = (
            np.array(state[name], np.int64) for name in ("current", "last", "verdicts")
        )
        self._judged = None
