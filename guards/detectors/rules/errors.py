"""The error of a rule that cannot be read or does not fit the columns."""

__all__ = ["RuleError"]

SHOWN = 60
"""So many characters of a rule are shown in an error."""


class RuleError(ValueError):
    """One sentence that names the rule, the place in the rule, and the way out."""

    def __init__(self, rule: str, position: int, problem: str) -> None:
        """Say what is wrong at a character (from 0) of a rule; the message counts characters from 1."""
        shown = rule if len(rule) <= SHOWN else rule[:SHOWN] + "..."
        super().__init__(f"rule {shown!r}, character {position + 1}: {problem}")
