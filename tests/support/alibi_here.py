"""Whether alibi-detect is installed, in an environment of its own or in this environment."""

from guards.monitors.alibi.interpreter import alibi_python

__all__ = ["LACKING"]


def _lacking() -> str | None:
    try:
        alibi_python()
    except ValueError as sentence:
        return str(sentence)
    return None


LACKING = _lacking()
"""Why alibi-detect cannot be used; None if it can."""
