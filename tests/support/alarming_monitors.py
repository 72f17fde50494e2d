"""Monitors whose alarms follow from simple arithmetic, which a test can repeat row by row."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from guards.monitors.base import Context, Monitor, MonitorParams, Series, State, Statistic
from guards.types import Batch, Result


class BellParams(MonitorParams):
    kind: Literal["bell"] = "bell"
    limit: float = 20.0
    epoch: int = 1
    average_run_length: float = 1000.0


class Bell(Monitor):
    """A CUSUM of every column's excess over one half, compared with a limit once an epoch; an alarm sets it to 0."""

    Params: ClassVar[type[MonitorParams]] = BellParams

    def __init__(self, params: BellParams, context: Context) -> None:
        super().__init__(params, context)
        self.params = params
        self.streams = [f"column:{name}" for name in context.schema.names] or [
            f"feature:{i}" for i in range(int(np.prod(context.schema.shape)))
        ]
        self.evidence = np.zeros(len(self.streams))
        self.rung = np.zeros(len(self.streams), dtype=np.int64)
        self.rows = np.zeros(1, dtype=np.int64)
        self.calls = 0

    def observe(self, batch: Batch, outcome: Result) -> None:
        assert len(outcome) == len(batch)
        self.calls += 1
        for row in excess(batch.x):
            self.evidence += row  # in place, so that a snapshot that is not copied would change
            self.evidence.clip(0, out=self.evidence)
            self.rows += 1
            if self.rows[0] % self.params.epoch == 0:
                over = self.evidence >= self.params.limit
                self.rung += over
                self.evidence[over] = 0

    def report(self) -> list[Statistic]:
        n = int(self.rows[0])
        values = zip(self.streams, self.evidence.tolist(), strict=True)
        statistics = [Statistic("evidence", value, None, n, {"stream": stream}) for stream, value in values]
        return [*statistics, Statistic("threshold", self.params.limit), Statistic("rows", float(n), None, n)]

    def state(self) -> State:
        return "alarm" if self.rung.any() else "ok"

    def alarms(self) -> Mapping[str, int] | None:
        return dict(zip(self.streams, self.rung.tolist(), strict=True))

    def series(self) -> list[Series]:
        return [
            Series("drift_alarms_total", "counter", {"monitor": self.name, "stream": stream}, float(count))
            for stream, count in zip(self.streams, self.rung.tolist(), strict=True)
        ]

    def snapshot(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"evidence": self.evidence, "alarms": self.rung, "rows": self.rows}

    def restore(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        if state["evidence"].shape != self.evidence.shape:
            raise ValueError("a snapshot of other columns")
        self.evidence, self.rung, self.rows = (np.array(state[key]) for key in ("evidence", "alarms", "rows"))


class Forgetful(Bell):
    """A :class:`Bell` that counts its alarms and has no snapshot."""

    def snapshot(self) -> dict[str, np.ndarray[Any, Any]]:
        return {}


class Lamp(Bell):
    """A :class:`Bell` that only has a state: in alarm while any evidence is above the limit; nothing is reset."""

    def state(self) -> State:
        return "alarm" if (self.evidence >= self.params.limit / 2).any() else "ok"

    def alarms(self) -> Mapping[str, int] | None:
        return None


def excess(x: Tensor) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Give by how much every value exceeds one half (n, d); a missing value exceeds it by 0."""
    return x.flatten(1).nan_to_num(0.5).double().cpu().numpy() - 0.5
