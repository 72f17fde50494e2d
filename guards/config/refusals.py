"""Sentences for what pydantic refuses in a config: pydantic's own sentences name types of Python and patterns."""

from collections.abc import Mapping

from pydantic_core import ErrorDetails

from guards.config.plugins import Group, broken_plugins, registered

__all__ = ["PATTERNS", "refusal"]

MESSAGES = {
    "extra_forbidden": "unknown key",
    "missing": "missing",
    "tuple_type": "this must be a list: write the values in brackets, such as [first, second]",
    "model_type": "this must be a mapping: write keys with their values, such as {name: age}",
    "string_type": 'this must be one text: write the text in quotes, such as "7.5"',
}
"""Sentences by pydantic's type of an error."""
PATTERNS = {
    r"^[a-z0-9-]+$": "only lower-case letters, digits and hyphens, such as credit-risk",
    r"^[A-Za-z0-9._-]+$": "only letters, digits, dots, underscores and hyphens, such as 1.2",
    r"^[A-Za-z0-9_-]+$": "only letters, digits, underscores and hyphens, such as input-quality",
    r"^[A-Za-z_][A-Za-z0-9_-]*$": "only letters, digits, underscores and hyphens, and no digit or hyphen first",
    r"^[A-Za-z0-9-]{1,64}$": "only letters, digits and hyphens, at most 64 of them, such as X-Tenant",
    r"^[\w.]+:\w+$": "a module, a colon and a function, such as package.module:build",
    r"^(auto|cpu|cuda(:\d+)?)$": "auto, cpu, cuda or the number of a device, such as cuda:0",
    r"^(\*|[a-z][a-z0-9+.-]*://[A-Za-z0-9.\[\]:_-]+)$": "an origin without a path, such as https://example.org, or *",
}
"""What a text must be, by the pattern that it must match."""

GROUPS: Mapping[str, Group] = {
    "guards": "detectors", "memory_guards": "memory_guards", "monitors": "monitors", "explain": "explainers",
}  # fmt: skip
"""The group of plug-ins of each section of the config."""


def refusal(error: ErrorDetails) -> str:
    """Say in one sentence which key is wrong, and what belongs there."""
    place = ".".join(map(str, error["loc"]))
    message = MESSAGES.get(error["type"], error["msg"])
    message = message.removeprefix("Value error, ")
    context = error.get("ctx", {})
    if error["type"] == "string_pattern_mismatch":
        wanted = PATTERNS.get(context["pattern"], f"a text that matches {context['pattern']!r}")
        message = f"{error['input']!r} must be {wanted}"
    elif error["type"] == "union_tag_invalid":
        message = f"{context['tag']!r} is not known; there are {context['expected_tags']}"
        group = GROUPS.get(str(error["loc"][0]))
        reason = broken_plugins(group).get(context["tag"]) if group else None
        message += f" (installed, but broken: {reason})" if reason else ""
        if group == "detectors" and context["tag"] in registered("memory_guards"):
            message = (
                f"{context['tag']} is a guard with memory: write it under `memory_guards`, as a monitor is written"
            )
    elif error["type"] == "union_tag_not_found":
        message = "missing its `kind`" if error["loc"][0] != "explain" else "missing its `method`"
    return f"{place}: {message}" if place else message
