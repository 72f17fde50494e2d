"""The base class of alibi-detect's tests as monitors: it gathers rows into windows, and another process tests them."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from guards.monitors.alibi.interpreter import alibi_python
from guards.monitors.alibi.params import AlibiParams
from guards.monitors.alibi.windows import Windows
from guards.monitors.base import Context, Series, State, Statistic
from guards.monitors.clean_rows import included
from guards.monitors.excluded_streams import excluded
from guards.monitors.slow_monitor import SlowMonitor
from guards.monitors.slow_work.client import WorkFailedError
from guards.monitors.slow_work.work import Arrays, Work
from guards.types import Batch, Reference, Result

__all__ = ["AlibiMonitor", "Array", "Seen"]

Array = npt.NDArray[np.float32]
P = TypeVar("P", bound=AlibiParams)
FEWEST = 50
LICENCE = (
    "alibi-detect 0.13.0 is under the Business Source License 1.1: its use in production needs a licence from Seldon, "
    "except for non-profit education"
)
LOST_IN_A_ROW = 3
WINDOW = "window"


@dataclass(frozen=True, slots=True)
class Seen:
    """The results of the windows so far. A new object replaces it for each window, because other threads read it."""

    tested: int = 0
    lost: int = 0
    lost_in_a_row: int = 0
    alarms: int = 0
    quiet: int | None = None
    """The number of windows since the last alarm; None if there was no alarm."""
    p_value: float | None = None
    statistic: float | None = None
    threshold: float | None = None
    named: tuple[Statistic, ...] = ()

    def loses(self) -> "Seen":
        """Count a window without a result."""
        return replace(self, lost=self.lost + 1, lost_in_a_row=self.lost_in_a_row + 1)

    def tests(self, alarms: int, found: dict[str, Any]) -> "Seen":
        """Count a window that was tested; ``found`` holds new values of fields."""
        quiet = 0 if alarms else None if self.quiet is None else self.quiet + 1
        more = replace(self, tested=self.tested + 1, lost_in_a_row=0, alarms=self.alarms + alarms, quiet=quiet)
        return replace(more, **found)


class AlibiMonitor(SlowMonitor, Generic[P]):
    """Gathers rows into windows that are compared with a sample of the calibration rows, the ``reference`` (m, d)."""

    ordered = True
    notices = (LICENCE,)
    reference: Tensor
    params: P
    windows: Windows

    def __init__(self, params: P, context: Context) -> None:
        """Find the columns to compare, and the interpreter that has alibi-detect.

        Raises:
            ValueError: no column can be compared, or an excluded column does not exist.
        """
        super().__init__(params, context)
        self.params = params
        self._python = alibi_python()
        self.register_buffer("reference", torch.zeros((0, 0)))
        self._seen, self._handed_over = Seen(), 0
        tabular = context.schema.kind == "tabular"
        wanted = {"numbers": ["numeric"], "categories": ["categorical"]}.get(
            params.compares, ["numeric", "categorical"]
        )
        self._picked: list[int] | None = None
        self._categories: list[int] | None = None
        self._names: tuple[str, ...] = ()
        self._gaps = False
        if params.on == "inputs" and tabular:
            columns = context.schema.columns
            streams = {f"column:{column.name}": i for i, column in enumerate(columns) if column.kind in wanted}
            left_out = excluded(params.exclude, tuple(streams))
            self._picked = [i for name, i in streams.items() if name not in left_out]
            self._categories = [len(columns[i].categories or ()) for i in self._picked]
            self._names = tuple(f"column:{columns[i].name}" for i in self._picked)
            self._gaps = params.compares in {"rows", "columns"}
            if not self._picked:
                raise ValueError(f"on: {params.kind} compares {params.compares}, and no column of the inputs is one")
        elif params.exclude:
            raise ValueError(f"exclude: {params.kind} on {params.on} compares no columns; give `on: inputs` of a table")
        elif params.on == "inputs" and params.compares in {"categories", "columns"}:
            raise ValueError(f"on: {params.kind} compares columns, and the input is of kind {context.schema.kind}")
        elif params.on == "prediction":
            if not context.classes:
                raise ValueError("on: a regression predicts no class; compare features, logits or inputs")
            self._categories, self._names = [len(context.classes)], ("label",)

    def fit(self, reference: Reference, outcome: Result) -> Self:
        """Sample the reference, and check that the test can be computed on the sample.

        Raises:
            ValueError: there are too few calibration rows, or the test cannot be computed.
        """
        rows = self._included(reference.batch, outcome)
        if len(rows) < FEWEST:
            clean = "clean " if self.params.include == "clean" else ""
            raise ValueError(f"{self.kind} needs at least {FEWEST} {clean}calibration rows, there are {len(rows)}")
        order = np.random.default_rng(self.params.seed).permutation(len(rows))
        chosen, rest = rows[order[: self.params.reference_rows]], rows[order[self.params.reference_rows :]]
        self.reference = torch.from_numpy(chosen).to(reference.batch.x.device)
        try:
            self._try_out(rest if len(rest) >= FEWEST else chosen)
        except (ValueError, WorkFailedError) as why:
            raise ValueError(f"{self.kind} cannot be computed on the reference: {why}") from why
        return self

    @abstractmethod
    def _try_out(self, rows: Array) -> None:
        """Run the test on the reference and clean ``rows`` (n, d), to find out whether it can be computed."""

    def observe(self, batch: Batch, outcome: Result) -> None:
        """Gather rows into windows; test each full window at once, unless that work is deferred."""
        for _ in self.windows.add(self._shown(self._included(batch, outcome))):
            self.work_off()

    def _shown(self, rows: Array) -> Array:
        return rows

    def _included(self, batch: Batch, outcome: Result) -> Array:
        rows = self._rows(batch, outcome)
        return rows if self.params.include == "all" else rows[included(outcome, "clean").cpu().numpy()]

    def _rows(self, batch: Batch, outcome: Result) -> Array:
        """Give the compared values of each row (n, d); columns of a context come last."""
        if self.params.on == "features":
            rows = outcome.output.features
        elif self.params.on == "logits":
            rows = outcome.output.logits
        elif self.params.on == "prediction":
            assert outcome.prediction.label is not None  # noqa: S101 - the constructor checked
            rows = outcome.prediction.label[:, None]
        else:
            rows = batch.x.flatten(1)
            rows = rows if self._picked is None else rows[:, self._picked]
        return rows.float().cpu().numpy()

    @property
    def waiting(self) -> int:
        """The number of windows that wait to be tested."""
        return len(self.windows.waiting)

    def pending(self) -> Work | None:
        """Take the window that has waited longest."""
        try:
            window = self.windows.waiting.popleft()
        except IndexError:
            return None
        self._handed_over += 1
        return self._work(self._function, self._arrays(window))

    _function: ClassVar[str]

    def _work(self, function: str, arrays: Arrays) -> Work:
        return Work(f"guards.monitors.alibi.drift_tests:{function}", self._task(), arrays, self._python)

    def _arrays(self, window: Array) -> Arrays:
        return {"reference": self.reference.cpu().numpy(), "window": window}

    def _task(self) -> dict[str, Any]:
        """Give the settings of the test; its seed depends on the number of the window."""
        seed = np.random.SeedSequence([self.params.seed, self._handed_over]).generate_state(1)
        return {
            "kind": self.kind,
            "layout": "dense" if self.params.compares == "rows" else "columns",
            "columns": [0] * self.reference.shape[1] if self._categories is None else self._categories,
            "gaps": self._gaps,
            "context": [],
            "context_gaps": False,
            "window": self.windows.size,
            "seed": int(seed[0]),
            **self.params.settings,
        }

    def state(self) -> State:
        """Alarm until enough windows have passed without an alarm; no judgement after three lost windows in a row."""
        seen = self._seen
        if not seen.tested or seen.lost_in_a_row >= LOST_IN_A_ROW:
            return "insufficient_data"
        return "ok" if seen.quiet is None or seen.quiet >= self.params.hold else "alarm"

    def alarms(self) -> Mapping[str, int]:
        """Give the number of alarms; there is one stream, ``window``."""
        return {WINDOW: self._seen.alarms}

    def report(self) -> list[Statistic]:
        """Give the figures of the last window, and the numbers of windows and alarms."""
        seen, size = self._seen, self.windows.size
        n = size if seen.tested else 0
        counts = {"windows_tested": seen.tested, "windows_dropped": self._dropped(seen), "alarms": seen.alarms}
        return [
            *self._figures(seen, n),
            *(Statistic(name, float(count), None, size * seen.tested) for name, count in counts.items()),
            *seen.named,
        ]

    def _figures(self, seen: Seen, n: int) -> list[Statistic]:
        return [Statistic("statistic", seen.statistic, None, n), Statistic("threshold", seen.threshold, None, n)]

    def _dropped(self, seen: Seen) -> int:
        return seen.lost + self.windows.dropped

    def series(self) -> list[Series]:
        """Give ``drift_alarms_total`` and ``drift_windows_total``."""
        seen, monitor = self._seen, {"monitor": self.name}
        windows = {"tested": seen.tested, "dropped": self._dropped(seen)}
        return [
            Series("drift_alarms_total", "counter", {**monitor, "stream": WINDOW}, float(seen.alarms)),
            *(
                Series("drift_windows_total", "counter", {**monitor, "result": result}, float(count))
                for result, count in windows.items()
            ),
        ]

    def _stream(self, place: int) -> str:
        return self._names[place] if self._names else f"{self.params.on}:{place}"
