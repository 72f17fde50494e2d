"""Whether alibi-detect can be had, in an environment of its own or in this one."""

from guards.monitors.alibi_python import alibi_python

__all__ = ["LACKING"]


def _lacking() -> str | None:
    try:
        alibi_python()
    except ValueError as sentence:
        return str(sentence)
    return None


LACKING = _lacking()
"""Why it cannot be had, or None."""
