"""The charts of the report, each a small figure that stays readable on a phone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from guards.cli.report.svg import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Estimate", "bars", "curves", "estimates", "grouped_bars", "reliability", "residuals", "roc", "uniform"]

Floats = npt.NDArray[np.float64]
WIDTH, HEIGHT = 4.2, 2.7
"""Inches: at 72 points an inch the text of a chart is about 10 pixels high on a phone of 390 pixels."""
LINE, LABEL, TICKS = 0.26, 26, 5
TALLEST = 4.0
"""A higher bar of a histogram is cut, and its height is written beside it: the other bars stay readable."""
INK, SOFT, GRID = COLOURS["--ink"], COLOURS["--soft"], COLOURS["--line"]
SERIES = tuple(COLOURS[name] for name in ("--blue", "--orange", "--green", "--pink", "--yellow", "--sky"))
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "guardhouse",
    "text.parse_math": False,  # a column may have a dollar sign in its name
    "font.size": 8.5,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A named figure with its interval, None if there is none."""

    name: str
    value: float
    interval: tuple[float, float] | None


def estimates(figures: Sequence[Estimate], *, label: str, percent: bool, marks: Mapping[str, float]) -> Figure:
    """Draw figures as points with their intervals, from top to bottom.

    ``marks`` are named values to compare with; a mark that is far from all figures is left out.
    """
    figure, axes = _figure(height=0.75 + LINE * max(2, len(figures)) + 0.2 * bool(marks))
    for place, each in enumerate(figures):
        if each.interval is not None:
            axes.plot(each.interval, (place, place), color=SERIES[0], lw=4, alpha=0.35, solid_capstyle="butt")
        axes.plot([each.value], [place], "o", color=SERIES[0], ms=4.5)
    low, high = axes.get_xlim()
    near = {name: value for name, value in marks.items() if 2 * low - high <= value <= 2 * high - low}
    for colour, (name, value) in zip(SERIES[1:], near.items(), strict=False):
        axes.axvline(value, color=colour, lw=1.2, ls="--", label=name)
    axes.set_yticks(range(len(figures)), [_short(each.name) for each in figures])
    axes.set_ylim(len(figures) - 0.4, -0.6)
    axes.set_xlabel(label)
    axes.grid(visible=False, axis="y")
    if percent:
        _percent(axes.xaxis)
    if near:
        _legend(axes)
    return figure


def bars(values: Mapping[str, float], *, label: str, percent: bool = False) -> Figure:
    """Draw one horizontal bar for each name."""
    return grouped_bars(tuple(values), {"": tuple(values.values())}, label=label, percent=percent)


def grouped_bars(
    names: Sequence[str], series: Mapping[str, Sequence[float]], *, label: str, percent: bool = False
) -> Figure:
    """Draw a horizontal bar for each name and each series."""
    figure, axes = _figure(height=0.8 + LINE * max(2, len(names)) * (0.6 + 0.4 * len(series)))
    height = 0.8 / len(series)
    for index, (name, values) in enumerate(series.items()):
        places = np.arange(len(names)) + (index - (len(series) - 1) / 2) * height
        axes.barh(places, values, height, color=SERIES[index % len(SERIES)], label=name)
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(label)
    axes.grid(visible=False, axis="y")
    if percent:
        _percent(axes.xaxis)
    if len(series) > 1:
        _legend(axes)
    return figure


def curves(
    x: Sequence[float],
    series: Mapping[str, Sequence[Estimate]],
    *,
    labels: tuple[str, str],
    marks: Mapping[str, float],
    percent: bool,
) -> Figure:
    """Draw figures over a number of rows on a logarithmic axis, each with a band for its intervals."""
    figure, axes = _figure()
    for colour, (name, points) in zip(SERIES, series.items(), strict=False):
        axes.plot(x, [point.value for point in points], "o-", color=colour, ms=3.5, label=name)
        bands = [point.interval or (point.value, point.value) for point in points]
        axes.fill_between(x, [low for low, _ in bands], [high for _, high in bands], color=colour, alpha=0.15, lw=0)
    for colour, (name, value) in zip(SERIES[len(series) :], marks.items(), strict=False):
        axes.axhline(value, color=colour, lw=1.2, ls="--", label=name)
    axes.set_xscale("log")
    axes.set_xticks(x, [f"{value:,.0f}" for value in x])
    axes.minorticks_off()
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    if percent:
        _percent(axes.yaxis)
    _legend(axes)
    return figure


def uniform(p_values: Floats, threshold: float, *, bins: int = 20) -> Figure:
    """Draw the histogram of p-values (n,) with the flat line of a well calibrated guard, and the guard's threshold."""
    figure, axes = _figure(height=2.2)
    density = np.histogram(p_values, bins=bins, range=(0, 1))[0] * bins / max(1, len(p_values))
    places = (np.arange(bins) + 0.5) / bins
    axes.bar(places, np.minimum(density, TALLEST), 1 / bins, color=SERIES[0])
    for place, height in zip(places[density > TALLEST], density[density > TALLEST], strict=True):
        axes.annotate(f"{height:.3g} ↑", (place - 0.6 / bins, TALLEST * 0.93), ha="right")
    axes.axhline(1, color=SERIES[1], lw=1.2, ls="--", label="flat: as promised")
    axes.axvline(threshold, color=SERIES[3], lw=1.2, label=f"flags at p ≤ {threshold:.4f}")
    axes.set_xlim(0, 1)
    axes.set_xlabel("p-value")
    axes.set_ylabel("density")
    _legend(axes)
    return figure


def roc(lines: Mapping[str, tuple[Floats, Floats]], points: Mapping[str, tuple[float, float]]) -> Figure:
    """Draw found suspects over false alarms for each guard, and the ``points`` at which the guards work."""
    figure, axes = _figure(height=3.2)
    for index, (name, (false_alarms, found)) in enumerate(lines.items()):
        colour = SERIES[index % len(SERIES)]
        axes.plot(false_alarms, found, color=colour, label=_short(name))
        if name in points:
            axes.plot(*points[name], "o", color=colour, ms=6)
    axes.plot((0, 1), (0, 1), color=SOFT, lw=1, ls=":")
    axes.set_xlim(-0.02, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("false alarms among clean rows")
    axes.set_ylabel("suspects found")
    _percent(axes.xaxis, axes.yaxis)
    _legend(axes)
    return figure


def reliability(confidence: Floats, accuracy: Sequence[Estimate], rows: Floats) -> Figure:
    """Draw accuracy over confidence (b,) with intervals, and below the histogram of the confidence of ``rows`` (n,)."""
    figure = Figure(figsize=(WIDTH, 3.5), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.plot((0, 1), (0, 1), color=SERIES[1], lw=1.2, ls="--", label="calibrated")
    for at, each in zip(confidence, accuracy, strict=True):
        top.plot((at, at), each.interval or (each.value, each.value), color=SERIES[0], lw=3, alpha=0.35)
    values = [each.value for each in accuracy]
    top.plot(confidence, values, "o-", color=SERIES[0], ms=3.5, lw=1, label="this model")
    bottom.hist(rows, bins=40, range=(float(rows.min()), 1.0), color=SERIES[0])
    low = min(float(rows.min()), *(each.interval[0] for each in accuracy if each.interval), *values)
    top.set_xlim(max(0.0, low - 0.03), 1.01)
    top.set_ylim(max(0.0, low - 0.03), 1.02)
    top.set_ylabel("share that is right")
    bottom.set_ylabel("rows")
    bottom.set_xlabel("confidence of the answer")
    _percent(bottom.xaxis, top.yaxis)
    _legend(top)
    return figure


def residuals(predicted: Floats, error: Floats, radius: float | None) -> Figure:
    """Draw errors (n,) over predicted values (n,); beyond plus or minus ``radius`` an interval misses the value."""
    figure, axes = _figure(height=2.9)
    axes.plot(predicted, error, "o", color=SERIES[0], ms=2.5, alpha=0.45, mew=0, ls="none")
    axes.axhline(0, color=SOFT, lw=1)
    if radius is not None:
        axes.axhline(radius, color=SERIES[1], lw=1.2, ls="--", label="ends of the interval")
        axes.axhline(-radius, color=SERIES[1], lw=1.2, ls="--")
        _legend(axes)
    axes.set_xlabel("predicted value")
    axes.set_ylabel("actual less predicted")
    return figure


def _figure(*, height: float = HEIGHT) -> tuple[Figure, "Axes"]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _percent(*axes: Any) -> None:  # noqa: ANN401 - matplotlib's
    for axis in axes:
        axis.set_major_locator(MaxNLocator(TICKS))
        axis.set_major_formatter(PercentFormatter(xmax=1, decimals=None, symbol=" %"))


def _legend(axes: "Axes") -> None:
    """Put the legend above the chart, so that the legend never hides data."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, borderaxespad=0.2, handlelength=1.4)


def _short(name: str) -> str:
    return name if len(name) <= LABEL else f"{name[: LABEL - 1]}…"


def styled() -> Any:  # noqa: ANN401 - matplotlib's context
    """Give the context in which figures are made and drawn."""
    return mpl.rc_context(STYLE)
