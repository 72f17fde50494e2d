"""``guardhouse groups``: prints and draws the rates of each group that a running server reports."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import httpx
from rich.console import Console
from rich.table import Table as Grid

from guards.cli.server_key import KEY_HINT, key_header, needs_key
from guards.types import Mistake

__all__ = ["Figure", "Watched", "draw", "fetch", "show"]

TIMEOUT = 30.0
SCOPES = ("bundle", "version", "lifetime")
OF_GROUPS = (
    "selection_rate", "true_positive_rate", "false_positive_rate", "positive_predictive_value", "accuracy",
    "calibration_gap", "mean_error", "action_rate", "label_coverage",
)  # fmt: skip
COMPARED = (
    "demographic_parity_difference", "equal_opportunity_difference", "equalized_odds_difference",
    "accuracy_difference", "mean_error_difference",
)  # fmt: skip
RECENT = tuple(f"recent_{name}" for name in COMPARED)
DRAWN = ("selection_rate", "true_positive_rate", "false_positive_rate", "accuracy", "mean_error")
DEPENDENT = (
    "labels come for some predictions and never for others, as if only approved loans are ever repaid: rates that need "
    "labels only count the predictions whose labels can come"
)


class Figure(TypedDict):
    """One statistic, as ``/monitors`` reports the statistic."""

    name: str
    value: float | None
    interval: tuple[float, float] | None
    n: int | None
    """None if a server hides the figure, since it is of a few rows."""
    labels: dict[str, str]


class Watched(TypedDict):
    """One monitor, as ``/monitors`` reports the monitor."""

    kind: str
    state: str
    since: str | None
    statistics: list[Figure]


def fetch(url: str, *, of: str = "bundle", client: httpx.Client | None = None) -> dict[str, Watched]:
    """Ask a server for its groups monitors by name; ``of`` is the query parameter that says which rows are counted.

    Raises:
        Mistake: there is no such ``of``, the server does not answer as a Guardhouse server, or has no groups monitor.
    """
    if of not in SCOPES:
        raise Mistake(f"--of {of}: there are {', '.join(SCOPES)}")
    query = "" if of == "bundle" else f"?of={of}"
    own = client is None
    client = httpx.Client(timeout=TIMEOUT, headers=key_header()) if client is None else client
    url = url.rstrip("/")
    try:
        models = _answer(client, f"{url}/v1/models")["models"]
        monitors: Mapping[str, Watched] = _answer(client, f"{url}/v1/models/{models[0]}/monitors{query}")["monitors"]
    except (KeyError, IndexError, TypeError) as strange:
        raise Mistake(f"--url {url}: that is no Guardhouse server, or an older one") from strange
    finally:
        if own:
            client.close()
    groups = {name: monitor for name, monitor in monitors.items() if monitor["kind"] == "groups"}
    if not groups:
        raise Mistake(f"--url {url}: {models[0]} has no groups monitor; its config may name some under `monitors`")
    return groups


def _answer(client: httpx.Client, url: str) -> Any:  # noqa: ANN401 - JSON
    try:
        reply = client.get(url)
        if needs_key(reply.status_code):
            raise Mistake(f"--url: {url} answered {reply.status_code}: {KEY_HINT}")
        reply.raise_for_status()
        return reply.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as unreachable:
        raise Mistake(f"--url: {url} does not answer ({unreachable})") from unreachable


def show(monitors: Mapping[str, Watched], console: Console) -> None:
    """Print one table for each monitor; statistics of no rows are left out, and what a server hides is `few`."""
    for name, monitor in monitors.items():
        since = "" if monitor["since"] is None else f" since {monitor['since']}"
        grid = Grid(title=f"{name}: {monitor['state']}{since}")
        for title in ("statistic", "group", "label", "value", "interval", "n"):
            grid.add_column(title, justify="right" if title in ("value", "interval", "n") else "left")
        for kind in (OF_GROUPS, (*COMPARED, "demographic_parity_ratio"), RECENT):
            for statistic in kind:
                for figure in (each for each in _of(monitor, statistic) if each["n"] != 0):
                    grid.add_row(statistic, *_cells(figure))
            grid.add_section()
        console.print(grid)
        if any(figure["value"] for figure in _of(monitor, "labels_depend_on_decision")):
            console.print(f"[yellow]warning:[/] {DEPENDENT}", highlight=False)


def _cells(figure: Figure) -> tuple[str, str, str, str, str]:
    labels, interval = figure["labels"], figure["interval"]
    label = labels.get("label", labels.get("action", ""))
    value = "" if figure["value"] is None else f"{figure['value']:.4f}"
    bounds = "" if interval is None else f"[{interval[0]:.4f}, {interval[1]:.4f}]"
    return labels.get("group", ""), label, value, bounds, "few" if figure["n"] is None else str(figure["n"])


def draw(monitors: Mapping[str, Watched], out: Path) -> None:
    """Draw rates and differences with their intervals, and the declared tolerance as a band.

    Raises:
        Mistake: the picture cannot be written.
    """
    from matplotlib.figure import Figure as Canvas  # noqa: PLC0415 - it takes half a second to import

    heights = [max(len(_rates(m)), len(_differences(m)), 3) for m in monitors.values()]
    canvas = Canvas(figsize=(13, 1.2 + sum(0.28 * h + 1.1 for h in heights)), layout="constrained")
    axes = canvas.subplots(len(monitors), 2, squeeze=False, height_ratios=heights, width_ratios=(3, 2))
    for (left, right), (name, monitor) in zip(axes, monitors.items(), strict=True):
        _intervals(left, _rates(monitor))
        left.set_title(f"{name}: rates by group, each with its 95 % interval", fontsize=10, loc="left")
        _intervals(right, _differences(monitor))
        for figure in _of(monitor, "tolerance"):
            tolerance = figure["value"] or 0.0
            right.axvspan(0, tolerance, color="tab:green", alpha=0.15, lw=0, label=f"tolerance {tolerance:g}")
            if not tolerance:
                right.axvline(0, color="tab:green", lw=1.5, label="tolerance 0")
            right.legend(loc="lower right", fontsize=8)
        right.set_title(f"largest differences: {monitor['state']}", fontsize=10, loc="left")
    try:
        canvas.savefig(out, dpi=120)
    except (OSError, ValueError) as unwritable:
        raise Mistake(f"--out {out}: cannot be written ({unwritable})") from unwritable


def _intervals(axes: Any, figures: Sequence[tuple[str, Figure]]) -> None:  # noqa: ANN401 - matplotlib's
    """Draw each statistic as a point with a bar for its interval, from top to bottom."""
    colours: dict[str, str] = {}
    for place, (_, figure) in enumerate(figures):
        colour = colours.setdefault(figure["name"], f"C{len(colours)}")
        if figure["interval"] is not None:
            axes.plot(figure["interval"], (place, place), color=colour, lw=4, alpha=0.4, solid_capstyle="butt")
        axes.plot([figure["value"]], [place], "o", color=colour, ms=5)
    axes.set_yticks(range(len(figures)), [f"{text}  (n={figure['n']})" for text, figure in figures], fontsize=8)
    axes.set_ylim(len(figures) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.3)
    if all(-1 <= bound <= 1 for _, f in figures for bound in f["interval"] or ()):
        axes.set_xlim(min([0.0, *(f["interval"][0] for _, f in figures if f["interval"])]) - 0.02, 1.02)


def _rates(monitor: Watched) -> list[tuple[str, Figure]]:
    return [
        (" ".join(filter(None, (name.replace("_", " "), _label(figure), figure["labels"]["group"]))), figure)
        for name in DRAWN
        for figure in _of(monitor, name)
        if figure["n"] and figure["value"] is not None
    ]


def _differences(monitor: Watched) -> list[tuple[str, Figure]]:
    return [
        (" ".join(filter(None, (name.replace("_", " "), _label(figure)))), figure)
        for name in COMPARED
        for figure in _of(monitor, name)
        if figure["value"] is not None
    ]


def _label(figure: Figure) -> str:
    return figure["labels"].get("label", "")


def _of(monitor: Watched, name: str) -> list[Figure]:
    return [figure for figure in monitor["statistics"] if figure["name"] == name]
