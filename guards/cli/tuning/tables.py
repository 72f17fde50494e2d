"""Prints what a search tried, what it found, and how much better that is."""

import json
from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from guards.cli.detection import Interval
from guards.cli.tuning.document import Contender, Tuned

__all__ = ["show"]


def show(result: Tuned, console: Console) -> None:
    """Print the best trials, the two contenders on the rows that were not searched on, and the verdict."""
    _show_trials(result, console)
    _show_contenders(result, console)
    for sentence in verdict(result):
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)


def verdict(result: Tuned) -> list[str]:
    """Say whether the winner is better, and what was written."""
    picture = f"picture: {result['picture']}"
    difference, winner = result["difference"], result["winner"]
    if difference is None or winner is None:
        limit = f"{result['latency_limit_us']:.0f} µs a row"
        return [f"no trial within {limit} finds more than the config does now; no config was written", picture]
    low, high = difference["tpr_interval"]
    told = (
        f"the share of suspect rows that is found changes by {100 * difference['tpr']:+.1f} percentage points, 95 % "
        f"interval [{100 * low:+.1f}, {100 * high:+.1f}], on rows that were not searched on"
    )
    if result["improved"]:
        return [f"the winner is better: {told}", f"config: {result['config']}", picture]
    alarms = winner["detection"]["false_alarm_interval"]
    if alarms is not None and alarms[0] > result["budget"]:
        often = f"all guards flag {alarms[0]:.2%} to {alarms[1]:.2%} of the clean rows"
        return [f"the winner exceeds the budget of {result['budget']:g}: {often}; no config was written", picture]
    more = "no config was written: more suspect rows would make the interval narrower"
    return [f"nobody can tell whether the winner is better: {told}; {more}", picture]


def _show_trials(result: Tuned, console: Console) -> None:
    complete = [each for each in result["trials"] if each["found"] is not None]
    complete.sort(key=lambda each: (-each["near"] - each["auroc"] / 1000, each["number"]))
    best = {(each["detector"]["kind"], each["features"]): each for each in reversed(complete)}
    shown = sorted(best.values(), key=complete.index)
    states = [each["state"] for each in result["trials"]]
    title = (
        f"guard {result['guard']}: {len(states)} trials on {result['rows']['suspect_searched']} suspect rows, "
        f"{states.count('pruned')} stopped early, {states.count('unsuited')} did not suit"
    )
    grid = Grid(title=escape(title), box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("trial", "detector", "features", "share", "found", "near", "AUROC", "µs a row"):
        grid.add_column(name, justify="left" if name in ("detector", "features") else "right", overflow="fold")
    for each in shown:
        slow = each["latency_us"] > result["latency_limit_us"]
        grid.add_row(
            str(each["number"]),
            escape(_parameters(each["detector"])),
            escape(each["features"] or ""),
            f"{each['share']:g}",
            f"{each['found']:.1%}",
            f"{each['near']:.1%}",
            f"{each['auroc']:.4f}",
            f"{each['latency_us']:.1f}{' (too slow)' if slow else ''}",
        )
    console.print(grid)
    if shown:
        console.print(
            "found: the suspect rows found at the budget; near: the mean of those found at one, two and four times the "
            "budget, which the search maximises. The table has the best trial of each detector and layer; --json lists "
            "all trials",
            highlight=False,
            soft_wrap=True,
        )
    for kind, why in result["left_out"].items():
        console.print(f"left out: {kind}: {why}", highlight=False, markup=False, soft_wrap=True)


def _show_contenders(result: Tuned, console: Console) -> None:
    rows = result["rows"]
    title = (
        f"{rows['suspect_reported']} suspect rows and {rows['clean_reported']} clean rows that were not searched on; "
        "below each figure its 95 % interval"
    )
    grid = Grid(title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("all guards with", "found", "AUROC", "false alarms", "µs a row"):
        grid.add_column(name, justify="left" if name == "all guards with" else "right", overflow="fold")
    contenders: list[tuple[str, Contender | None]] = [("now", result["baseline"]), ("winner", result["winner"])]
    for name, each in contenders:
        if each is not None:
            found = each["detection"]
            features = f", features {each['features']}" if each["features"] else ""
            grid.add_row(
                escape(f"{name}: {_parameters(each['detector'])}{features}"),
                _cell(found["tpr"], found["tpr_interval"], ".1%"),
                _cell(found["auroc"], found["auroc_interval"], ".4f"),
                _cell(found["false_alarm_rate"], found["false_alarm_interval"], ".2%"),
                f"{each['latency_us']:.1f}",
            )
    console.print(grid)


def _parameters(detector: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{name} {json.dumps(value)}" for name, value in detector.items() if name != "kind")
    return f"{detector['kind']}{f': {rest}' if rest else ''}"


def _cell(value: float | None, interval: Interval | None, digits: str) -> str:
    if value is None or interval is None:
        return ""
    return f"{value:{digits}}\n{interval[0]:{digits}}-{interval[1]:{digits}}"
