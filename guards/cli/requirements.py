"""What a command's ``--json`` document must say: requirements such as ``accuracy>=0.9``, for a gate in CI."""

import difflib
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from guards.types import Mistake

__all__ = ["CANNOT_TELL", "FAILED", "Judged", "Requirement", "judge", "read_requirements", "status_of"]

FAILED, CANNOT_TELL = 1, 3
"""The exit statuses if a requirement fails, and if none fails but of one nobody can tell; 2 is a mistake."""
FORM = re.compile(r"\s*(?P<place>.+?)\s*(?P<sign>>=|<=|>|<)\s*(?P<bound>[^<>=\s]+)\s*")
SIGNS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt
}  # fmt: skip
SHOWN = 5
Verdict = Literal["holds", "fails", "cannot tell"]
SAID: dict[Verdict, str] = {
    "holds": "{} holds",
    "fails": "{} fails",
    "cannot tell": "nobody can tell whether {} holds",
}


@dataclass(frozen=True, slots=True)
class Requirement:
    """A bound on one figure: ``place`` is the figure's place in the document, with dots between the keys."""

    place: str
    sign: str
    bound: float

    def __str__(self) -> str:
        """Write the requirement as on the command line."""
        return f"{self.place}{self.sign}{self.bound:g}"


class Judged(TypedDict):
    """A requirement with its verdict, the figure and its interval, and a sentence that says why."""

    requirement: str
    verdict: Verdict
    value: float | None
    interval: tuple[float, float] | None
    sentence: str


def read_requirements(texts: Sequence[str] | None) -> list[Requirement]:
    """Read requirements as the command line gives them.

    Raises:
        Mistake: a text is no requirement.
    """
    found, faults = [], []
    for text in texts or ():
        parts = FORM.fullmatch(text)
        bound = _number(parts["bound"]) if parts else None
        if parts is None or bound is None:
            faults.append(
                f"--require {text!r}: write a name, one of >=, <=, > and <, and a number, such as accuracy>=0.9"
            )
        else:
            found.append(Requirement(parts["place"], parts["sign"], bound))
    if faults:
        raise Mistake(*faults)
    return found


def judge(requirements: Sequence[Requirement], document: Mapping[str, Any]) -> list[Judged]:
    """Judge every requirement by a document, which has a figure's interval beside the figure.

    A requirement holds if the whole interval keeps the bound, and fails if no part of the interval keeps the bound; in
    all other cases nobody can tell. A number without an interval, such as a count of rows, is exact.

    Raises:
        Mistake: the document has no figure at a place; the sentence names similar places.
    """
    figures = dict(_figures(document, ""))
    faults = [
        f"--require {requirement}: the document has no figure {requirement.place!r}; {_choices(requirement, figures)}"
        for requirement in requirements
        if requirement.place not in figures
    ]
    if faults:
        raise Mistake(*faults)
    return [_judged(requirement, *figures[requirement.place]) for requirement in requirements]


def status_of(judged: Sequence[Judged]) -> int:
    """Give the exit status: a failure counts more than a requirement of which nobody can tell."""
    verdicts = {each["verdict"] for each in judged}
    return FAILED if "fails" in verdicts else CANNOT_TELL if "cannot tell" in verdicts else 0


Figure = tuple[float | None, tuple[float, float] | None]


def _figures(part: Mapping[str, Any], before: str) -> Iterator[tuple[str, Figure]]:
    """List the numbers of a document, and what could not be measured, by their places; each with its interval."""
    for key, value in part.items():
        if isinstance(value, Mapping):
            yield from _figures(value, f"{before}{key}.")
        elif not key.endswith("_interval") and _is_figure(value):
            interval = part.get(f"{key}_interval") or part.get(f"{key.removesuffix('_rate')}_interval")
            yield f"{before}{key}", (value, interval)


def _is_figure(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _judged(requirement: Requirement, value: float | None, interval: tuple[float, float] | None) -> Judged:
    keeps = SIGNS[requirement.sign]
    verdict: Verdict
    if value is None:
        verdict, why = "cannot tell", "the files give nothing to measure this figure with"
    elif interval is None:
        verdict, why = "holds" if keeps(value, requirement.bound) else "fails", f"the figure is {value:g}"
    else:
        ends = [keeps(end, requirement.bound) for end in interval]
        verdict = "holds" if all(ends) else "cannot tell" if any(ends) else "fails"
        why = f"the figure is {value:.4g}, with the 95 % interval [{interval[0]:.4g}, {interval[1]:.4g}]"
        if verdict == "cannot tell":
            why += ", which crosses the bound: more rows would make the interval narrower"
    return {
        "requirement": str(requirement),
        "verdict": verdict,
        "value": value,
        "interval": interval,
        "sentence": f"{SAID[verdict].format(requirement)}: {why}",
    }


def _choices(requirement: Requirement, figures: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(requirement.place, figures, n=SHOWN, cutoff=0)
    return f"the most similar are {', '.join(close)}"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
