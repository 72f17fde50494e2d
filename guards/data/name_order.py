"""Orders names by value, by a scale of words or by the alphabet, and finds names that are hard to tell apart."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from guards.input.spelling import key_of

__all__ = ["SCALES", "alike", "by_value", "folded", "is_boolean", "is_number", "other_order", "scale_of"]

NUMBER = r"[0-9]+(?:\.[0-9]+)?"
RANGE = re.compile(rf"[<>=≤≥~ ]*{NUMBER}\s*[A-Za-z%]*(\s*(-|–|to)\s*{NUMBER}\s*[A-Za-z%]*)?\s*\+?")  # noqa: RUF001

SCALES = (
    ("none", "very low", "low", "medium low", "medium", "moderate", "mid", "medium high", "high", "very high"),
    ("xxs", "xs", "s", "m", "l", "xl", "xxl", "xxxl"),
    ("tiny", "small", "medium", "large", "huge"),
    ("none", "mild", "moderate", "severe", "critical"),
    ("never", "rarely", "sometimes", "often", "always"),
    ("very bad", "bad", "poor", "fair", "ok", "average", "good", "very good", "great", "excellent"),
    ("strongly disagree", "disagree", "neutral", "agree", "strongly agree"),
    ("negative", "neutral", "positive"),
    ("first", "second", "third", "fourth", "fifth"),
    ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    ("mon", "tue", "wed", "thu", "fri", "sat", "sun"),
    ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
    ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    (
        *("january", "february", "march", "april", "may", "june"),
        *("july", "august", "september", "october", "november", "december"),
    ),
)
"""Words with an order of their own, which is not alphabetical."""


def is_number(name: str) -> bool:
    """Tell whether a name is a number: decimal digits without leading zeros."""
    return key_of(name)[0] == "number"


def is_boolean(name: str) -> bool:
    """Tell whether a name is true or false."""
    return key_of(name)[0] == "boolean"


def by_value(names: Iterable[str]) -> tuple[str, ...]:
    """Sort names by their value; all names must be numbers, or all booleans."""
    return tuple(sorted(names, key=lambda name: (key_of(name)[1], name)))


def scale_of(names: Sequence[str]) -> tuple[str, ...] | None:
    """Sort at least three names by the scale of words that they all belong to; None if there is no such scale.

    >>> scale_of(["high", "low", "medium"]), scale_of(["ant", "bee"])
    (('low', 'medium', 'high'), None)
    """
    words = {" ".join(name.replace("_", " ").replace("-", " ").casefold().split()): name for name in names}
    for scale in SCALES:
        if len(words) > 2 and words.keys() <= set(scale):  # noqa: PLR2004 - two words have no order to be sure of
            return tuple(words[word] for word in scale if word in words)
    return None


def other_order(names: Sequence[str]) -> tuple[str, ...] | None:
    """Give the order in which a reader would write the names, if it differs from the order of the sorted texts.

    Words of a scale have an order of their own, "class 2" comes before "class 10", and "<5" before "5-10".

    >>> other_order(["class 10", "class 2"]), other_order(["5-10", "<5", ">10"]), other_order(["<=50K", ">50K"])
    (('class 2', 'class 10'), ('<5', '5-10', '>10'), None)
    """
    found = scale_of(names)
    if found is None and all(map(RANGE.fullmatch, names)):
        found = tuple(sorted(names, key=_start))
    if found is None:
        found = tuple(sorted(names, key=_chunks))
    return None if found == tuple(sorted(names)) else found


def _start(name: str) -> tuple[float, int]:
    """Tell where a range begins: "<5" begins before 5, ">5" and "5+" after 5."""
    beyond = 1 if ">" in name or "+" in name or "≥" in name else -1 if "<" in name or "≤" in name else 0
    return float(re.findall(NUMBER, name)[0]), beyond


def _chunks(name: str) -> list[tuple[str, float]]:
    """Split a name into texts, which are compared as texts, and the numbers that follow them, compared as numbers."""
    pieces = re.split(rf"({NUMBER})", name)
    return [(text, float(number)) for text, number in zip(pieces[::2], [*pieces[1::2], "-1"], strict=True)]


def folded(name: str) -> str:
    """Give a name without differences of writing: capitals, spaces, and the way in which Unicode composes letters.

    >>> folded("  New\u00a0York") == folded("new york"), folded("e\u0301") == folded("\u00c9")
    (True, True)
    """
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def alike(names: Iterable[str]) -> tuple[str, str] | None:
    """Find two names that differ only by capitals, by spaces, or by the way in which a number is written.

    >>> alike(["cat", "dog", "Cat "]), alike(["10", "10.0"]), alike(["1", "2"])
    (('Cat ', 'cat'), ('10', '10.0'), None)
    """
    seen: dict[object, str] = {}
    for name in sorted(names):
        kind, value = key_of(name)
        key = (kind, value) if kind != "text" else key_of(folded(name))
        if key in seen:
            return seen[key], name
        seen[key] = name
    return None
