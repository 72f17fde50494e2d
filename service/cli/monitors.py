"""The command ``monitors``: shows the monitors of a running server, and changes them as an admin."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from guards.cli.server_key import KEY_HINT, key_header, needs_key
from guards.errors import Mistake

__all__ = ["monitors"]

TIMEOUT_SECONDS = 120.0
"""An exclusion takes a while if many rows are stored."""
Url = Annotated[str, typer.Option(help="the server, such as http://localhost:3000")]
Reason = Annotated[str, typer.Option(help="why: kept on record, and shown with the monitors")]
Principal = Annotated[str, typer.Argument(help="the principal, as in the file of keys")]

monitors = typer.Typer(no_args_is_help=True)


@monitors.callback()
def _group() -> None:
    """Show the monitors of a server, and change them as an admin."""


@monitors.command("show")
def show(
    url: Url, *, as_json: Annotated[bool, typer.Option("--json", help="the whole report as JSON")] = False
) -> None:
    """Show the state of every monitor, the rows that it did not count, and what admins changed."""
    report = _asked(url, "GET", "")
    if as_json:
        typer.echo(json.dumps(report))
        return
    states = Table("monitor", "kind", "state", "since", "rows not counted")
    for name, entry in report["monitors"].items():
        skipped = ", ".join(f"{reason} {rows}" for reason, rows in entry.get("skipped", {}).items() if rows)
        states.add_row(name, entry["kind"], entry["state"], entry["since"], skipped or "0")
    changes = Table("time", "by", "change", "reason")
    for change in report["changes"]:
        subject = change.get("principal") or change.get("monitor")
        changes.add_row(change["time"], change["by"], f"{change['change']} {subject}", escape(change["reason"]))
    console = Console()
    console.print(states)
    if report["changes"]:
        console.print(changes)


@monitors.command("exclude")
def exclude(principal: Principal, url: Url, reason: Reason) -> None:
    """Count no row of a principal any more, and take its stored rows out of the totals."""
    changed = _asked(url, "POST", ":exclude", principal=principal, reason=reason)
    typer.echo(f"{changed['rows']} rows were taken out of the totals; no new row of {principal} counts")
    if changed["not_corrected"]:
        kept = ", ".join(changed["not_corrected"])
        typer.echo(f"these monitors cannot forget single rows; reset them if the rows matter: {kept}")


@monitors.command("include")
def include(principal: Principal, url: Url, reason: Reason) -> None:
    """Undo the exclusion of a principal."""
    changed = _asked(url, "POST", ":include", principal=principal, reason=reason)
    typer.echo(f"{changed['rows']} rows were put back into the totals; new rows of {principal} count")


@monitors.command("reset")
def reset(monitor: Annotated[str, typer.Argument(help="the monitor's name")], url: Url, reason: Reason) -> None:
    """Let a monitor forget every row of the served bundle, and end its alarm."""
    _asked(url, "POST", ":reset", monitor=monitor, reason=reason)
    typer.echo(f"{monitor} starts anew")


def _asked(url: str, method: str, action: str, **body: str) -> Mapping[str, Any]:
    """Ask the server of the first model for its monitors, or change them.

    Raises:
        Mistake: the server cannot be reached, is no Guardhouse server, or refuses.
    """
    try:
        with httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS, headers=key_header()) as client:
            names = _read(client.get("/v1/models")).get("models")
            if not isinstance(names, list) or not names:
                raise Mistake(f"--url {url}: there is no model")
            return _read(client.request(method, f"/v1/models/{names[0]}/monitors{action}", json=body or None))
    except (httpx.HTTPError, httpx.InvalidURL) as lost:
        raise Mistake(f"--url {url}: {lost}") from None


def _read(response: httpx.Response) -> Mapping[str, Any]:
    try:
        document = response.json()
    except ValueError:
        document = None
    if response.status_code == HTTPStatus.OK and isinstance(document, dict):
        return document
    told = document if isinstance(document, dict) else {}
    faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in told.get("errors", [])]
    sentence = "; ".join(faults) or told.get("detail") or f"answered {response.status_code}"
    if response.status_code == HTTPStatus.GATEWAY_TIMEOUT:
        sentence = (
            f"{sentence}; the server goes on with the change: `guardhouse monitors show` lists it once it is recorded"
        )
    raise Mistake(f"{response.request.url}: {sentence}{f'; {KEY_HINT}' if needs_key(response.status_code) else ''}")
