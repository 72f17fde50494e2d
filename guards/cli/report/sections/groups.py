"""The section about groups: how often the model is right, and what it answers, for each group."""

from collections.abc import Sequence

from guards.cli.groups import COMPARED, DRAWN
from guards.cli.report.charts import Estimate, estimates
from guards.cli.report.group_rows import group_figures, groups_monitors
from guards.cli.report.parts import Parts
from guards.cli.report.sections.section import Block, Finding, Grid, Remark, Section, chart
from guards.cli.report.words import between, number, percent
from guards.monitors.base import Statistic
from guards.monitors.groups.monitor import Groups

__all__ = ["groups_section"]

SHOWN = 30


def groups_section(parts: Parts) -> Section | None:
    """Report what the config's monitors of groups would report of these rows; None if the config has none."""
    monitors = groups_monitors(parts.bundle)
    if not monitors:
        return None
    findings: list[Finding] = []
    blocks: list[Block] = []
    for monitor in monitors:
        figures = [
            each for each in group_figures(parts.bundle, monitor, parts.fresh) if each.n and each.value is not None
        ]
        findings.append(_compared(monitor, figures, parts.fresh.name))
        blocks += _blocks(monitor, figures)
    blocks.append(
        Remark(
            "The intervals are those of the server's monitors: they hold at every time at which "
            "somebody looks, and are "
            "wider than intervals for one look. A difference between groups says nothing of its cause."
        )
    )
    findings.sort(key=lambda finding: finding.level != "look")
    return Section("groups", "Groups", tuple(findings), tuple(blocks))


def _compared(monitor: Groups, figures: Sequence[Statistic], rows: str) -> Finding:
    """Say in one sentence by how much the groups of an attribute differ, and whether that may be chance."""
    tolerance, attribute = monitor.params.tolerance or 0.0, monitor.params.attribute
    largest: dict[str, Statistic] = {}
    for each in figures:
        if each.name in COMPARED and (each.value or 0) > (getattr(largest.get(each.name), "value", None) or -1):
            largest[each.name] = each
    beyond = [each for each in largest.values() if each.interval is not None and each.interval[0] > tolerance]
    named = ", ".join(_difference(each, share=bool(monitor.context.classes)) for each in beyond or largest.values())
    if beyond:
        allowed = f" than the tolerance {tolerance:g}" if tolerance else ""
        return Finding(
            "look", f"Groups by {attribute} differ on {rows} rows by more{allowed or ' than chance'}: {named}."
        )
    if not largest:
        return Finding("good", f"Groups by {attribute} have too few {rows} rows to compare.")
    if all(each.interval is None for each in largest.values()):
        return Finding(
            "good", f"Groups by {attribute} have too few {rows} rows to tell their differences from chance: {named}."
        )
    return Finding(
        "good",
        f"Groups by {attribute} differ on {rows} rows by no more than chance or the tolerance explains: {named}.",
    )


def _difference(figure: Statistic, *, share: bool) -> str:
    name, value = figure.name.removesuffix("_difference").replace("_", " "), figure.value or 0.0
    interval = between(figure.interval, share=share)
    return f"{name} {percent(value) if share else number(value)}{f' {interval}' if interval else ''}"


def _blocks(monitor: Groups, figures: Sequence[Statistic]) -> list[Block]:
    attribute = monitor.params.attribute
    blocks: list[Block] = []
    for name in DRAWN:
        rates = [each for each in figures if each.name == name and each.value is not None]
        if not rates or len(rates) > SHOWN:
            continue
        share = name != "mean_error"
        drawn = [Estimate(_name(each), each.value or 0.0, each.interval) for each in rates]
        title = f"{name.replace('_', ' ').capitalize()} by {attribute}"
        figure = estimates(drawn, label=name.replace("_", " "), percent=share, marks={})
        blocks.append(chart(f"groups-{monitor.name}-{name}", title, "A bar is a 95 % interval.", figure))
    lines = [
        (
            each.name.replace("_", " "),
            _name(each),
            f"{each.n:,}",
            number(each.value or 0.0) if each.name.startswith("mean_error") else percent(each.value or 0.0),
            between(each.interval, share=not each.name.startswith("mean_error")),
        )
        for name in (*DRAWN, *COMPARED)
        for each in figures
        if each.name == name
    ]
    head = ("figure", "group", "rows", "value", "95 % interval")
    blocks.append(Grid(f"Figures by {attribute}", head, tuple(lines[: 2 * SHOWN]), left=2))
    return blocks


def _name(figure: Statistic) -> str:
    parts = (figure.labels.get("group", ""), figure.labels.get("label", ""))
    return ", ".join(filter(None, parts))
