"""alibi-detect's online tests as monitors, one class for each ``kind``."""

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from guards.monitors.alibi.base import AlibiMonitor, Array, Seen
from guards.monitors.alibi.drift_tests import CONFIGURED
from guards.monitors.alibi.params import AlibiParams, On
from guards.monitors.alibi.windows import Windows
from guards.monitors.base import Context, MonitorParams, Statistic
from guards.monitors.slow_work.work import Arrays

__all__ = ["AlibiCvmOnline", "AlibiLsddOnline", "AlibiMmdOnline", "OnlineParams", "OnlineTest"]

BOOTSTRAPS_PER_ROW = 10
"""The simulated streams for each row of the expected run time, as alibi-detect's documentation recommends."""
LEAST_PER_ROW, MOST_BOOTSTRAPS = 2, 1_000_000
REFERENCES_A_WINDOW = {"alibi_mmd_online": 3, "alibi_lsdd_online": 5, "alibi_cvm_online": 1}
"""An online detector needs a reference of more rows than so many windows."""


class OnlineParams(AlibiParams):
    """A test at every ``every``-th row, which looks back over the last ``window`` of those."""

    on: On = "features"
    window: int = Field(default=50, ge=5, le=1000, description="rows that one test compares with the reference")
    every: int = Field(default=10, ge=1, description="the test sees one row in so many")
    expected_run_time: int = Field(
        default=1000,
        ge=10,
        le=10_000,
        description="rows that the test sees from one false alarm to the next; the stream has `every` times as many",
    )
    bootstraps: Annotated[int, Field(ge=100, le=MOST_BOOTSTRAPS)] | None = Field(
        default=None,
        description="simulated streams from which thresholds are computed; default: 10 times expected_run_time, for "
        "each test",
    )

    @property
    def settings(self) -> dict[str, Any]:
        """The expected run time."""
        return {"expected_run_time": self.expected_run_time}


class MmdOnlineParams(OnlineParams):
    """Maximum mean discrepancy, row by row."""

    kind: Literal["alibi_mmd_online"] = "alibi_mmd_online"


class LsddOnlineParams(OnlineParams):
    """Least-squares density difference, row by row."""

    kind: Literal["alibi_lsdd_online"] = "alibi_lsdd_online"


DTYPES = {"thresholds": torch.float64, "ref_inds": torch.int64, "init_test_inds": torch.int64}
"""The types of what alibi-detect configures, if the type is not float32."""


class CvmOnlineParams(OnlineParams):
    """Cramer-von Mises by column, row by row."""

    kind: Literal["alibi_cvm_online"] = "alibi_cvm_online"
    on: On = "logits"
    compares: ClassVar[Literal["rows", "numbers", "categories", "columns"]] = "numbers"


class OnlineTest(AlibiMonitor[OnlineParams]):
    """Passes one row in ``every`` to an online detector, which is made anew for each window.

    So the detector's lists do not grow, and its state is plain arrays. Its thresholds come from ``fit``.
    """

    _function = "watch"

    def __init__(self, params: OnlineParams, context: Context) -> None:
        super().__init__(params, context)
        self.windows = Windows(params.window, params.window)
        self._passed = 0
        self._left: Arrays = {}
        for name in CONFIGURED[params.kind]:
            self.register_buffer(f"online_{name}", torch.zeros(0, dtype=DTYPES.get(name, torch.float32)))

    def _try_out(self, rows: Array) -> None:  # noqa: ARG002 - the thresholds need no clean rows
        needed = REFERENCES_A_WINDOW[self.kind] * self.params.window
        if len(self.reference) <= needed:
            raise ValueError(
                f"a window of {self.params.window} needs more than {needed} reference rows, there are "
                f"{len(self.reference)}: give more calibration rows, or a larger reference_rows or smaller window"
            )
        task, least = self._task(), LEAST_PER_ROW * self.params.expected_run_time * self._tests
        if not least <= task["bootstraps"] <= MOST_BOOTSTRAPS:
            raise ValueError(
                f"{self._tests} tests at an expected run time of {self.params.expected_run_time} take {least} to "
                f"{MOST_BOOTSTRAPS} bootstraps, not {task['bootstraps']}: compare fewer columns, or change either"
            )
        reference = {"reference": self.reference.cpu().numpy()}
        for name, value in self._work("configure", reference).run().items():
            setattr(self, f"online_{name}", torch.as_tensor(value, device=self.reference.device))

    @property
    def _tests(self) -> int:
        """The number of tests: each has a part of the rate of false alarms. Tests by column are one for each column."""
        return 1 if self.params.compares == "rows" else self.reference.shape[1]

    def _task(self) -> dict[str, Any]:
        simulated = self.params.bootstraps or BOOTSTRAPS_PER_ROW * self.params.expected_run_time * self._tests
        return {**super()._task(), "bootstraps": simulated}

    def _shown(self, rows: Array) -> Array:
        shown = rows[-self._passed % self.params.every :: self.params.every]
        self._passed += len(rows)
        return shown

    def _arrays(self, window: Array) -> Arrays:
        online: dict[str, Tensor] = {
            f"online.{name}": getattr(self, f"online_{name}") for name in CONFIGURED[self.kind]
        }
        arrays = {name: tensor.cpu().numpy() for name, tensor in online.items()}
        return {**super()._arrays(window), **arrays, **self._left}

    def settle(self, result: Arrays | None) -> None:
        """Count the alarms that the rows raised, and keep the detector's state."""
        if result is None:
            self._seen = self._seen.loses()
            return
        self._left = {name: value for name, value in result.items() if name.startswith("state.")}
        statistic, threshold = float(result["statistic"]), float(result["threshold"])
        found = {
            "statistic": None if math.isnan(statistic) else statistic,
            "threshold": None if math.isnan(threshold) else threshold,
        }
        self._seen = self._seen.tests(len(result["alarms"]), found)

    def _figures(self, seen: Seen, n: int) -> list[Statistic]:
        length = float(self.params.expected_run_time * self.params.every)
        return [Statistic("average_run_length", length), *super()._figures(seen, n)]


class AlibiMmdOnline(OnlineTest):
    """Maximum mean discrepancy, row by row."""

    Params: ClassVar[type[MonitorParams]] = MmdOnlineParams


class AlibiLsddOnline(OnlineTest):
    """Least-squares density difference, row by row."""

    Params: ClassVar[type[MonitorParams]] = LsddOnlineParams


class AlibiCvmOnline(OnlineTest):
    """Cramer-von Mises by column, row by row."""

    Params: ClassVar[type[MonitorParams]] = CvmOnlineParams
