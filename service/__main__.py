"""The console script ``guardhouse``. Its commands ``drain`` and ``wait`` start without importing torch."""

import sys
from importlib import import_module

__all__ = ["run"]

LIGHT = ("drain", "wait")


def run() -> None:
    """Run the command line."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in LIGHT:
        import typer  # noqa: PLC0415 - only the light commands need it here

        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command()(getattr(import_module(f"service.cli.{name}"), name))
        alone(args=sys.argv[2:], prog_name=f"guardhouse {name}")
        return
    from service.cli.commands import run as run_any  # noqa: PLC0415

    run_any()


if __name__ == "__main__":
    run()
