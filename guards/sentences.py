"""Pieces of sentences for users: names, numbers with their nouns, and the first line of an exception."""

import json
from collections.abc import Iterable, Sequence

__all__ = ["agreeing", "as_list", "counted", "first_line", "named", "row_numbers"]

FEW_ROWS = 5


def counted(number: int, noun: str) -> str:
    """Give a number with its noun.

    >>> counted(1, "row"), counted(2, "row")
    ('1 row', '2 rows')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def agreeing(number: int, one: str, more: str) -> str:
    """Choose the form of a word that agrees with a number.

    >>> agreeing(1, "has", "have"), agreeing(0, "has", "have")
    ('has', 'have')
    """
    return one if number == 1 else more


def named(names: Sequence[object], most: int, *, noun: str = "", quoted: bool = True) -> str:
    """Join names with commas, in quotes if ``quoted``; of more than ``most`` names, the first, and a count of the rest.

    >>> named(["a", "b", "c"], 2), named(["a", "b", "c"], 1, noun="column"), named([0, 1], 2, quoted=False)
    ("'a', 'b' and 1 more", "'a' and 2 more columns", '0, 1')
    """
    shown = ", ".join(map(repr if quoted else str, names[:most]))
    rest = len(names) - most
    return shown if rest <= 0 else f"{shown} and {counted(rest, f'more {noun}') if noun else f'{rest} more'}"


def as_list(names: Iterable[str], most: int = 10) -> str:
    """Write names as a list that can be pasted into a config; of more than ``most`` names, the first.

    >>> as_list(["NA", "?"])
    '["NA", "?"]'
    """
    names = list(names)
    shown = [json.dumps(name, ensure_ascii=False) for name in names[:most]]
    more = [f"... {len(names) - most} more"] if len(names) > most else []
    return f"[{', '.join([*shown, *more])}]"


def row_numbers(rows: Sequence[int]) -> str:
    """List row numbers, counted from 0; of more than five rows, the first five.

    >>> row_numbers(range(7)), row_numbers([3])
    ('rows 0, 1, 2, 3, 4 and 2 more', 'row 3')
    """
    return f"{'row' if len(rows) == 1 else 'rows'} {named(rows, FEW_ROWS, quoted=False)}"


def first_line(error: BaseException, otherwise: str | None = None) -> str:
    """Return the first line of an exception's text; if the text is empty, ``otherwise`` or the exception's type.

    >>> first_line(ValueError("too long: see below")), first_line(MemoryError()), first_line(EOFError(), "damaged")
    ('too long: see below', 'MemoryError', 'damaged')
    """
    lines = str(error).splitlines()
    if lines:
        return lines[0]
    return type(error).__name__ if otherwise is None else otherwise
