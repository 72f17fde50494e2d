"""The rules that a config declares for the rows of a table, fitted to the table's columns."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import NoReturn, Self

import torch
from torch import Tensor, nn

from guards.detectors.rules.errors import RuleError
from guards.detectors.rules.evaluation import Evaluation
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
    leaves,
)
from guards.detectors.rules.grammar import parse_rule
from guards.input.schema import InputSchema

__all__ = ["RowRules"]

NAMES_SHOWN = 20


class RowRules(nn.Module):
    """Conditions that sound rows fulfil. A rule is broken if its condition is surely false.

    If a missing value decides a condition, the condition is unknown, and the rule is not broken (as a CHECK of SQL). A
    quotient by zero counts as missing. ``places`` (c,) are the places of the columns in a row, ``categorical`` (c,)
    says which of the columns are categorical, and ``codes`` (t,) are the codes of the texts; each in the order in which
    the rules name them.
    """

    places: Tensor
    categorical: Tensor
    codes: Tensor

    def __init__(self, rules: Sequence[str]) -> None:
        """Read the rules.

        Raises:
            RuleError: a rule cannot be read.
        """
        super().__init__()
        self._rules = [(rule, parse_rule(rule)) for rule in rules]
        found = [leaf for _, condition in self._rules for leaf in leaves(condition)]
        self._columns = list(dict.fromkeys(leaf.name for leaf in found if isinstance(leaf, Column)))
        self._texts = [leaf for leaf in found if isinstance(leaf, Text)]
        self._host: tuple[list[int], list[bool], list[float]] | None = None
        self.register_buffer("places", torch.empty(0, dtype=torch.int64))
        self.register_buffer("categorical", torch.empty(0, dtype=torch.bool))
        self.register_buffer("codes", torch.empty(0))

    def __len__(self) -> int:
        """Count the rules."""
        return len(self._rules)

    @property
    def names(self) -> tuple[str, ...]:
        """Name each rule as a cause: by its text."""
        return tuple(f"rule {' '.join(rule.split())}" for rule, _ in self._rules)

    def check(self, schema: InputSchema) -> dict[int, float]:
        """Check the rules against the columns, and give the code of each text, by the text's identity.

        Raises:
            RuleError: a rule names a column or a category that the table lacks, or compares a number with a text.
        """
        codes: dict[int, float] = {}
        for rule, condition in self._rules:
            _Binding(rule, schema, codes).check(condition)
        return codes

    def fit(self, schema: InputSchema) -> Self:
        """Find the columns and categories that the rules name.

        Raises:
            RuleError: a rule does not fit the columns.
        """
        codes = self.check(schema)
        categories = schema.categorical
        self.places = torch.tensor([schema.names.index(name) for name in self._columns], dtype=torch.int64)
        self.categorical = categories[self.places]
        self.codes = torch.tensor([codes[id(text)] for text in self._texts], dtype=torch.float32)
        self._host = None
        return self

    def broken(self, x: Tensor) -> Tensor:
        """Mark the rules (n, r) that rows x (n, d) break."""
        if self._host is None:  # the buffers are read once, not for each batch
            self._host = (self.places.tolist(), self.categorical.tolist(), self.codes.tolist())
        places, categorical, codes = self._host
        columns = {name: x[:, place].double() for name, place in zip(self._columns, places, strict=True)}
        kinds = dict(zip(self._columns, categorical, strict=True))
        evaluation = Evaluation(
            numbers={name: column for name, column in columns.items() if not kinds[name]},
            categories={name: column for name, column in columns.items() if kinds[name]},
            codes={id(text): code for text, code in zip(self._texts, codes, strict=True)},
            zero=x.new_zeros(len(x), dtype=torch.float64),
        )
        return torch.stack([evaluation.truth(condition).no for _, condition in self._rules], dim=1)


class _Binding:
    """Checks a rule against the columns, and notes the code of each text under the text's identity."""

    def __init__(self, rule: str, schema: InputSchema, codes: dict[int, float]) -> None:
        self._rule, self._codes = rule, codes
        self._columns = {column.name: column.categories for column in schema.columns}

    def check(self, condition: Condition) -> None:
        match condition:
            case Comparison(sign=sign, left=left, right=right):
                self._compare(left, right, condition.position, equality=sign in {"==", "!="})
            case Membership(value=value, choices=choices):
                for choice in choices:
                    self._compare(value, choice, choice.position, equality=True)
            case Missing(column=column):
                self._categories(column)
            case Not(operand=operand):
                self.check(operand)
            case Joined(operands=operands):
                for operand in operands:
                    self.check(operand)

    def _compare(self, left: Value, right: Value, position: int, *, equality: bool) -> None:
        first, second = self._categories(left), self._categories(right)
        if first is None and second is None and not isinstance(left, Text) and not isinstance(right, Text):
            return
        if not equality:
            self._fail(position, "categories have no order: compare them with `==`, `!=` or `in`")
        for text, column, categories in ((left, right, second), (right, left, first)):
            if isinstance(text, Text):
                self._note(text, column, categories)
                return
        if first is None or second is None:
            self._fail(position, "a number is compared with a category: compare a category with a text in quotes")
        if first != second:
            self._fail(position, "the two columns have different categories: declare the same `categories` for both")

    def _note(self, text: Text, column: Value, categories: tuple[str, ...] | None) -> None:
        if not isinstance(column, Column):
            self._fail(text.position, "a text is compared with a column: write the column's name on the other side")
        if categories is None:
            self._fail(text.position, f"column {column.name!r} is numeric: compare it with a number, without quotes")
        if text.value not in categories:
            known = ", ".join(map(repr, categories[:NAMES_SHOWN]))
            self._fail(
                text.position,
                f"column {column.name!r} has no category {text.value!r}; it has {known}: "
                "correct the rule, or declare the column's `categories`",
            )
        self._codes[id(text)] = float(categories.index(text.value))

    def _categories(self, value: Value) -> tuple[str, ...] | None:
        """Give the categories of a categorical column, and None for numbers; check the columns inside."""
        match value:
            case Column(name=name):
                if name not in self._columns:
                    self._fail(value.position, self._unknown(name))
                return self._columns[name]
            case Negative(operand=operand):
                self._numeric(operand)
            case Arithmetic(left=left, right=right):
                self._numeric(left)
                self._numeric(right)
            case Number() | Text():
                pass
        return None

    def _numeric(self, value: Value) -> None:
        if isinstance(value, Text):
            self._fail(value.position, "a text is no number: nothing can be computed with it")
        if self._categories(value) is not None:
            self._fail(value.position, "a categorical column is no number: nothing can be computed with it")

    def _unknown(self, name: str) -> str:
        close = get_close_matches(name, self._columns, 1)
        starting = [known for known in self._columns if known.startswith(name) and known != name]
        if close:
            hint = f"did you mean `{close[0]}`? The"
        elif starting:
            hint = f"put a name with spaces or signs between backticks, such as `{starting[0]}`; the"
        else:
            hint = "the"
        names = ", ".join(list(self._columns)[:NAMES_SHOWN])
        more = len(self._columns) - NAMES_SHOWN
        return f"there is no column {name!r}: {hint} columns are {names}{f' and {more} more' if more > 0 else ''}"

    def _fail(self, position: int, problem: str) -> NoReturn:
        raise RuleError(self._rule, position, problem)
