"""Runs checks of the conformance kits, and names those that fail."""

from collections.abc import Callable, Mapping

__all__ = ["failing"]


def failing(checks: Mapping[str, Callable[[], None]]) -> set[str]:
    """Run all checks, and name those that fail."""
    failed = set()
    for name, check in checks.items():
        try:
            check()
        except Exception:  # noqa: BLE001 - a check may fail by whatever the cheat raises
            failed.add(name)
    return failed
