"""Conformance checks for whoever writes a detector or a monitor: what every one of them owes the pipeline.

::

    from guards.testing import detector_conformance

    @detector_conformance(Nearest, NearestParams(neighbours=5), kinds=("image", "tensor"))
    class TestNearest:
        pass

gives the class one test method for each check and kind of input. The methods run under pytest or any other runner, and
need nothing but what the library itself needs. :func:`example` says what the made-up rows are.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from guards.detector import Detector, Params
from guards.monitor import Monitor, MonitorParams
from guards.testing.detectors import DetectorChecks
from guards.testing.example import KINDS, Example, Kind, Task, example
from guards.testing.monitors import MonitorChecks

__all__ = [
    "Check",
    "Example",
    "detector_checks",
    "detector_conformance",
    "example",
    "monitor_checks",
    "monitor_conformance",
]

Check = Callable[[], None]
C = TypeVar("C", bound=type)


def detector_checks(
    detector: type[Detector], params: Params | None = None, *, kind: Kind, task: Task = "classification"
) -> dict[str, Check]:
    """Give the checks by name; one that fails raises AssertionError, or what the detector itself raised."""
    return _named(DetectorChecks(detector, detector.Params() if params is None else params, kind, task))


def detector_conformance(
    detector: type[Detector],
    params: Params | None = None,
    *,
    kinds: Sequence[Kind] = KINDS,
    task: Task = "classification",
) -> Callable[[C], C]:
    """Decorate a test class with every check, for each kind of input that the detector is meant for."""
    return _as_methods({kind: detector_checks(detector, params, kind=kind, task=task) for kind in kinds})


def monitor_checks(
    monitor: type[Monitor],
    params: MonitorParams,
    *,
    kind: Kind,
    task: Task = "classification",
) -> dict[str, Check]:
    """Give the checks by name; an ``ordered`` monitor's figures may depend on the order of the rows."""
    checks = _named(MonitorChecks(monitor, params, kind, task))
    if monitor.ordered:
        del checks["order_does_not_matter"]
    return checks


def monitor_conformance(
    monitor: type[Monitor],
    params: MonitorParams,
    *,
    kinds: Sequence[Kind] = KINDS,
    task: Task = "classification",
) -> Callable[[C], C]:
    """Decorate a test class with every check, for each kind of input that the monitor is meant for."""
    return _as_methods({kind: monitor_checks(monitor, params, kind=kind, task=task) for kind in kinds})


def _named(checks: DetectorChecks | MonitorChecks) -> dict[str, Check]:
    return {name: getattr(checks, name) for name in vars(type(checks)) if not name.startswith("_")}


def _as_methods(checks: Mapping[Kind, Mapping[str, Check]]) -> Callable[[C], C]:
    def decorate(cls: C) -> C:
        for kind, named in checks.items():
            for name, check in named.items():
                setattr(cls, f"test_{name}_{kind}", _method(check))
        return cls

    return decorate


def _method(check: Check) -> Callable[[object], None]:
    def method(_: object) -> None:
        check()

    method.__doc__ = check.__doc__
    return method
