"""The parts that a rule is made of. Values are numbers or texts; conditions are true, false or unknown."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Arithmetic",
    "Column",
    "Comparison",
    "Condition",
    "Joined",
    "Membership",
    "Missing",
    "Negative",
    "Not",
    "Number",
    "Text",
    "Value",
    "leaves",
]

ArithmeticSign = Literal["+", "-", "*", "/"]
ComparisonSign = Literal["<", "<=", ">", ">=", "==", "!="]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A part of a rule that begins at a character of the rule (from 0)."""

    position: int


@dataclass(frozen=True, slots=True, eq=False)
class Number(Part):
    """A number as it is written."""

    value: float


@dataclass(frozen=True, slots=True, eq=False)
class Text(Part):
    """A category's name between quotes."""

    value: str


@dataclass(frozen=True, slots=True, eq=False)
class Column(Part):
    """The row's value in a column."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Negative(Part):
    """Minus a number."""

    operand: "Value"


@dataclass(frozen=True, slots=True, eq=False)
class Arithmetic(Part):
    """A sum, difference, product or quotient."""

    sign: ArithmeticSign
    left: "Value"
    right: "Value"


@dataclass(frozen=True, slots=True, eq=False)
class Comparison(Part):
    """Two values compared."""

    sign: ComparisonSign
    left: "Value"
    right: "Value"


@dataclass(frozen=True, slots=True, eq=False)
class Membership(Part):
    """Whether a value is one of several numbers or texts."""

    value: "Value"
    choices: "tuple[Value, ...]"


@dataclass(frozen=True, slots=True, eq=False)
class Missing(Part):
    """Whether a column's value is missing."""

    column: Column


@dataclass(frozen=True, slots=True, eq=False)
class Not(Part):
    """The opposite of a condition."""

    operand: "Condition"


@dataclass(frozen=True, slots=True, eq=False)
class Joined(Part):
    """Several conditions joined by ``and`` or by ``or``."""

    word: Literal["and", "or"]
    operands: "tuple[Condition, ...]"


Value = Number | Text | Column | Negative | Arithmetic
Condition = Comparison | Membership | Missing | Not | Joined


def leaves(part: Value | Condition) -> Iterator[Column | Text]:
    """Give the columns and texts of a part, in the order in which they are written."""
    match part:
        case Column() | Text():
            yield part
        case Negative() | Not():
            yield from leaves(part.operand)
        case Arithmetic() | Comparison():
            yield from leaves(part.left)
            yield from leaves(part.right)
        case Membership():
            yield from leaves(part.value)
            for choice in part.choices:
                yield from leaves(choice)
        case Missing():
            yield part.column
        case Joined():
            for operand in part.operands:
                yield from leaves(operand)
        case Number():
            pass
