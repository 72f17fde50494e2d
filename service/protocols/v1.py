"""KServe's v1 data plane: ``{"instances": [...]}`` in, ``{"predictions": [...]}`` out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson

from guards.bundle import Bundle
from guards.config import Config
from guards.faults import Fault, describe
from guards.schema import Floats, InputSchema
from guards.types import Action
from service.answer import Answer
from service.protocols.images import stack_images
from service.protocols.predictions import classified, details, regressed
from service.protocols.problem import Problem, unprocessable
from service.protocols.strict_json import loads
from service.request_id import new_id

__all__ = ["Errors", "Request", "decode", "encode", "read_groups", "read_ids", "shown_action", "verdicts"]

Errors = list[tuple[tuple[str | int, ...], str]]
MAX_ID = 256
KEYS = frozenset({"instances", "ids", "groups", "parameters"})


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A decoded body: rows ``x`` (n, ...), one id each, the values of declared groups, and the parameters."""

    x: Floats
    ids: list[str]
    groups: Mapping[str, list[str | None]]
    parameters: Mapping[str, Any]


def decode(
    body: bytes,
    *,
    schema: InputSchema,
    max_rows: int,
    groups: Sequence[str] = (),
    parameters: Mapping[str, type | tuple[type, ...]],
) -> Request:
    """Turn a body into rows; ``groups`` are the declared attributes, ``parameters`` the known ones with their types.

    Raises:
        Problem: 400 where it is no JSON, 422 where no tensor can be made of it, with every fault and its place.
    """
    document = loads(body)
    if not isinstance(document, dict):
        raise unprocessable([((), f"expected an object with `instances`, got {describe(document)}")])
    errors: Errors = [((key[:40],), "unknown key") for key in document if key not in KEYS]
    instances = document.get("instances")
    if not isinstance(instances, list) or not instances:
        message = "missing" if "instances" not in document else f"expected a list of rows, got {_count(instances)}"
        raise unprocessable([*errors, (("instances",), message)])
    n = len(instances)
    if n > max_rows:
        raise unprocessable([*errors, (("instances",), f"{n} rows, where {max_rows} are the most in one request")])
    x, faults = _rows(instances, schema)
    errors += [(("instances", fault.row, *fault.place), fault.message) for fault in faults]
    ids = read_ids(document.get("ids"), n, errors)
    given = read_groups(document.get("groups"), n, groups, errors)
    chosen = _parameters(document.get("parameters"), parameters, errors)
    if errors:
        raise unprocessable(errors)
    return Request(x, ids, given, chosen)


def _count(value: object) -> str:
    return "an empty one" if value == [] else describe(value)


def _rows(instances: list[object], schema: InputSchema) -> tuple[Floats, list[Fault]]:
    if schema.kind == "tabular":
        return _table(instances, schema)
    if schema.kind == "image" and any(isinstance(instance, dict) for instance in instances):
        return stack_images(instances, schema)
    return schema.stack(instances)


def _table(instances: list[object], schema: InputSchema) -> tuple[Floats, list[Fault]]:
    """Turn rows into columns; those that have not the columns are set aside, and the rest is still checked."""
    names, wanted = schema.names, set(schema.names)
    faults: list[Fault] = []
    sound: list[int] = []
    rows: list[list[object]] = []
    for index, instance in enumerate(instances):
        if isinstance(instance, dict):
            if instance.keys() == wanted:
                sound.append(index)
                rows.append([instance[name] for name in names])
                continue
            faults += [Fault(index, (name,), "missing column") for name in names if name not in instance]
            faults += [Fault(index, (name[:40],), "unknown column") for name in instance if name not in wanted]
        elif isinstance(instance, list) and len(instance) == len(names):
            sound.append(index)
            rows.append(instance)
        else:
            what = f"a list of {len(instance)}" if isinstance(instance, list) else describe(instance)
            faults.append(
                Fault(index, (), f"expected an object, or a list of {len(names)} in column order, got {what}")
            )
    if not rows:
        return np.empty((0, len(names)), dtype=np.float32), faults
    x, found = schema.encode(dict(zip(names, zip(*rows, strict=True), strict=True)))
    faults += [Fault(sound[fault.row], fault.place, fault.message) for fault in found]
    return x, sorted(faults, key=lambda fault: fault.row)


def read_ids(ids: object, n: int, errors: Errors) -> list[str]:
    """Check the rows' ids; without any, make ids that no other row has.

    They are not made of X-Request-ID: proxies and retries send one value with several requests, and the labels of one
    request would be joined with the rows of another.
    """
    if ids is None:
        made = new_id()
        return [f"{made}-{row}" for row in range(n)]
    if not isinstance(ids, list) or len(ids) != n:
        errors.append((("ids",), f"expected a list of {n}, one for each instance"))
        return []
    seen: set[str] = set()
    for row, name in enumerate(ids):
        if not isinstance(name, str) or not 1 <= len(name) <= MAX_ID:
            errors.append((("ids", row), f"expected a string of 1 to {MAX_ID} characters, got {describe(name)}"))
        elif name in seen:
            errors.append((("ids", row), "the id is given twice in this request"))
        else:
            seen.add(name)
    return ids


def read_groups(groups: object, n: int, declared: Sequence[str], errors: Errors) -> dict[str, list[str | None]]:
    """Check the rows' values of the attributes that the config declares."""
    if groups is None:
        return {}
    if not isinstance(groups, dict):
        errors.append((("groups",), f"expected an object of lists, got {describe(groups)}"))
        return {}
    for name, values in groups.items():
        if name not in declared:
            errors.append((("groups", name[:40]), f"not declared in the config; declared are {list(declared)}"))
        elif not isinstance(values, list) or len(values) != n:
            errors.append((("groups", name), f"expected a list of {n}, one for each instance"))
        else:
            errors += [
                (("groups", name, row), f"expected a string or null, got {describe(value)}")
                for row, value in enumerate(values)
                if not isinstance(value, str | None)
            ]
    return groups


def _parameters(parameters: object, known: Mapping[str, type | tuple[type, ...]], errors: Errors) -> Mapping[str, Any]:
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        errors.append((("parameters",), f"expected an object, got {describe(parameters)}"))
        return {}
    for name, value in parameters.items():
        if name not in known:
            errors.append((("parameters", name[:40]), f"unknown parameter; there are {sorted(known)}"))
        elif not isinstance(value, known[name]) or (isinstance(value, bool) and known[name] is not bool):
            errors.append((("parameters", name), f"wrong type: {describe(value)}"))
    return parameters


def shown_action(action: int, reasons: Sequence[str]) -> int:
    """Hide the flag of a guard that is not visible: what no answer may show, no action may either."""
    return int(Action.ALLOW) if action == Action.FLAG and not reasons else action


def verdicts(answer: Answer, config: Config) -> tuple[list[int], list[list[str]]]:
    """Give each row's action and reasons as an answer may show them: of visible guards, and none in shadow mode."""
    visible = [(index, spec) for index, spec in enumerate(config.guards) if spec.visible]
    if config.mode == "shadow":
        visible = []
    flagged, crashed = answer.flagged.tolist(), np.isnan(answer.p_value).tolist()
    reasons = [
        [spec.name for index, spec in visible if flagged[row][index] or (crashed[row][index] and spec.error_action)]
        for row in range(len(answer))
    ]
    return [shown_action(*said) for said in zip(answer.action.tolist(), reasons, strict=True)], reasons


def encode(
    answer: Answer,
    *,
    ids: Sequence[str],
    bundle: Bundle,
    detail: bool,
    top_k: int | None = None,
    warnings: Mapping[int, str] = MappingProxyType({}),
) -> tuple[bytes, Action]:
    """Write the answer, and tell the strictest action in it.

    ``top_k`` is how many labels of each row have their probability in it, the most probable first; None: all of them.
    ``warnings`` say by row what is odd about it, whatever the guards found; they are causes of every flag, too.
    """
    config = bundle.config
    actions, reasons = verdicts(answer, config)
    found = details(answer, bundle, warnings) if detail else []
    rows = classified(answer, bundle.classes, top_k) if bundle.classes else regressed(answer)
    predictions: list[dict[str, Any]] = []
    for row, (name, said, action) in enumerate(zip(ids, rows, actions, strict=True)):
        if action >= Action.ABSTAIN:
            said = {"label": None}  # noqa: PLW2901
        prediction = {"id": name, **said, "action": Action(action).label, "reasons": reasons[row]}
        if row in warnings:
            prediction["warnings"] = [warnings[row]]
        if detail:
            prediction["guards"] = found[row]
        predictions.append(prediction)
    model = {"name": config.name, "version": config.version, "bundle": bundle.id}
    labels = len(bundle.classes)
    cut = {"top_k": top_k, "classes": labels} if top_k is not None and top_k < labels else {}
    return orjson.dumps({"predictions": predictions, **cut, "model": model}), Action(max(actions))


def bad_parameter(name: str, message: str) -> Problem:
    """Refuse a parameter's value."""
    return unprocessable([(("parameters", name), message)])
