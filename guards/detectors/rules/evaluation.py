"""Evaluates a rule on rows: numbers with their rounding errors, and conditions that may be unknown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from guards.detectors.rules.expressions import (
    Arithmetic,
    Column,
    Comparison,
    Condition,
    Joined,
    Membership,
    Missing,
    Negative,
    Not,
    Number,
    Text,
    Value,
)

__all__ = ["Evaluation", "Truth"]

HALF_STEP = 2.0**-24
"""The largest relative error of a number that was rounded to float32."""


class Truth(NamedTuple):
    """A condition of each row (n,) bool: surely true, surely false. A condition that is neither is unknown.

    Unknown conditions combine as in SQL (Kleene's logic): ``false and unknown`` is false, ``true or unknown`` is true.
    """

    yes: Tensor
    no: Tensor


class Inexact(NamedTuple):
    """A number of each row (n,) float64, NaN if missing, and a bound of its rounding error."""

    value: Tensor
    error: Tensor


@dataclass(frozen=True)
class Evaluation:
    """Evaluates conditions on rows.

    ``numbers`` are the numeric columns (n,) float64 and ``categories`` the codes (n,) of categorical columns, by name;
    NaN is missing, and -1 an unseen category. ``codes`` are the codes of the texts, by the text's part of the rule.
    Rows hold float32: 0.1 is stored as a number nearby. So two numbers are equal if float32 cannot tell them apart.
    """

    numbers: Mapping[str, Tensor]
    categories: Mapping[str, Tensor]
    codes: Mapping[int, float]
    zero: Tensor
    """Zero of each row (n,) float64."""

    def truth(self, condition: Condition) -> Truth:
        """Evaluate a condition of a rule that fits the columns."""
        match condition:
            case Comparison():
                return self._comparison(condition)
            case Membership(value=value, choices=choices):
                return self._any([self.truth(Comparison(value.position, "==", value, each)) for each in choices])
            case Missing(column=column):
                absent = (self.categories if self._is_category(column) else self.numbers)[column.name].isnan()
                return Truth(absent, ~absent)
            case Not(operand=operand):
                inner = self.truth(operand)
                return Truth(inner.no, inner.yes)
            case Joined(word=word, operands=operands):
                truths = [self.truth(each) for each in operands]
                if word == "or":
                    return self._any(truths)
                opposite = self._any([Truth(each.no, each.yes) for each in truths])
                return Truth(opposite.no, opposite.yes)

    def _comparison(self, condition: Comparison) -> Truth:
        left, right = condition.left, condition.right
        if isinstance(left, Text) or isinstance(right, Text) or self._is_category(left):
            return self._texts(left, right, equal=condition.sign == "==")
        return self._numbers(condition.sign, self._number(left), self._number(right))

    @staticmethod
    def _any(truths: list[Truth]) -> Truth:
        return Truth(
            torch.stack([each.yes for each in truths]).any(0), torch.stack([each.no for each in truths]).all(0)
        )

    def _is_category(self, value: Value) -> bool:
        return isinstance(value, Column) and value.name in self.categories

    def _texts(self, left: Value, right: Value, *, equal: bool) -> Truth:
        """Compare categories; two unseen categories may be the same category or not."""
        first, second = self._code(left), self._code(right)
        unknown = first.isnan() | second.isnan() | ((first < 0) & (second < 0))
        same, other = (first == second) & ~unknown, (first != second) & ~unknown
        return Truth(same, other) if equal else Truth(other, same)

    def _code(self, value: Value) -> Tensor:
        if isinstance(value, Column):
            return self.categories[value.name]
        return self.zero + self.codes[id(value)]

    @staticmethod
    def _numbers(sign: str, left: Inexact, right: Inexact) -> Truth:
        gap, error = left.value - right.value, left.error + right.error
        known = gap.isfinite()
        match sign:
            case "==" | "!=":
                found = (gap.abs() <= error) == (sign == "==")
            case ">=":
                found = gap >= -error
            case "<=":
                found = gap <= error
            case ">":
                found = gap > error
            case _:
                found = gap < -error
        return Truth(found & known, ~found & known)

    def _number(self, value: Value) -> Inexact:
        match value:
            case Number(value=number):
                return Inexact(self.zero + number, self.zero)
            case Column(name=name):
                column = self.numbers[name]
                # A whole number of float32 is what was sent: whole numbers below 2^24 are not rounded.
                whole = (column == column.round()) & (column.abs() < 1 / HALF_STEP)
                return Inexact(column, torch.where(whole, 0.0, column.abs() * HALF_STEP))
            case Negative(operand=operand):
                inner = self._number(operand)
                return Inexact(-inner.value, inner.error)
            case Arithmetic(sign=sign, left=left, right=right):
                return self._arithmetic(sign, self._number(left), self._number(right))
            case Text():
                raise AssertionError("a text is no number: the rule was not checked against the columns")

    @staticmethod
    def _arithmetic(sign: str, a: Inexact, b: Inexact) -> Inexact:
        match sign:
            case "+":
                return Inexact(a.value + b.value, a.error + b.error)
            case "-":
                return Inexact(a.value - b.value, a.error + b.error)
            case "*":
                return Inexact(a.value * b.value, a.value.abs() * b.error + b.value.abs() * a.error)
            case _:
                ratio = a.value / b.value
                return Inexact(ratio, (a.error + ratio.abs() * b.error) / b.value.abs())
