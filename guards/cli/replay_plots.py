"""Draws the monitors' reports over a replay: one PNG for each figure, and one page with all figures."""

import base64
import io
import json
import textwrap
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from matplotlib.transforms import blended_transform_factory

from guards.cli.replay_tables import first_alarms, pivot
from guards.monitors.base import Statistic
from guards.replay import Alarm, Replay, Trace
from guards.types import Mistake

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SAMPLES", "draw", "folder", "write"]

Floats = npt.NDArray[np.float64]
SAMPLES = 200
"""How many reports are drawn along the stream; a plot is not wide enough to show many more."""
EVIDENCE, THRESHOLD = "evidence", "threshold"
LINES = 6
LINES_HEIGHT, WIDTH, STREAM_HEIGHT, DPI = 3.8, 11.0, 0.17, 130
ALARM = "#b00020"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""The colours of Okabe & Ito (2008), which colour-blind readers can tell apart."""
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:72rem;margin:2rem auto;padding:0 1rem}
img{max-width:100%;margin:.5rem 0}table{border-collapse:collapse;margin:.5rem 0 1.5rem}
th,td{padding:.15rem .8rem;text-align:right;border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums}
th:first-child,td:first-child{text-align:left}.scroll{max-height:24rem;overflow:auto;display:inline-block}
.alarm{color:#b00020;font-weight:600}
"""


def folder(path: Path) -> None:
    """Make the folder that the plots are written into.

    Raises:
        Mistake: the folder cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / "replay.html").touch()
    except OSError as refused:
        raise Mistake(f"{path}: cannot be written to ({refused.strerror}); choose another folder") from refused


def write(path: Path, title: str, result: Replay, trace: Trace) -> None:
    """Write one ``MONITOR.STATISTIC.png`` for each figure, ``replay.html`` and ``replay.json``.

    The page holds the figures itself, so that it can be read without the other files.
    """
    sections = []
    for name, reported in result["monitors"].items():
        alarms = [alarm for alarm in result["alarms"] if alarm["monitor"] == name]
        parts = [f'<h2>{escape(name)} <small class="{reported["state"]}">{reported["state"]}</small></h2>']
        for statistic, figure in draw(trace.rows, trace.reports[name], alarms).items():
            png = _png(figure)
            (path / f"{name}.{statistic}.png").write_bytes(png)
            source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
            parts.append(f'<img alt="{escape(statistic)} of {escape(name)}" src="{source}">')
        columns, lines = pivot(reported)
        sections.append("\n".join([*parts, _table(columns, lines)]))
    page = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>',
        f"<h1>{escape(title)}</h1><p>{len(result['alarms'])} alarms in {result['rows']} rows.</p>",
        _table(*first_alarms(result)),
        *sections,
    ]
    (path / "replay.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (path / "replay.html").write_text("\n".join(page) + "\n", encoding="utf-8")


def draw(rows: Sequence[int], reports: Sequence[Sequence[Statistic]], alarms: Sequence[Alarm]) -> dict[str, Figure]:
    """Draw one monitor's statistics over the rows: evidence as a map of all streams, other statistics as lines."""
    series = _series(rows, reports)
    thresholds = series.pop(THRESHOLD, {})
    ends = [values[:, 0][np.isfinite(values[:, 0])] for values in thresholds.values()]
    threshold = float(ends[0][-1]) if ends and len(ends[0]) else None
    x = np.array(rows, dtype=np.float64)
    figures = {}
    for statistic, by_label in series.items():
        if statistic == EVIDENCE:
            figures[statistic] = _evidence(x, by_label, alarms, threshold)
        elif seen := {of: values for of, values in by_label.items() if np.isfinite(values[:, 0]).any()}:
            figures[statistic] = _lines(x, statistic, seen, alarms)
    return figures


def _series(rows: Sequence[int], reports: Sequence[Sequence[Statistic]]) -> dict[str, dict[str, Floats]]:
    """Turn reports into arrays (samples, 3) of value, low and high, by the statistic's name and by its labels.

    A statistic that only counts the rows is left out: its plot is always the diagonal.
    """
    series: dict[str, dict[str, Floats]] = {}
    counts: set[str] = set()
    for at, report in enumerate(reports):
        for statistic in report:
            of = ", ".join(statistic.labels.values())
            by_label = series.setdefault(statistic.name, {})
            values = by_label.setdefault(of, np.full((len(rows), 3), np.nan))
            values[at] = [
                np.nan if end is None else end for end in (statistic.value, *(statistic.interval or (None,) * 2))
            ]
            counts |= {statistic.name} if statistic.value != rows[at] else set()
    return {name: by_label for name, by_label in series.items() if name in counts}


def _evidence(x: Floats, by_stream: dict[str, Floats], alarms: Sequence[Alarm], threshold: float | None) -> Figure:
    """Draw the streams with the most evidence as lines, and below the lines all streams as a map."""
    raised = {stream: np.empty(0) for stream in by_stream} | _rows_of(alarms)
    values = {stream: by_stream[stream][:, 0] if stream in by_stream else np.full(len(x), np.nan) for stream in raised}
    peak = {stream: float(np.nanmax(v)) if np.isfinite(v).any() else -np.inf for stream, v in values.items()}
    # First the streams that alarmed, the earliest alarm on top, then the streams that came closest to an alarm.
    order = sorted(values, key=lambda stream: (min(raised[stream], default=np.inf), -peak[stream]))
    map_height = max(1.0, STREAM_HEIGHT * len(order))
    figure = Figure(figsize=(WIDTH, LINES_HEIGHT + map_height + 1.0), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[LINES_HEIGHT, map_height])
    for stream, colour in zip(order[:LINES], COLOURS, strict=False):
        first = min(raised[stream], default=np.inf)
        until = np.searchsorted(x, first) + 1  # the part after the first alarm says little more, and is pale
        top.plot(x[:until], values[stream][:until], color=colour, linewidth=1.6, label=_short(stream))
        top.plot(x[until - 1 :], values[stream][until - 1 :], color=colour, linewidth=0.8, alpha=0.3)
        _mark(top, raised[stream], colour)
    if threshold is not None:
        top.axhline(threshold, color=ALARM, linewidth=1, linestyle="--", label="alarm above")
    rest = "" if len(order) <= LINES else f" of the {LINES} streams that alarmed first or came closest, of {len(order)}"
    _dress(top, f"Evidence{rest}; marks are alarms, and after its first one a line is pale", "log e-value", x[-1])
    _legend(top)
    highest = threshold or max([1.0, *(p for p in peak.values() if np.isfinite(p))])
    mesh = bottom.pcolormesh(
        np.concatenate([[0.0], x]),
        np.arange(len(order) + 1),
        np.array([values[stream] for stream in order]),
        cmap=colormaps["YlOrRd"].with_extremes(bad="#e8e8e8"),
        norm=Normalize(0, highest),
    )
    for place, stream in enumerate(order):
        bottom.plot(raised[stream], np.full(len(raised[stream]), place + 0.5), "|", color="black", markersize=4)
    bottom.set_yticks(np.arange(len(order)) + 0.5, [_short(stream) for stream in order], fontsize=7)
    bottom.invert_yaxis()
    _dress(bottom, "Evidence of all streams; a tick is an alarm", "", x[-1])
    bottom.grid(visible=False)
    bottom.set_xlabel("row")
    beside = bottom.inset_axes((1.012, 1 - min(1, 2 / map_height), 0.014, min(1, 2 / map_height)))
    figure.colorbar(mesh, cax=beside, label="log e-value", extend="max").ax.tick_params(labelsize=8)
    return figure


def _lines(x: Floats, statistic: str, by_label: dict[str, Floats], alarms: Sequence[Alarm]) -> Figure:
    """Draw one statistic, with its interval, for the labels whose values moved most."""
    span = {of: float(np.nanmax(v[:, 0]) - np.nanmin(v[:, 0])) for of, v in by_label.items()}
    chosen = sorted(by_label, key=lambda of: -span[of])[:LINES]
    raised = _rows_of(alarms)
    figure = Figure(figsize=(WIDTH, LINES_HEIGHT), layout="constrained")
    axes = figure.subplots()
    for of, colour in zip(chosen, COLOURS, strict=False):
        value, low, high = by_label[of].T
        axes.plot(x, value, color=colour, linewidth=1.4, label=_short(of) or statistic)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        _mark(axes, raised.pop(of, np.empty(0)), colour)
    for others in raised.values():
        _mark(axes, others, "black")
    rest = "" if len(by_label) <= LINES else f", the {LINES} of {len(by_label)} that moved most"
    _dress(axes, statistic.replace("_", " ").capitalize() + rest + ("; marks are alarms" if alarms else ""), "", x[-1])
    axes.set_xlabel("row")
    _legend(axes)
    return figure


def _rows_of(alarms: Sequence[Alarm]) -> dict[str, Floats]:
    """Collect the rows of the alarms by stream."""
    rows: dict[str, list[float]] = {}
    for alarm in alarms:
        rows.setdefault(alarm["stream"] or "", []).append(alarm["row"])
    return {stream: np.array(at, dtype=np.float64) for stream, at in rows.items()}


def _mark(axes: "Axes", rows: Floats, colour: str) -> None:
    """Mark each alarm above the plot, and draw a line through the plot at the first alarm."""
    if not len(rows):
        return
    above = blended_transform_factory(axes.transData, axes.transAxes)
    for at, marker in ((rows, "|"), (rows[:1], "v")):
        (marks,) = axes.plot(at, np.full(len(at), 1.025), marker, color=colour, clip_on=False, transform=above)
        marks.set_in_layout(False)  # otherwise the layout makes room for the marks twice
    axes.axvline(rows[0], color=colour, linewidth=1, linestyle=":")


def _legend(axes: "Axes") -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8)


def _dress(axes: "Axes", title: str, label: str, rows: float) -> None:
    axes.set_title(title, loc="left", fontsize=10, pad=14)
    axes.set_ylabel(label, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(0, rows)


def _short(name: str) -> str:
    return textwrap.shorten(name, 34, placeholder="...").replace("$", r"\$")


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return ""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
