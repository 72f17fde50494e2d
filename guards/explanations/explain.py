"""Answers a question about rows: checks the question, chooses label and method, and explains each row."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from guards.bundle.bundle import Bundle
from guards.config.config import Config
from guards.config.neighbours import NEIGHBOURS
from guards.config.plugins import registered
from guards.detectors.base import Params
from guards.explainers.base import Explainer
from guards.explanations.neighbours import neighbours
from guards.input.cell_faults import some_of
from guards.input.schema import InputSchema
from guards.pipeline import Pipeline
from guards.types import Action, Batch, Result

__all__ = ["Explanation", "Question", "UnfitQuestionError", "WithheldError", "check", "explain", "fitting", "methods"]

GUARD = "guard:"
CAUSES = "causes"


class UnfitQuestionError(Exception):
    """A parameter of the question does not fit the model: the parameter's name, and a sentence."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(f"{parameter}: {message}")
        self.parameter, self.message = parameter, message


class WithheldError(Exception):
    """Some rows have no answer to explain: ``actions`` holds their actions by the row's index."""

    def __init__(self, actions: Mapping[int, Action]) -> None:
        super().__init__(", ".join(f"row {row}: {action.label}" for row, action in actions.items()))
        self.actions = dict(actions)


@dataclass(frozen=True, slots=True)
class Question:
    """A question about rows. None means: the config's method, the predicted label, the config's steps, all columns.

    ``target`` is a label, or ``guard:NAME`` for the score of a guard.
    """

    method: str | None = None
    target: str | None = None
    steps: int | None = None
    top_k: int | None = None

    @property
    def guard(self) -> str | None:
        """The guard whose score is to be explained; None if the target is a label."""
        return self.target.removeprefix(GUARD) if self.target is not None and self.target.startswith(GUARD) else None


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """The explanation of one row. ``values`` has the input's shape; a field that the method does not fill is None.

    ``causes`` are the causes that a guard itself names. They are the explanation if the guard's score has no gradient.
    """

    x: Tensor
    label: str | None
    target: str | None
    method: str
    values: Tensor | None = None
    baseline_value: float | None = None
    output_value: float | None = None
    convergence_delta: float | None = None
    neighbours: tuple[Mapping[str, Any], ...] = ()
    causes: tuple[str, ...] = ()

    def document(self, schema: InputSchema, top_k: int | None = None) -> dict[str, Any]:
        """Give the JSON object of the answer; for a table, the ``top_k`` largest contributions in column order."""
        shown: Any = None
        if self.values is not None:
            shown = self.values.tolist()
            if schema.kind == "tabular":
                order = sorted(range(len(shown)), key=lambda i: -abs(shown[i]))[: top_k or len(shown)]
                shown = {schema.names[i]: shown[i] for i in sorted(order)}
        return {
            "label": self.label,
            "target": self.target,
            "method": self.method,
            "attributions": shown,
            "baseline_value": self.baseline_value,
            "output_value": self.output_value,
            "convergence_delta": self.convergence_delta,
            "neighbours": list(self.neighbours),
            "causes": list(self.causes),
        }


def fitting(config: Config, schema: InputSchema) -> dict[str, Params]:
    """Give the methods that a request may choose and that can explain such rows, with their parameters."""
    return {name: params for name, params in config.explain.allowed.items() if not _refusal(name, schema)}


def _refusal(method: str, schema: InputSchema) -> str | None:
    """Say why a method can explain no row of the schema; None if the method can, or if it only names neighbours."""
    if method == NEIGHBOURS:
        return None
    explainer = registered("explainers")[method]
    assert issubclass(explainer, Explainer)  # noqa: S101 - only explainers are registered under this name
    return explainer.refusal(schema)


def methods(config: Config, schema: InputSchema) -> list[dict[str, Any]]:
    """Describe the methods that a request may choose, with their parameters' values and meanings."""
    described = []
    for name, params in fitting(config, schema).items():
        values = config.explain.parameters(name).model_dump()
        described.append(
            {
                "method": name,
                "default": name == config.explain.method,
                "parameters": {
                    key: {"value": values[key], "description": field.description or ""}
                    for key, field in type(params).model_fields.items()
                    if key != "method"
                },
            }
        )
    return described


def check(question: Question, config: Config, schema: InputSchema, classes: Sequence[str]) -> None:
    """Check a question against the config alone, before any model is run.

    Raises:
        UnfitQuestionError: a parameter is not known, or out of its bounds.
    """
    section = config.explain
    method = question.method or section.method
    if method not in section.allowed:
        raise UnfitQuestionError("method", f"not one of {list(fitting(config, schema))}")
    if refusal := _refusal(method, schema):
        raise UnfitQuestionError("method", refusal)
    guard = question.guard
    visible = [spec.name for spec in config.guards if spec.visible]
    if guard is not None and guard not in visible:
        raise UnfitQuestionError("target", f"no such guard; there are {visible}")
    if question.target is not None and guard is None and question.target not in classes:
        message = f"no label; there are {some_of(classes)}" if classes else "regression has none"
        raise UnfitQuestionError("target", f"{message}; guard:NAME is a guard's score")
    if question.top_k is not None and (schema.kind != "tabular" or question.top_k < 1):
        raise UnfitQuestionError("top_k", "a positive number of columns, for tabular rows")
    if question.steps is None:
        return
    fields = type(section.allowed[method]).model_fields
    if "steps" not in fields:
        raise UnfitQuestionError("steps", f"{method} has none")
    try:
        section.parameters(method, question.steps)
    except ValueError:
        bounds = type(section.allowed[method]).model_json_schema()["properties"]["steps"]
        raise UnfitQuestionError("steps", f"from {bounds['minimum']} to {bounds['maximum']}") from None


def explain(
    bundle: Bundle,
    pipeline: Pipeline,
    x: Tensor,
    question: Question,
    *,
    checkpoint: Callable[[], None] | None = None,
) -> list[Explanation]:
    """Explain raw rows (n, ...), once :func:`check` has passed the question; ``checkpoint`` may raise to end it early.

    Raises:
        WithheldError: some rows have no answer that could be explained.
        NotExplainableError: the method does not apply to these rows.
        Mistake: the config's embeddings or baseline do not fit the model.
    """
    section, guard = bundle.config.explain, question.guard
    batch = Batch(x.to(bundle.model.device))
    outcome = pipeline(batch)
    actions = [Action(action) for action in outcome.verdict.action.tolist()]
    withheld = {row: action for row, action in enumerate(actions) if action >= Action.ABSTAIN}
    if withheld and not section.rejected:
        raise WithheldError(withheld)
    method = question.method or section.method
    targets = _targets(bundle, outcome, question)
    made = [
        Explanation(
            x=row,
            label=bundle.classes[target] if bundle.classes and guard is None else None,
            target=question.target,
            method=method,
            neighbours=near,
        )
        for row, target, near in zip(x, targets.tolist(), neighbours(bundle, outcome), strict=True)
    ]
    if method == NEIGHBOURS:  # such an answer holds only the nearest rows
        return made
    if guard is not None and not bundle.detectors[pipeline.names.index(guard)].differentiable:
        return [_by_causes(each, bundle, outcome, guard, row) for row, each in enumerate(made)]
    subject = bundle.subject(guard)
    subject.checkpoint = checkpoint or subject.checkpoint
    found = bundle.explainer(method, steps=question.steps, subject=subject).explain(batch.x, targets)
    return [
        replace(
            each,
            values=found.values[row].cpu(),
            baseline_value=_finite(found.baseline_value[row]),
            output_value=_finite(found.output_value[row]),
            convergence_delta=_finite(found.convergence_delta[row]),
        )
        for row, each in enumerate(made)
    ]


def _targets(bundle: Bundle, outcome: Result, question: Question) -> Tensor:
    n, device = len(outcome.verdict.action), bundle.model.device
    if question.target is not None and question.guard is None:
        return torch.full((n,), bundle.classes.index(question.target), device=device)
    label = outcome.prediction.label
    return torch.zeros(n, dtype=torch.int64, device=device) if label is None else label.clone()


def _by_causes(each: Explanation, bundle: Bundle, outcome: Result, guard: str, row: int) -> Explanation:
    """Give the guard's own causes, and its score."""
    verdict = outcome.verdict
    marks, names = verdict.causes.get(guard), bundle.cause_names.get(guard, ())
    causes = () if marks is None else tuple(names[cause] for cause in marks[row].nonzero()[:, 0].tolist())
    score = verdict.score[verdict.guards.index(guard), row]
    return replace(each, method=CAUSES, output_value=_finite(score), causes=causes)


def _finite(number: Tensor) -> float | None:
    value = number.item()
    return value if math.isfinite(value) else None
