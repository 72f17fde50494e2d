"""KServe's v1 data plane: ``{"instances": [...]}`` in, ``{"predictions": [...]}`` out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson

from guards.actions import Action
from guards.input.cell_faults import Fault, describe
from guards.input.schema import Floats, InputSchema
from service.front.protocols.images import stack_images
from service.front.protocols.plain_numbers import frame_of, read_numbers, stack_numbers
from service.front.protocols.problem import Problem, unprocessable
from service.front.protocols.strict_json import parsed
from service.front.protocols.v1_predictions import classified, details, regressed
from service.front.protocols.verdicts import WORDS, verdicts
from service.front.request_id import new_id
from service.messages.answer import Answer
from service.messages.served_model import ServedModel

__all__ = [
    "WORDS",
    "Errors",
    "Parameters",
    "Request",
    "decode",
    "encode",
    "new_ids",
    "read_groups",
    "read_ids",
]

Errors = list[tuple[tuple[str | int, ...], str]]
Parameters = Mapping[str, type | tuple[type, ...]]
"""The parameters that a request may have: the accepted types by name."""
MAX_ID = 256
KEYS = frozenset({"instances", "ids", "groups", "parameters"})


@dataclass(slots=True, eq=False)
class Request:
    """A decoded body: rows ``x`` (n, ...) float32, one id for each row, the values of declared groups, parameters."""

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
    parameters: Parameters,
) -> Request:
    """Decode a body into rows.

    Args:
        body: the request's body.
        schema: the description of a row.
        max_rows: the most rows that a request may have.
        groups: the names of the declared attributes.
        parameters: the parameters that the request may have.

    Raises:
        Problem: 400 if the body is no JSON; 422 if it cannot be decoded into rows, with every fault and its place.
        Refused: the JSON would take more memory than there is now.
    """
    frame = b"" if schema.kind == "tabular" else frame_of(body)
    if frame and (x := read_numbers(body, frame, schema, max_rows)) is not None:
        return Request(x, new_ids(len(x)), {}, {})
    with parsed(body, frame.count(b":") if frame else None) as document:
        return _read(document, frame, schema, max_rows, groups, parameters)


def _read(
    document: object,
    frame: bytes,
    schema: InputSchema,
    max_rows: int,
    declared: Sequence[str],
    parameters: Parameters,
) -> Request:
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
    numbers = stack_numbers(instances, frame, document, schema) if frame else None
    x, faults = _rows(instances, schema) if numbers is None else (numbers, [])
    errors += [(("instances", fault.row, *fault.place), fault.message) for fault in faults]
    ids = read_ids(document.get("ids"), n, errors)
    given = read_groups(document.get("groups"), n, declared, errors)
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
    """Encode rows of a table. A row with missing or unknown columns is left out; the other rows are still checked."""
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


def new_ids(n: int) -> list[str]:
    """Generate a unique id for each of n rows."""
    made = new_id()
    return [f"{made}-0"] if n == 1 else [f"{made}-{row}" for row in range(n)]


def read_ids(ids: object, n: int, errors: Errors) -> list[str]:
    """Check the rows' ids, and add faults to ``errors``; if there are no ids, generate unique ids.

    The ids are not derived from X-Request-ID: proxies and retries send the same value with several requests. Then the
    outcomes of one request would be joined with the rows of another.
    """
    if ids is None:
        return new_ids(n)
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
    """Check the rows' values of the declared attributes, and add faults to ``errors``."""
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


def _parameters(parameters: object, known: Parameters, errors: Errors) -> Mapping[str, Any]:
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


def encode(
    answer: Answer,
    *,
    ids: Sequence[str],
    served: ServedModel,
    detail: bool,
    top_k: int | None = None,
    warnings: Mapping[int, str] = MappingProxyType({}),
) -> tuple[bytes, Action]:
    """Encode an answer as JSON; return the bytes and the strictest action among the rows.

    Args:
        answer: the engine's answer.
        ids: the rows' ids.
        served: the model that answered.
        detail: whether each row lists the findings of every visible guard.
        top_k: how many labels of each row are named, the most probable first; None for all labels.
        warnings: a sentence about an unusual row, by the row's index. The sentence is shown even if no guard flags
            the row, and is a cause of every flag of the row.
    """
    actions, reasons = verdicts(answer, served)
    found = details(answer, served, warnings) if detail else []
    rows = classified(answer, served.classes, top_k) if served.classes else regressed(answer)
    predictions: list[dict[str, Any]] = []
    for row, (name, said, action) in enumerate(zip(ids, rows, actions, strict=True)):
        if action >= Action.ABSTAIN:
            said = {"label": None}  # noqa: PLW2901
        prediction = {"id": name, **said, "action": WORDS[action], "reasons": reasons[row]}
        if row in warnings:
            prediction["warnings"] = [warnings[row]]
        if detail:
            prediction["guards"] = found[row]
        predictions.append(prediction)
    model = _written_model(served.name, served.version, served.bundle)
    labels = len(served.classes)
    cut = {"top_k": top_k, "classes": labels} if top_k is not None and top_k < labels else {}
    return orjson.dumps({"predictions": predictions, **cut, "model": model}), Action(max(actions))


@lru_cache(8)
def _written_model(name: str, version: str, bundle: str) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps({"name": name, "version": version, "bundle": bundle}))


def bad_parameter(name: str, message: str) -> Problem:
    """Return the problem that refuses a parameter's value."""
    return unprocessable([(("parameters", name), message)])
