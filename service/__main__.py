"""The console script: ``guardhouse drain`` without torch and all that the other commands import, and those with it."""

import sys

__all__ = ["run"]

DRAIN = "drain"


def run() -> None:
    """Run the command line."""
    if sys.argv[1:2] == [DRAIN]:
        import typer  # noqa: PLC0415 - one of the two, and never both

        from service.drain import drain  # noqa: PLC0415

        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command()(drain)
        alone(args=sys.argv[2:], prog_name=f"guardhouse {DRAIN}")
        return
    from service.cli import run as run_any  # noqa: PLC0415

    run_any()


if __name__ == "__main__":
    run()
