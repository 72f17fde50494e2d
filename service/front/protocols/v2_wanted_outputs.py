"""Reads which outputs a v2 request wants, in which form, and how many labels of each row."""

import math
from collections.abc import Container, Mapping, Sequence
from typing import Any

from guards.input.cell_faults import describe
from service.front.protocols.problem import MAX_ERRORS
from service.front.protocols.top_k import BINARY_BYTES, NUMBER_BYTES, TOP_K, read_top_k, refusal, text_bytes
from service.front.protocols.v1 import Errors
from service.front.protocols.v2_outputs import LABELS, PROBABILITIES, default_outputs
from service.messages.served_model import ServedModel

__all__ = ["ALL_BINARY", "DETAIL", "chosen_top_k", "not_boolean", "parameters_of", "read_outputs", "too_large"]

BINARY, ALL_BINARY, DETAIL = "binary_data", "binary_data_output", "detail"
OUTPUT_KEYS = frozenset({"name", "parameters"})


def chosen_top_k(parameters: Mapping[str, Any], classes: Sequence[str], errors: Errors) -> int | None:
    """Return how many labels of each row a request wants; None for all. A fault is added to ``errors``."""
    if TOP_K not in parameters:
        return None
    try:
        return read_top_k(parameters[TOP_K], len(classes))
    except ValueError as wrong:
        errors.append((("parameters", TOP_K), str(wrong)))
        return None


def too_large(rows: int, outputs: Mapping[str, bool], top_k: int | None, classes: tuple[str, ...]) -> str | None:
    """Return why the outputs with one column for each label are too large an answer; None if they are not."""
    labels = len(classes)
    each = 0
    if PROBABILITIES in outputs:
        each += BINARY_BYTES if outputs[PROBABILITIES] else NUMBER_BYTES
    if LABELS in outputs:
        each += text_bytes(classes)
    return refusal(rows, labels if top_k is None else top_k, labels, each) if each else None


def read_outputs(
    outputs: object,
    chosen: Mapping[str, Any],
    top_k: int | None,
    *,
    served: ServedModel,
    errors: Errors,
) -> dict[str, bool]:
    """Return the wanted outputs in the request's order; an output maps to true if it is wanted as binary data."""
    otherwise = chosen.get(ALL_BINARY) is True
    if outputs is None or outputs == []:
        names = default_outputs(served, detail=chosen.get(DETAIL) is True, top_k=top_k)
        return dict.fromkeys(names, otherwise)
    if not isinstance(outputs, list):
        errors.append((("outputs",), f"expected a list, got {describe(outputs)}"))
        return {}
    known = default_outputs(served, detail=True) + [LABELS] * bool(served.classes)
    if len(outputs) > len(known) + MAX_ERRORS:
        errors.append((("outputs",), f"{len(outputs)} outputs are too many; there are {', '.join(known)}"))
        return {}
    wanted: dict[str, bool] = {}
    for index, output in enumerate(outputs):
        place = ("outputs", index)
        if not isinstance(output, dict):
            errors.append((place, f"expected an object, got {describe(output)}"))
            continue
        errors += [((*place, key[:40]), "unknown key") for key in output if key not in OUTPUT_KEYS]
        parameters = parameters_of(output, place, errors)
        errors += not_boolean({key: parameters[key] for key in (BINARY,) if key in parameters}, (*place, "parameters"))
        if "classification" in parameters:
            message = f"not supported: ask with `parameters.{TOP_K}` of the request"
            errors.append(((*place, "parameters", "classification"), message))
        name = output.get("name")
        if message := _unknown(name, known, wanted, top_k):
            errors.append(((*place, "name"), message))
        else:
            wanted[str(name)] = parameters.get(BINARY, otherwise) is True
    return wanted


def _unknown(name: object, known: Sequence[str], wanted: Container[str], top_k: int | None) -> str:
    if not isinstance(name, str) or name not in known:
        return f"unknown output; there are {', '.join(known)}"
    if name in wanted:
        return "asked for twice"
    return f"needs a number in `parameters.{TOP_K}` of the request" if name == LABELS and top_k is None else ""


def parameters_of(value: Mapping[str, Any], place: tuple[str | int, ...], errors: Errors) -> Mapping[str, Any]:
    """Return the parameters of an object. Unknown names are kept: they may be extensions of other servers."""
    parameters = value.get("parameters")
    if isinstance(parameters, dict):
        numbers = ((key, one) for key, one in parameters.items() if isinstance(one, float) and not math.isfinite(one))
        errors += [((*place, "parameters", key[:40]), f"{one} is not a JSON number") for key, one in numbers]
        return parameters
    if parameters is not None:
        errors.append(((*place, "parameters"), f"expected an object, got {describe(parameters)}"))
    return {}


def not_boolean(parameters: Mapping[str, Any], place: tuple[str | int, ...]) -> Errors:
    """Return a fault for each parameter that is not a boolean."""
    return [
        ((*place, key), f"expected a boolean, got {describe(value)}")
        for key, value in parameters.items()
        if not isinstance(value, bool)
    ]
