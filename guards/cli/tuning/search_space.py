"""What a search may try: the values of each parameter of a detector, from the types and bounds that it declares."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from optuna.trial import Trial
from pydantic.fields import FieldInfo

from guards.detectors.base import Params

__all__ = ["Searched", "searched_fields", "suggested", "written"]

NUMBER = "a number"
TIMES = 10.0
"""A number without a bound is searched from a tenth of its default to ten times its default."""
WIDE = 50.0
"""A range whose ends differ by at least this factor is searched on a logarithmic scale."""
TINY = 1e-6
"""The part of a range by which an end that a value must not reach is moved."""


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; ``whole`` numbers only, or all; ``log`` if spaced by factors."""

    low: float
    high: float
    whole: bool
    log: bool


@dataclass(frozen=True, slots=True)
class Searched:
    """The values of one parameter: some ``choices``, or a number of a range, or either."""

    name: str
    choices: tuple[bool | str | int | float | None, ...]
    range: Range | None


def searched_fields(params: type[Params]) -> list[Searched]:
    """List what can be searched of a detector's parameters: booleans, literals, and numbers with bounds or a default.

    Texts, lists and nested models are not searched; they keep the config's value.
    """
    fields = (_searched(name, field) for name, field in params.model_fields.items() if name != "kind")
    return [field for field in fields if len(field.choices) + 2 * (field.range is not None) > 1]


def suggested(trial: Trial, kind: str, fields: list[Searched]) -> dict[str, Any]:
    """Let a trial choose a value for each field."""
    values: dict[str, Any] = {}
    for field in fields:
        name = f"{kind}.{field.name}"
        chosen: Any = NUMBER
        if field.choices:
            forms = [repr(choice) for choice in field.choices] + ([NUMBER] if field.range else [])
            form = trial.suggest_categorical(f"{name} is", forms)
            chosen = next((choice for choice in field.choices if repr(choice) == form), NUMBER)
        if field.range is not None and chosen == NUMBER:
            bounds = field.range
            if bounds.whole:
                chosen = trial.suggest_int(name, int(bounds.low), int(bounds.high), log=bounds.log)
            else:
                chosen = trial.suggest_float(name, bounds.low, bounds.high, log=bounds.log)
        values[field.name] = chosen
    return values


def written(kind: str, fields: list[Searched], values: Mapping[str, Any]) -> dict[str, Any]:
    """Write parameters as :func:`suggested` would have chosen them, to start a search from them.

    A value that the search could not choose is left out, so the search chooses another value.
    """
    chosen: dict[str, Any] = {}
    for field in fields:
        name, value = f"{kind}.{field.name}", values.get(field.name)
        among = any(choice == value and type(choice) is type(value) for choice in field.choices)
        bounds = field.range
        inside = bounds is not None and not among and bounds.low <= _number(value) <= bounds.high
        if field.choices and (among or inside):
            chosen[f"{name} is"] = repr(value) if among else NUMBER
        if inside:
            chosen[name] = value
    return chosen


def _searched(name: str, field: FieldInfo) -> Searched:
    choices: list[Any] = []
    numbers: Range | None = None
    for annotation, limits in _members(field.annotation, field.metadata):
        if annotation is bool:
            choices += [True, False]
        elif annotation is NoneType:
            choices.append(None)
        elif get_origin(annotation) is Literal:
            choices += get_args(annotation)
        elif annotation in (int, float):
            default = _number(field.default)
            numbers = _range(limits, default, whole=annotation is int)
    return Searched(name, tuple(choices), numbers)


def _members(annotation: Any, limits: list[Any]) -> Iterator[tuple[Any, list[Any]]]:  # noqa: ANN401 - any type
    """List the members of a union, each with its own bounds and those of the whole."""
    if get_origin(annotation) is Annotated:
        inner, *own = get_args(annotation)
        more = [each for part in own for each in (part.metadata if isinstance(part, FieldInfo) else [part])]
        yield from _members(inner, [*limits, *more])
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _members(member, limits)
    else:
        yield annotation, limits


def _range(limits: list[Any], default: float, *, whole: bool) -> Range | None:
    low = high = None
    for limit in limits:
        if isinstance(limit, Ge | Gt):
            low = float(limit.ge if isinstance(limit, Ge) else limit.gt)  # type: ignore[arg-type]
        if isinstance(limit, Le | Lt):
            high = float(limit.le if isinstance(limit, Le) else limit.lt)  # type: ignore[arg-type]
    open_low, open_high = (any(isinstance(limit, kind) for limit in limits) for kind in (Gt, Lt))
    if not math.isnan(default) and default and (low is None or high is None):
        near, far = sorted((default / TIMES, default * TIMES))
        low, high = (near if low is None else max(low, near)), (far if high is None else min(high, far))
    if low is None or high is None or low >= high:
        return None
    step = 1.0 if whole else (high - low) * TINY
    low, high = low + step * open_low, high - step * open_high
    return Range(low, high, whole, log=low > 0 and high / low >= WIDE)


def _number(value: object) -> float:
    """Give a number; NaN for what is no number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
