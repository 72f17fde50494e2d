"""Monitors that alarm when they must: by arithmetic that a test can do again, row by row."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from guards.monitor import Context, Monitor, MonitorParams, Series, State, Statistic
from guards.types import Batch, Outcome


class BellParams(MonitorParams):
    kind: Literal["bell"] = "bell"
    limit: float = 20.0
    epoch: int = 1
    average_run_length: float = 1000.0


class Bell(Monitor):
    """A CUSUM of every column's excess over one half, looked at once an epoch; it alarms at its limit and restarts."""

    Params: ClassVar[type[MonitorParams]] = BellParams

    def __init__(self, params: BellParams, context: Context) -> None:
        super().__init__(params, context)
        self.params = params
        self.streams = [f"column:{name}" for name in context.schema.names] or [
            f"feature:{i}" for i in range(int(np.prod(context.schema.shape)))
        ]
        self.evidence = np.zeros(len(self.streams))
        self.alarms = np.zeros(len(self.streams), dtype=np.int64)
        self.rows = np.zeros(1, dtype=np.int64)
        self.calls = 0

    def observe(self, batch: Batch, outcome: Outcome) -> None:
        assert len(outcome) == len(batch)
        self.calls += 1
        for row in excess(batch.x):
            self.evidence += row  # in place: a snapshot that is not copied would move with it
            self.evidence.clip(0, out=self.evidence)
            self.rows += 1
            if self.rows[0] % self.params.epoch == 0:
                rung = self.evidence >= self.params.limit
                self.alarms += rung
                self.evidence[rung] = 0

    def report(self) -> list[Statistic]:
        n = int(self.rows[0])
        values = zip(self.streams, self.evidence.tolist(), strict=True)
        statistics = [Statistic("evidence", value, None, n, {"stream": stream}) for stream, value in values]
        return [*statistics, Statistic("threshold", self.params.limit), Statistic("rows", float(n), None, n)]

    def state(self) -> State:
        return "alarm" if self.alarms.any() else "ok"

    def series(self) -> list[Series]:
        return [
            Series("drift_alarms_total", "counter", {"monitor": self.name, "stream": stream}, float(count))
            for stream, count in zip(self.streams, self.alarms.tolist(), strict=True)
        ]

    def snapshot(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"evidence": self.evidence, "alarms": self.alarms, "rows": self.rows}

    def restore(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        if state["evidence"].shape != self.evidence.shape:
            raise ValueError("a snapshot of other columns")
        self.evidence, self.alarms, self.rows = (np.array(state[key]) for key in ("evidence", "alarms", "rows"))


class Forgetful(Bell):
    """Counts its alarms, and gives no snapshot."""

    def snapshot(self) -> dict[str, np.ndarray[Any, Any]]:
        return {}


class Lamp(Bell):
    """Tells only its state: in alarm while any evidence is above the limit, which is then not taken back to zero."""

    def state(self) -> State:
        return "alarm" if (self.evidence >= self.params.limit / 2).any() else "ok"

    def series(self) -> list[Series]:
        return []


def excess(x: Tensor) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Tell by how much every value exceeds one half: (n, d); a missing one does not."""
    return x.flatten(1).nan_to_num(0.5).double().cpu().numpy() - 0.5
