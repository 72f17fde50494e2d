"""The help of every command."""

from typing import Any

import typer

from service.cli.commands import app


def test_help_holds_no_square_brackets() -> None:
    """The help is printed as rich's markup, which would drop a text in square brackets."""
    group: Any = typer.main.get_command(app)
    helps = [getattr(param, "help", None) or "" for command in group.commands.values() for param in command.params]
    assert len(helps) > 20
    assert [text for text in helps if "[" in text] == []
