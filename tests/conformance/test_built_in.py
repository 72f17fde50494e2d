"""Every registered detector, guard with memory, monitor and explainer passes the checks of third parties' plug-ins."""

from typing import Any, get_args

import pytest
from alibi_here import LACKING

from guards.config.plugins import BUILT_IN, registered
from guards.detectors.base import Detector
from guards.memory.base import MemoryGuard
from guards.testing import detector_checks, example, explainer_checks, memory_guard_checks, monitor_checks
from guards.testing.example import KINDS, Task

TASKS: tuple[Task, ...] = get_args(Task)
# What a detector or monitor, or one of the name in its parameters, is not meant for, as its own refusal says.
REFUSED = {
    ("strict", "regression"): "a loss of accuracy, which a regression has not got",
    **{(name, "regression"): "needs a classifier" for name in ("confidence", "energy", "gen", "fdbd")},
    ("image_quality", "tabular"): "judges images, and the input is of kind tabular",
    ("image_quality", "tensor"): "judges images, and the input is of kind tensor",
    ("suitability", "regression"): "a regression has no accuracy",
    ("suitability", "image"): "compares the columns of a table",
    ("suitability", "tensor"): "compares the columns of a table",
    ("alibi_chi2", "regression"): "a regression predicts no class",
    ("alibi_tabular", "image"): "compares columns, and the input is of kind image",
    ("squeeze", "regression"): "compares probabilities of labels",
    ("squeeze", "tabular"): "squeeze judges images",
    ("squeeze", "tensor"): "squeeze judges images",
    ("alibi_tabular", "tensor"): "compares columns, and the input is of kind tensor",
}
OF_ALIBI = {"name": "w", "window": 60, "average_run_length": 600, "reference_rows": 100}
ONLINE = {"name": "o", "window": 5, "every": 2, "expected_run_time": 20, "bootstraps": 200, "reference_rows": 60}
QUICK_OF_ALIBI = {"alibi_ks", "alibi_tabular", "alibi_chi2"}
LONG = {("groups", 1, "image"), ("groups", 1, "tensor")}
"""A monitor, the index of its parameters, and a kind of input: a minute of what the other kinds show, too."""
PARAMETERS: dict[str, list[dict[str, Any]]] = {
    **{
        f"alibi_{name}": [OF_ALIBI]
        for name in ("mmd", "lsdd", "classifier", "spot_the_diff", "ks", "cvm", "tabular", "chi2")
    },
    "alibi_context_mmd": [{**OF_ALIBI, "window": 20, "average_run_length": 100, "reference_rows": 50}],
    **{f"alibi_{name}_online": [ONLINE] for name in ("mmd", "lsdd", "cvm")},
    "ranges": [
        {},
        {"combinations": False, "rules": ["height >= weight - 9", "colour == 'red' or age is missing or age < 3"]},
    ],
    "mahalanobis": [{"normalise": "both"}, {"normalise": True, "shrinkage": 0.1}, {"normalise": False}],
    "knn": [{}, {"rows": 20, "neighbours": 3}],
    "squeeze": [{}, {"bits": None, "median": 5}],
    "gen": [{}, {"top": 2, "gamma": 0.5}],
    "kernel_shap": [{"samples": 256}, {"samples": 64, "groups": 5}],
    "occlusion": [{}, {"window": 2, "positions": 9}],
    "feature_ablation": [{}, {"groups": 5}],
    "query_similarity": [{"name": "q"}, {"name": "few", "neighbours": 3, "window": 16, "average_run_length": 1000}],
    "bins": [{"name": "streams"}, {"name": "coarse", "bins": 2, "projections": 0}],
    "sequential": [{"name": "drift"}, {"name": "clean", "include": "clean", "epoch": 7, "bins": 3, "projections": 2}],
    "accuracy": [{"name": "accuracy"}, {"name": "strict", "tolerance": 0.0}],
    "suitability": [{"name": "suitable", "window": 50}, {"name": "loose", "window": 60, "margin": 0.2, "bins": 4}],
    "groups": [
        {"name": "g", "attribute": "region", "source": {"request": "region"}, "levels": ["north"]},
        {"name": "g", "attribute": "region", "source": {"request": "region"}, "levels": ["n", "s"], "tolerance": 0.0},
        {"name": "g", "attribute": "colour", "source": {"column": "colour"}},
        {"name": "g", "attribute": "age", "source": {"column": "age", "edges": [-0.5, 0.5]}},
    ],
}


def parametrised(group: str) -> list[Any]:
    """Every class of a group, with each of its parameters, kinds of input and tasks."""

    def marks(name: str, index: int, kind: str) -> list[pytest.MarkDecorator]:
        if (name, index, kind) in LONG:
            return [pytest.mark.slow]
        if name.startswith("alibi_") and LACKING is not None:
            return [pytest.mark.skip(reason=LACKING)]
        quick = not name.startswith("alibi_") or (name in QUICK_OF_ALIBI and kind == "tabular")
        return [] if quick or (name, kind) in REFUSED else [pytest.mark.slow]

    return [
        pytest.param(name, params, kind, task, id=f"{name}-{index}-{kind}-{task}", marks=marks(name, index, kind))
        for name in registered(group)
        for index, params in enumerate(PARAMETERS.get(name, [{}]))
        for kind in KINDS
        for task in TASKS
        if kind == "tabular" or ("column" not in params.get("source", {}) and "rules" not in params)
    ]


@pytest.mark.parametrize(("name", "params", "kind", "task"), parametrised("detectors"))
def test_detector(name: str, params: dict[str, Any], kind: Any, task: Task) -> None:
    """A built-in detector passes every check for every kind of input, or refuses the kind or task with a sentence."""
    detector = registered("detectors")[name]
    chosen = detector.Params.model_validate({"kind": name, **params})
    sentence = next((REFUSED[case] for case in ((name, task), (name, kind)) if case in REFUSED), None)
    if sentence is not None:
        with pytest.raises(ValueError, match=sentence):
            detector(chosen).fit(example(kind, task).reference)
        return
    for check in detector_checks(detector, chosen, kind=kind, task=task).values():
        check()


@pytest.mark.parametrize(
    "detector", [*BUILT_IN["detectors"], *BUILT_IN["memory_guards"]], ids=lambda detector: detector.__name__
)
def test_detectors_say_what_they_cannot_see(detector: type[Detector | MemoryGuard]) -> None:
    """Every built-in detector and guard with memory says in sentences what it cannot see, for a report's readers."""
    said = detector.blind_spots
    assert said.endswith(".")
    assert len(said.split()) >= 10


@pytest.mark.parametrize(("name", "params", "kind", "task"), parametrised("memory_guards"))
def test_memory_guard(name: str, params: dict[str, Any], kind: Any, task: Task) -> None:
    """A built-in guard with memory passes every check for every kind of input and task."""
    guard = registered("memory_guards")[name]
    chosen = guard.Params.model_validate({"kind": name, **params})
    for check in memory_guard_checks(guard, chosen, kind=kind, task=task).values():
        check()


@pytest.mark.parametrize(("name", "params", "kind", "task"), parametrised("monitors"))
def test_monitor(name: str, params: dict[str, Any], kind: Any, task: Task) -> None:
    """A built-in monitor passes every check for every kind of input and task, or refuses one with a sentence."""
    monitor = registered("monitors")[name]
    chosen = monitor.Params.model_validate({"kind": name, **params})
    unfit = ((name, task), (name, kind), (params.get("name", name), task))
    sentence = next((REFUSED[case] for case in unfit if case in REFUSED), None)
    if sentence is not None:
        with pytest.raises(ValueError, match=sentence):
            monitor(chosen, example(kind, task).context)
        return
    for check in monitor_checks(monitor, chosen, kind=kind, task=task).values():
        check()


@pytest.mark.parametrize(("name", "params", "kind", "task"), parametrised("explainers"))
def test_explainer(name: str, params: dict[str, Any], kind: Any, task: Task) -> None:
    """A built-in explainer passes every check for every kind of input and task."""
    explainer = registered("explainers")[name]
    chosen = explainer.Params.model_validate({"method": name, **params})
    for check in explainer_checks(explainer, chosen, kind=kind, task=task).values():
        check()
