"""Finds the name that a value means: numbers and booleans can be written in several ways."""

import re
from collections.abc import Iterable
from decimal import Decimal

from guards.input.cell_faults import describe

__all__ = ["NUMERAL", "Key", "Spellings", "key_of", "number_of"]

Key = tuple[str, object]
"""``("number", Decimal)``, ``("boolean", bool)`` or ``("text", str)``: equal if two writings mean the same."""

NUMERAL = r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?"
"""A decimal number, for the regular expressions of Python and of RE2: not 007, inf, 0x1F or 1_000."""
LONGEST_NUMERAL = 60
LARGEST_INTEGER = 2**63
"""JSON writers take smaller integers."""
BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


def key_of(value: object) -> Key:
    """Return what a value means, regardless of its spelling.

    Digits after a leading zero are a text, such as a postal code, and not a number.

    >>> key_of("7.0") == key_of(7), key_of("TRUE") == key_of(True), key_of("07") == key_of(7), key_of(1) == key_of(True)
    (True, True, False, False)
    """
    if isinstance(value, bool):
        return "boolean", value
    if isinstance(value, int):
        return "number", Decimal(value)
    if isinstance(value, float):
        return "number", Decimal(repr(value))
    text = str(value)
    if text in BOOLEANS:
        return "boolean", BOOLEANS[text]
    if len(text) <= LONGEST_NUMERAL and re.fullmatch(NUMERAL, text):
        return "number", Decimal(text)
    return "text", text


def number_of(name: str) -> int | float | None:
    """Return the number that a name spells; None if the name spells none, or no float is exactly that number.

    >>> number_of("7"), number_of("2.50"), number_of("07"), number_of("true"), number_of("1e30"), number_of("1e999")
    (7, 2.5, None, None, 1e+30, None)
    """
    kind, number = key_of(name)
    if kind != "number" or not isinstance(number, Decimal):
        return None
    if abs(number) < LARGEST_INTEGER and number == number.to_integral_value():
        return int(number)
    return float(number) if Decimal(repr(float(number))) == number else None


class Spellings:
    """Finds the name that a value means: the same text, or the only name with the same number or boolean.

    1, 1.0, "1" and "1.0" are one number; true, "true", "True" and "TRUE" are one boolean. 1 is neither true nor "01".
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names: dict[Key, list[str]] = {}
        for name in names:
            self._names.setdefault(key_of(name), []).append(name)

    def name_of(self, value: object) -> str | None:
        """Give the name that a value means; None if no name is meant.

        Raises:
            ValueError: the value could mean two names.
        """
        names = self._names.get(key_of(value), [])
        if value in names:
            return str(value)
        if len(names) > 1:
            raise ValueError(f"{describe(value)} could mean {names[0]!r} or {names[1]!r}: send the string")
        return names[0] if names else None
