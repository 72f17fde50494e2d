"""The body of a feedback request: the true labels or values of rows that were predicted earlier."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TypeGuard

import orjson

from guards.input.cell_faults import describe
from guards.input.spelling import Spellings
from service.front.protocols.problem import unprocessable
from service.front.protocols.strict_json import parsed
from service.front.protocols.v1 import MAX_ID, Errors
from service.messages.outcomes import REPEATED, REPLACED, RESULTS, Joined, Outcome

__all__ = ["MAX_ID", "MAX_OUTCOMES", "MEMBERS", "Labels", "decode", "encode"]

MAX_OUTCOMES = 10_000
MEMBERS = tuple(name for name in RESULTS if name != REPLACED)
"""The members of every answer; only an answer to a body that asks to replace outcomes has the member `replaced`."""
KEYS = frozenset({"id", "label", "probability", "replace"})


def decode(body: bytes, classes: Sequence[str]) -> list[Outcome]:
    """Decode a body into outcomes. If the model is a regression, ``classes`` is empty and labels are numbers.

    Raises:
        Problem: 400 if the body is no JSON; 422 with every fault and its place. Then no outcome is stored.
        Refused: the JSON would take more memory than there is now.
    """
    with parsed(body) as document:
        return _read(document, classes)


def _read(document: object, classes: Sequence[str]) -> list[Outcome]:
    if not isinstance(document, dict):
        raise unprocessable([((), f"expected an object with `outcomes`, got {describe(document)}")])
    errors: Errors = [((key[:40],), "unknown key") for key in document if key != "outcomes"]
    outcomes = document.get("outcomes")
    if not isinstance(outcomes, list):
        message = "missing" if "outcomes" not in document else f"expected a list, got {describe(outcomes)}"
        raise unprocessable([*errors, (("outcomes",), message)])
    if len(outcomes) > MAX_OUTCOMES:
        message = f"{len(outcomes)} outcomes, but a request may have {MAX_OUTCOMES} at most"
        raise unprocessable([*errors, (("outcomes",), message)])
    known = Labels(classes)
    decoded = [_outcome(outcome, place, known, errors) for place, outcome in enumerate(outcomes)]
    if errors:
        raise unprocessable(errors)
    return decoded


class Labels:
    """The model's labels. An outcome may spell a label differently: "7.0" is the label "7"."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes
        self._known = frozenset(classes)

    @cached_property
    def _spellings(self) -> Spellings:
        return Spellings(self.classes)

    def meant(self, label: object) -> str | None:
        """Return the model's label that ``label`` means; None if it means no label, or could mean two labels."""
        if not isinstance(label, str) or label in self._known:
            return label if isinstance(label, str) else None
        try:
            return self._spellings.name_of(label)
        except ValueError:
            return None


def _outcome(outcome: object, place: int, known: Labels, errors: Errors) -> Outcome:
    at = ("outcomes", place)
    if not isinstance(outcome, dict):
        errors.append((at, f"expected an object, got {describe(outcome)}"))
        return Outcome("")
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
        return Outcome(name)
    if known.classes:
        classes, meant = known.classes, known.meant(label)
        if meant is None:
            listed = list(classes) if len(classes) <= 10 else [*classes[:10], "..."]  # noqa: PLR2004
            errors.append(((*at, "label"), f"not of the model's labels, which are the strings {listed}"))
            return Outcome(name)
        return Outcome(name, label=meant, probability=chance, replace=replace)
    if not _finite(label):
        errors.append(((*at, "label"), f"expected a finite number, got {describe(label)}"))
        return Outcome(name)
    return Outcome(name, value=float(label), probability=chance, replace=replace)


def _finite(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def encode(joined: Joined, outcomes: Sequence[Outcome]) -> bytes:
    """Encode the result: how many outcomes were accepted, and the ids of the other outcomes by what became of them.

    If an outcome asks to replace an earlier outcome, the ids of replacing outcomes are listed, too; these outcomes
    count as accepted. If ids were used again after the predictions that are stored, these ids are listed as
    ``repeated``, beside what became of their outcomes.
    """
    asked = any(outcome.replace for outcome in outcomes)
    listed = (*MEMBERS[1:], *((REPLACED,) if asked else ()))
    listed += (REPEATED,) if joined.repeated else ()
    others = {name: [outcomes[place].id for place in getattr(joined, name)] for name in listed}
    return orjson.dumps({"accepted": len(joined.accepted) + len(joined.replaced), **others})
