"""Notes and warnings, printed for people."""

from rich.console import Console
from rich.markup import escape

from guards.notices import Notices
from guards.types import Mistake

__all__ = ["refuse_warnings", "show_notices"]


def show_notices(notices: Notices, console: Console) -> None:
    """Print every note and every warning on a line of its own."""
    for note in notices.notes:
        console.print(f"[cyan]note:[/] {escape(note)}", highlight=False)
    for warning in notices.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False)


def refuse_warnings(notices: Notices, *, strict: bool) -> None:
    """Make warnings mistakes if the command was given ``--strict``.

    Raises:
        Mistake: there is a warning.
    """
    if strict and notices.warnings:
        raise Mistake(*notices.warnings)
