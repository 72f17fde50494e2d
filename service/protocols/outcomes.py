"""The body of feedback: what turned out to be true of rows that were answered before."""

import math
from collections.abc import Sequence
from typing import TypeGuard

import orjson

from guards.faults import describe
from service.columns import Truth
from service.protocols.problem import unprocessable
from service.protocols.strict_json import loads
from service.protocols.v1 import MAX_ID, Errors
from service.store import Verdict

__all__ = ["MAX_ID", "MAX_OUTCOMES", "REPLACED", "RESULTS", "decode", "encode"]

MAX_OUTCOMES = 10_000
RESULTS = ("accepted", "duplicate", "conflicting", "unknown")
REPLACED = "replaced"
KEYS = frozenset({"id", "label", "probability", "replace"})


def decode(body: bytes, classes: Sequence[str]) -> list[Truth]:
    """Read a body; without ``classes``, as regression has none, labels are numbers.

    Raises:
        Problem: 400 where it is no JSON, 422 with every fault and its place: then nothing of it is stored.
    """
    document = loads(body)
    if not isinstance(document, dict):
        raise unprocessable([((), f"expected an object with `outcomes`, got {describe(document)}")])
    errors: Errors = [((key[:40],), "unknown key") for key in document if key != "outcomes"]
    outcomes = document.get("outcomes")
    if not isinstance(outcomes, list):
        message = "missing" if "outcomes" not in document else f"expected a list, got {describe(outcomes)}"
        raise unprocessable([*errors, (("outcomes",), message)])
    if len(outcomes) > MAX_OUTCOMES:
        message = f"{len(outcomes)} outcomes, where {MAX_OUTCOMES} are the most in one request"
        raise unprocessable([*errors, (("outcomes",), message)])
    known = frozenset(classes)
    truths = [_truth(outcome, place, known, classes, errors) for place, outcome in enumerate(outcomes)]
    if errors:
        raise unprocessable(errors)
    return truths


def _truth(outcome: object, place: int, known: frozenset[str], classes: Sequence[str], errors: Errors) -> Truth:
    at = ("outcomes", place)
    if not isinstance(outcome, dict):
        errors.append((at, f"expected an object, got {describe(outcome)}"))
        return Truth("")
    errors += [((*at, key[:40]), "unknown key") for key in outcome if key not in KEYS]
    errors += [((*at, key), "missing") for key in ("id", "label") if key not in outcome]
    name, label, probability = outcome.get("id", "-"), outcome.get("label"), outcome.get("probability")
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_ID:
        errors.append(((*at, "id"), f"expected a string of 1 to {MAX_ID} characters, got {describe(name)}"))
        name = ""
    replace = outcome.get("replace", False)
    if not isinstance(replace, bool):
        errors.append(((*at, "replace"), f"expected true or false, got {describe(replace)}"))
        replace = False
    chance: float | None = None
    if probability is not None:
        if _finite(probability) and 0 < probability <= 1:
            chance = float(probability)
        else:
            errors.append(((*at, "probability"), f"expected a number in (0, 1], got {describe(probability)}"))
    if "label" not in outcome:
        return Truth(name)
    if classes:
        if not isinstance(label, str) or label not in known:
            listed = list(classes) if len(classes) <= 10 else [*classes[:10], "..."]  # noqa: PLR2004
            errors.append(((*at, "label"), f"not of the model's labels, which are the strings {listed}"))
            return Truth(name)
        return Truth(name, label=label, probability=chance, replace=replace)
    if not _finite(label):
        errors.append(((*at, "label"), f"expected a finite number, got {describe(label)}"))
        return Truth(name)
    return Truth(name, value=float(label), probability=chance, replace=replace)


def _finite(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def encode(verdict: Verdict, truths: Sequence[Truth]) -> bytes:
    """Write what became of each outcome: how many were accepted, and the ids of the others.

    If one asks to replace, the answer also says which did; these are accepted, too.
    """
    asked = any(truth.replace for truth in truths)
    listed = (*RESULTS[1:], *((REPLACED,) if asked else ()))
    others = {name: [truths[place].id for place in getattr(verdict, name)] for name in listed}
    return orjson.dumps({"accepted": len(verdict.accepted) + len(verdict.replaced), **others})
