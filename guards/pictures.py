"""Explanations as pictures: a heat map over an image, bars for columns; PNG, drawn without a display."""

import io
import textwrap
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from guards.explanation import Explanation
from guards.schema import InputSchema

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["NoPictureError", "picture"]

Floats = npt.NDArray[np.float64]
COLOURS = "RdBu_r"
"""ColorBrewer's diverging red and blue: lightness even on both sides, and told apart by the colour-blind."""
FOR, AGAINST = "#b2182b", "#2166ac"
INK, FAINT = "#1b1f24", "#6e7781"
DPI, MOST_BARS = 150, 20


class NoPictureError(Exception):
    """This explanation has nothing that could be drawn."""


def picture(explanation: Explanation, schema: InputSchema, *, title: str = "", top_k: int | None = None) -> bytes:
    """Draw one explanation as a PNG; ``title`` names the model.

    Raises:
        NoPictureError: the method attributes nothing to inputs.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - an extra, and slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    if explanation.values is None:
        raise NoPictureError(f"{explanation.method}: there are no contributions to draw")
    values = explanation.values.double().numpy()
    figure = Figure(dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    if schema.kind == "image":
        _heat_map(figure, explanation.x.double().numpy(), values)
    else:
        _bars(figure, explanation, schema, values.reshape(-1), top_k)
    _headline(figure, explanation, title)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)  # a label in a script that the font has not
        figure.savefig(stream, format="png")
    return stream.getvalue()


def _headline(figure: "Figure", explanation: Explanation, title: str) -> None:
    what = explanation.target or explanation.label
    if what is None:
        said = "the value"
    elif what.startswith("guard:"):
        said = f"the score of guard {what.removeprefix('guard:')}"
    else:
        said = f"the logit of “{what}”"
    left = _INCH / figure.get_figwidth()
    height = figure.get_figheight()
    headline = textwrap.shorten(
        f"{title}: {said}" if title else said, int(figure.get_figwidth() * 9), placeholder="..."
    )
    figure.text(left, 1 - 0.20 / height, headline, va="top", size=12,
                weight="bold", color=INK, parse_math=False)  # fmt: skip
    steps = f"{explanation.method.replace('_', ' ')};  output {_number(explanation.output_value)}, baseline "
    figure.text(left, 1 - 0.46 / height, steps + _number(explanation.baseline_value), va="top", size=9, color=FAINT,
                parse_math=False)  # fmt: skip


_INCH = 0.25


def _heat_map(figure: "Figure", x: Floats, values: Floats) -> None:
    """Draw the image, and the contributions summed over its channels above its grey shadow, side by side."""
    from mpl_toolkits.axes_grid1.inset_locator import inset_axes  # type: ignore[import-untyped]  # noqa: PLC0415

    heat = values.sum(0)
    height, width = heat.shape
    side = 3.4
    tall, wide = side * min(1.0, max(0.25, height / width)), side * min(1.0, max(0.25, width / height))
    figure.set_size_inches(2 * wide + 2 * _INCH + 0.8, tall + 1.15)
    total_width, total_height = figure.get_size_inches()
    for index, name in enumerate(("the row", "red speaks for it, blue against it")):
        box = (
            (_INCH + index * (wide + _INCH)) / total_width,
            0.40 / total_height,
            wide / total_width,
            tall / total_height,
        )
        axes = figure.add_axes(box)
        axes.set_xticks([]), axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color("#d0d7de")
        axes.set_xlabel(name, size=9, color=FAINT)
        if index == 0:
            axes.imshow(_displayed(x), interpolation="nearest", vmin=0, vmax=1, cmap="gray")
            continue
        limit = float(np.abs(heat).max()) or 1.0
        shown = axes.imshow(heat, cmap=COLOURS, vmin=-limit, vmax=limit, interpolation="nearest")
        _outline(axes, x)
        bar = inset_axes(axes, width="4%", height="100%", loc="lower left", bbox_to_anchor=(1.03, 0, 1, 1),
                         bbox_transform=axes.transAxes, borderpad=0)  # fmt: skip
        scale = figure.colorbar(shown, cax=bar)
        scale.ax.tick_params(labelsize=8, colors=FAINT)
        scale.outline.set_edgecolor("#d0d7de")


def _displayed(x: Floats) -> Floats:
    """Give an image (c, h, w) in [0, 1] as matplotlib shows it: colours, or the mean of other channels."""
    return np.clip(x.transpose(1, 2, 0) if x.shape[0] == 3 else x.mean(0), 0, 1)  # noqa: PLR2004


def _outline(axes: "Axes", x: Floats) -> None:
    """Draw the border of the brighter pixels, so that one sees what the colours lie on and the colours stay true."""
    from matplotlib.collections import LineCollection  # noqa: PLC0415

    grey = x.mean(0)
    if np.ptp(grey) == 0:
        return
    bright = np.pad(grey >= (grey.min() + grey.max()) / 2, 1)
    edges = []
    for row, column in np.argwhere(bright[1:, 1:-1] != bright[:-1, 1:-1]):
        edges.append([(column - 0.5, row - 0.5), (column + 0.5, row - 0.5)])
    for row, column in np.argwhere(bright[1:-1, 1:] != bright[1:-1, :-1]):
        edges.append([(column - 0.5, row - 0.5), (column - 0.5, row + 0.5)])
    axes.add_collection(LineCollection(edges, colors=INK, linewidths=0.9, alpha=0.7))


def _bars(figure: "Figure", explanation: Explanation, schema: InputSchema, values: Floats, top_k: int | None) -> None:
    """Draw the largest contributions, the largest on top, each beside its column's value; the rest as one bar."""
    order = np.argsort(-np.abs(values), kind="stable")
    count = min(len(order), top_k or MOST_BARS)
    shown, rest = order[:count], order[count:]
    names = [_column(explanation, schema, int(index)) for index in shown]
    bars = [float(values[index]) for index in shown]
    if len(rest):
        names.append(f"{len(rest)} others")
        bars.append(float(values[rest].sum()))
    longest = max(len(name) for name in names)
    label_width = 0.35 + 0.068 * longest
    figure.set_size_inches(max(6.0, label_width + 4.3), 1.25 + 0.27 * len(bars))
    total_width, total_height = figure.get_size_inches()
    axes = figure.add_axes(
        (label_width / total_width, 0.5 / total_height, 1 - (label_width + _INCH) / total_width,
         0.27 * len(bars) / total_height)
    )  # fmt: skip
    places = np.arange(len(bars))
    axes.barh(places, bars, height=0.7, color=[FOR if bar > 0 else AGAINST for bar in bars])
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(places, names, size=9, color=INK, parse_math=False)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    low, high = min(0.0, *bars), max(0.0, *bars)
    span = (high - low) or 1.0
    axes.set_xlim(low - 0.16 * span * (low < 0), high + 0.16 * span * (high > 0 or low == 0))
    for place, bar in zip(places, bars, strict=True):
        side = 1 if bar >= 0 else -1
        axes.annotate(
            f"{bar:+.3g}" if bar else "0",
            (bar, float(place)),
            (3 * side, 0),
            textcoords="offset points",
            size=8,
            color=FAINT,
            ha="left" if side > 0 else "right",
            va="center",
        )
    axes.set_xlabel("contribution", size=9, color=FAINT)
    axes.tick_params(axis="x", labelsize=8, colors=FAINT)
    axes.tick_params(axis="y", length=0)
    for name in ("top", "right", "left"):
        axes.spines[name].set_visible(False)
    axes.spines["bottom"].set_color("#d0d7de")


def _column(explanation: Explanation, schema: InputSchema, index: int) -> str:
    """Name an input with its value in the row."""
    value = float(explanation.x.flatten()[index])
    if schema.kind != "tabular":
        place = ", ".join(map(str, np.unravel_index(index, schema.shape)))
        return f"[{place}] = {value:.4g}"
    column: Any = schema.columns[index]
    if np.isnan(value):
        said = "missing"
    elif column.kind == "categorical":
        said = str(column.categories[int(value)]) if value >= 0 else "unseen"
    else:
        said = f"{value:.6g}"
    return textwrap.shorten(f"{column.name} = {said}", 44, placeholder="...")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
