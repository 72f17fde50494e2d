"""Prints the notes and warnings of a command on standard error."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from guards.notices import Notices
from guards.types import Mistake

__all__ = ["noticing", "print_notices", "refuse_warnings"]


def print_notices(notices: Notices, console: Console, *, warnings: Sequence[str] = ()) -> None:
    """Print the notes, the warnings, and more ``warnings``."""
    for note in notices.notes:
        console.print(f"[cyan]note:[/] {escape(note)}", highlight=False, soft_wrap=True)
    for warning in [*notices.warnings, *warnings]:
        console.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False, soft_wrap=True)


@contextmanager
def noticing(console: Console) -> Iterator[Notices]:
    """Collect notices and print them at the end, even if a mistake ends the command: a note may explain the mistake."""
    notices = Notices()
    try:
        yield notices
    finally:
        print_notices(notices, console)


def refuse_warnings(notices: Notices, console: Console, *, strict: bool) -> None:
    """Turn warnings into a mistake if the command was given ``--strict``; the notes are printed first.

    Raises:
        Mistake: there is a warning.
    """
    if strict and notices.warnings:
        print_notices(Notices(notes=notices.notes), console)
        raise Mistake(*notices.warnings)
