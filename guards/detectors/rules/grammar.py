"""Reads a rule by recursive descent. Nothing of a rule is ever executed as code.

The grammar, in which ``*`` means any number of times, and ``?`` at most once::

    rule       = all ("or" all)*
    all        = opposite ("and" opposite)*
    opposite   = "not" opposite | test
    test       = sum (("<" | "<=" | ">" | ">=" | "==" | "!=") sum)*
               | sum "not"? "in" "[" literal ("," literal)* "]"
               | column "is" "not"? "missing"
    sum        = product (("+" | "-") product)*
    product    = factor (("*" | "/") factor)*
    factor     = "-" factor | number | text | column | "(" rule ")"
    literal    = "-"? number | text
"""

import math
from typing import NoReturn, cast, get_args

from guards.detectors.rules.errors import RuleError
from guards.detectors.rules.expressions import (
    Arithmetic,
    ArithmeticSign,
    Column,
    Comparison,
    ComparisonSign,
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
from guards.detectors.rules.tokens import Token, tokens_of

__all__ = ["parse_rule"]

DEPTH = 30
"""Deeper parentheses and chains of signs are refused, long before Python's stack ends."""
COMPARISONS = get_args(ComparisonSign)


def parse_rule(rule: str) -> Condition:
    """Read a rule.

    Raises:
        RuleError: the text is no rule; the message says where, and what is expected there.
    """
    return _Parser(rule).parse()


class _Parser:
    def __init__(self, rule: str) -> None:
        self._rule, self._tokens, self._at, self._depth = rule, tokens_of(rule), 0, 0

    def parse(self) -> Condition:
        condition = self._condition(self._any())
        if self._next.kind != "end":
            self._refuse(f"{self._next.text!r} does not belong here; join conditions with `and` or `or`")
        if not any(isinstance(leaf, Column) for leaf in leaves(condition)):
            self._fail(0, "the rule names no column, so that it says nothing about a row")
        return condition

    def _any(self) -> Value | Condition:
        self._depth += 1
        if self._depth > DEPTH:
            self._refuse("the rule is nested too deeply: write several rules")
        first = self._all()
        if self._takes("or"):
            operands = [self._condition(first), self._condition(self._all())]
            while self._takes("or"):
                operands.append(self._condition(self._all()))
            first = Joined(operands[0].position, "or", tuple(operands))
        self._depth -= 1
        return first

    def _all(self) -> Value | Condition:
        first = self._opposite()
        if not self._takes("and"):
            return first
        operands = [self._condition(first), self._condition(self._opposite())]
        while self._takes("and"):
            operands.append(self._condition(self._opposite()))
        return Joined(operands[0].position, "and", tuple(operands))

    def _opposite(self) -> Value | Condition:
        start, count = self._next.position, 0
        while self._takes("not"):
            count += 1
        found = self._test()
        return Not(start, self._condition(found)) if count % 2 else self._condition(found) if count else found

    def _test(self) -> Value | Condition:
        first = self._sum()
        token = self._next
        if token.kind == "symbol" and token.text in COMPARISONS:
            return self._chain(self._value(first))
        if token.kind == "word" and token.text == "is":
            return self._missing(first)
        negated = token.kind == "word" and token.text == "not"
        if negated or (token.kind == "word" and token.text == "in"):
            self._at += 1
            if negated and not self._takes("in"):
                self._refuse("`not` between two values needs `in`")
            inside = Membership(token.position, self._value(first), self._choices())
            return Not(token.position, inside) if negated else inside
        return first

    def _chain(self, left: Value) -> Condition:
        links: list[Condition] = []
        while self._next.kind == "symbol" and self._next.text in COMPARISONS:
            token = self._take()
            right = self._value(self._sum())
            links.append(Comparison(token.position, cast("ComparisonSign", token.text), left, right))
            left = right
        return links[0] if len(links) == 1 else Joined(links[0].position, "and", tuple(links))

    def _missing(self, first: Value | Condition) -> Condition:
        token = self._take()
        negated = self._takes("not")
        if not self._takes("missing"):
            self._refuse("`is` is followed by `missing` or `not missing`; two values are compared with `==`")
        if not isinstance(first, Column):
            self._fail(token.position, "only a column can be missing: write its name before `is`")
        found = Missing(token.position, first)
        return Not(token.position, found) if negated else found

    def _choices(self) -> tuple[Value, ...]:
        if not self._takes("["):
            self._refuse("`in` is followed by a list: [1, 2] or ['a', 'b']")
        choices = [self._literal()]
        while self._takes(","):
            choices.append(self._literal())
        if not self._takes("]"):
            self._refuse("expected `,` or `]` in the list")
        return tuple(choices)

    def _literal(self) -> Value:
        token = self._next
        if self._takes("-"):
            return Negative(token.position, self._number())
        if token.kind == "text":
            return Text(self._take().position, token.text)
        return self._number()

    def _sum(self) -> Value | Condition:
        left = self._product()
        while self._next.kind == "symbol" and self._next.text in {"+", "-"}:
            left = self._arithmetic(left, self._take(), self._product())
        return left

    def _product(self) -> Value | Condition:
        left = self._factor()
        while self._next.kind == "symbol" and self._next.text in {"*", "/"}:
            left = self._arithmetic(left, self._take(), self._factor())
        return left

    def _arithmetic(self, left: Value | Condition, sign: Token, right: Value | Condition) -> Value:
        return Arithmetic(sign.position, cast("ArithmeticSign", sign.text), self._value(left), self._value(right))

    def _factor(self) -> Value | Condition:
        token = self._next
        if self._takes("("):
            inner = self._any()
            if not self._takes(")"):
                self._refuse("expected `)`")
            return inner
        if self._takes("-"):
            self._depth += 1
            if self._depth > DEPTH:
                self._refuse("the rule is nested too deeply: write several rules")
            operand = self._value(self._factor())
            self._depth -= 1
            return Negative(token.position, operand)
        if token.kind == "name":
            self._at += 1
            if self._next.text == "(":
                self._refuse("a rule has no functions: compute with + - * / and parentheses")
            return Column(token.position, token.text)
        if token.kind == "text":
            return Text(self._take().position, token.text)
        return self._number()

    def _number(self) -> Number:
        token = self._next
        if token.kind != "number":
            what = "the rule ends" if token.kind == "end" else f"{token.text!r} stands"
            self._refuse(f"{what} where a column, a number or a text in quotes is expected")
        value = float(self._take().text)
        if not math.isfinite(value):
            self._fail(token.position, "the number is too large for a float")
        return Number(token.position, value)

    def _condition(self, found: Value | Condition) -> Condition:
        if isinstance(found, Value):
            self._fail(found.position, "a condition is expected here, such as `age < 120` or `age is missing`")
        return found

    def _value(self, found: Value | Condition) -> Value:
        if isinstance(found, Condition):
            self._fail(found.position, "a number or a column is expected here, and this is a condition")
        return found

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def _takes(self, text: str) -> bool:
        """Take the next token if it is this word or symbol."""
        found = self._next.kind in {"word", "symbol"} and self._next.text == text
        self._at += found
        return found

    def _refuse(self, problem: str) -> NoReturn:
        self._fail(self._next.position, problem)

    def _fail(self, position: int, problem: str) -> NoReturn:
        raise RuleError(self._rule, position, problem)
