"""Conformance checks for authors of plug-ins: the rules that every detector, guard with memory, and so on must keep.

::

    from guards.testing import detector_conformance

    @detector_conformance(Nearest, NearestParams(neighbours=5), kinds=("image", "tensor"))
    class TestNearest:
        pass

adds one test method to the class for each check and kind of input. The methods run under pytest or any other runner,
and need no package beyond the library's own dependencies. :func:`example` describes the rows that the checks use.
:func:`memory_guard_conformance`, :func:`monitor_conformance` and :func:`explainer_conformance` do the same for guards
with memory, monitors and explainers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from guards.detectors.base import Detector, Params
from guards.explainers.base import Explainer
from guards.memory.base import MemoryGuard, MemoryGuardParams
from guards.monitors.base import Monitor, MonitorParams
from guards.testing.detectors import DetectorChecks
from guards.testing.example import KINDS, Example, Kind, Task, example
from guards.testing.explained_model import explained
from guards.testing.explainers import ExplainerChecks
from guards.testing.memory_guards import MemoryGuardChecks
from guards.testing.monitors import MonitorChecks

__all__ = [
    "Check",
    "Example",
    "detector_checks",
    "detector_conformance",
    "example",
    "explainer_checks",
    "explainer_conformance",
    "memory_guard_checks",
    "memory_guard_conformance",
    "monitor_checks",
    "monitor_conformance",
]

Check = Callable[[], None]
ON_REFUSAL = ("constructor_takes_params_and_subject", "params_are_closed", "refusal_is_kept")
"""The checks that remain for an explainer which refuses a kind of input."""
C = TypeVar("C", bound=type)


def detector_checks(
    detector: type[Detector], params: Params | None = None, *, kind: Kind, task: Task = "classification"
) -> dict[str, Check]:
    """Give the checks by name; a check that fails raises AssertionError, or the detector's own exception."""
    return _named(DetectorChecks(detector, detector.Params() if params is None else params, kind, task))


def detector_conformance(
    detector: type[Detector],
    params: Params | None = None,
    *,
    kinds: Sequence[Kind] = KINDS,
    task: Task = "classification",
) -> Callable[[C], C]:
    """Add every check to a test class, for each kind of input that the detector accepts."""
    return _as_methods({kind: detector_checks(detector, params, kind=kind, task=task) for kind in kinds})


def memory_guard_checks(
    guard: type[MemoryGuard], params: MemoryGuardParams, *, kind: Kind, task: Task = "classification"
) -> dict[str, Check]:
    """Give the checks by name; a check that fails raises AssertionError, or the guard's own exception."""
    return _named(MemoryGuardChecks(guard, params, kind, task))


def memory_guard_conformance(
    guard: type[MemoryGuard],
    params: MemoryGuardParams,
    *,
    kinds: Sequence[Kind] = KINDS,
    task: Task = "classification",
) -> Callable[[C], C]:
    """Add every check to a test class, for each kind of input that the guard accepts."""
    return _as_methods({kind: memory_guard_checks(guard, params, kind=kind, task=task) for kind in kinds})


def monitor_checks(
    monitor: type[Monitor],
    params: MonitorParams,
    *,
    kind: Kind,
    task: Task = "classification",
) -> dict[str, Check]:
    """Give the checks by name; for an ``ordered`` monitor, the check on the order of the rows is left out."""
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
    """Add every check to a test class, for each kind of input that the monitor accepts."""
    return _as_methods({kind: monitor_checks(monitor, params, kind=kind, task=task) for kind in kinds})


def explainer_checks(
    explainer: type[Explainer], params: Params | None = None, *, kind: Kind, task: Task = "classification"
) -> dict[str, Check]:
    """Give the checks by name; if the explainer refuses the kind of input, the checks of explanations are left out."""
    checks = _named(ExplainerChecks(explainer, explainer.Params() if params is None else params, kind, task))
    if explainer.refusal(explained(kind, task).subject.schema) is not None:
        return {name: checks[name] for name in ON_REFUSAL}
    return checks


def explainer_conformance(
    explainer: type[Explainer],
    params: Params | None = None,
    *,
    kinds: Sequence[Kind] = KINDS,
    task: Task = "classification",
) -> Callable[[C], C]:
    """Add every check to a test class, for each kind of input that the explainer takes."""
    return _as_methods({kind: explainer_checks(explainer, params, kind=kind, task=task) for kind in kinds})


def _named(checks: DetectorChecks | MemoryGuardChecks | MonitorChecks | ExplainerChecks) -> dict[str, Check]:
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
