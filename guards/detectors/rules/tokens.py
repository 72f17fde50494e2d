"""Cuts a rule into tokens: numbers, texts in quotes, names of columns, and symbols."""

import re
from dataclasses import dataclass
from typing import Literal

from guards.detectors.rules.errors import RuleError

__all__ = ["Token", "tokens_of"]

TokenKind = Literal["number", "text", "name", "word", "symbol", "end"]
WORDS = {"and", "or", "not", "in", "is", "missing"}
TOKENS = 250
"""A rule of more tokens is refused: nobody could read such a rule, and Python's stack is finite."""
PATTERN = re.compile(
    r"""(?P<space>\s+)
    | (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<text>'[^']*'|"[^"]*")
    | (?P<quoted>`[^`]+`)
    | (?P<name>[^\W\d]\w*)
    | (?P<symbol><=|>=|==|!=|[-+*/<>(),\[\]])""",
    re.VERBOSE,
)
HINTS = {
    "=": "two values are compared with `==`",
    "&": "write `and`",
    "|": "write `or`",
    "!": "write `not`",
    "'": "the text has no closing quote",
    '"': "the text has no closing quote",
    "`": "the name has no closing backtick",
}


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a rule, with the position of its first character."""

    kind: TokenKind
    text: str
    position: int


def tokens_of(rule: str) -> list[Token]:
    """Cut a rule into tokens; the last token has the kind ``end``.

    Raises:
        RuleError: the rule has too many tokens, or a character belongs to no token.
    """
    tokens: list[Token] = []
    position = 0
    while position < len(rule):
        if len(tokens) == TOKENS:
            raise RuleError(rule, position, f"a rule has at most {TOKENS} words and signs: write several rules")
        found = PATTERN.match(rule, position)
        if found is None:
            character = rule[position]
            hint = HINTS.get(character, "put a column's name with such a character between backticks")
            raise RuleError(rule, position, f"{character!r} has no meaning in a rule; {hint}")
        kind, text = found.lastgroup, found.group()
        if kind == "number":
            tokens.append(Token("number", text, position))
        elif kind in {"text", "quoted"}:
            tokens.append(Token("text" if kind == "text" else "name", text[1:-1], position))
        elif kind == "name":
            tokens.append(Token("word" if text in WORDS else "name", text, position))
        elif kind == "symbol":
            tokens.append(Token("symbol", text, position))
        position = found.end()
    return [*tokens, Token("end", "", len(rule))]
