"""Explanations as pictures: a heat map over an image, bars for columns; PNG, drawn without a display."""

import io
import textwrap
import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from guards.explanations.explain import Explanation
from guards.input.schema import InputSchema

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

__all__ = ["NoPictureError", "drawn", "picture"]

Floats = npt.NDArray[np.float64]
COLOURS = "RdBu_r"
"""ColorBrewer's diverging red and blue: lightness even on both sides, and told apart by the colour-blind."""
FOR, AGAINST = "#b2182b", "#2166ac"
INK, FAINT = "#1b1f24", "#6e7781"
DPI, MOST_BARS = 150, 20
_NUMBER_INCHES = 0.75


class NoPictureError(Exception):
    """The explanation has no contributions that could be drawn."""


def picture(explanation: Explanation, schema: InputSchema, *, title: str = "", top_k: int | None = None) -> bytes:
    """Draw one explanation as a PNG; ``title`` names the model.

    Raises:
        NoPictureError: the method attributes nothing to inputs.
    """
    figure = drawn(explanation, schema, title=title, top_k=top_k)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)  # a label may be in a script that the font lacks
        figure.savefig(stream, format="png")
    return stream.getvalue()


def drawn(explanation: Explanation, schema: InputSchema, *, title: str = "", top_k: int | None = None) -> "Figure":
    """Draw one explanation; all text lies inside the figure, and no tick labels overlap.

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
    return figure


def _headline(figure: "Figure", explanation: Explanation, title: str) -> None:
    what = explanation.target or explanation.label
    if what is None:
        said = "the value"
    elif what.startswith("guard:"):
        said = f"the score of guard {what.removeprefix('guard:')}"
    else:
        said = f"the logit of “{what}”"
    method = f"{explanation.method.replace('_', ' ')};  output {_number(explanation.output_value)}, baseline "
    height = figure.get_figheight()
    lines: tuple[tuple[str, float, dict[str, Any]], ...] = (
        (f"{title}: {said}" if title else said, 0.20, {"size": 12, "weight": "bold", "color": INK}),
        (method + _number(explanation.baseline_value), 0.46, {"size": 9, "color": FAINT}),
    )
    for text, down, style in lines:
        line = figure.text(_INCH / figure.get_figwidth(), 1 - down / height, text, va="top", parse_math=False, **style)
        _shorten(line, figure.get_figwidth() - 2 * _INCH)


_INCH = 0.25


def _width(text: "Text") -> float:
    """Measure a text, in inches."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
        return float(text.get_window_extent().width) / DPI


def _shorten(text: "Text", inches: float) -> None:
    """Cut a text that is wider than ``inches``, by its measured width, whatever its script."""
    whole = text.get_text()
    if _width(text) <= inches:
        return
    short, long = 0, len(whole)
    while short < long - 1:
        middle = (short + long) // 2
        text.set_text(whole[:middle].rstrip() + "...")
        short, long = (middle, long) if _width(text) <= inches else (short, middle)
    text.set_text(whole[:short].rstrip() + "...")


def _ticks(low: float, high: float, most: int) -> tuple[list[float], list[str]]:
    """Choose at most ``most`` round numbers between two numbers, with labels that need no factor beside the axis."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    found = MaxNLocator(nbins=max(1, most - 1), steps=[1, 2, 5, 10]).tick_values(low, high)
    inside = [float(tick) for tick in found if low <= tick <= high][:most]
    return inside, ["0" if abs(tick) < 1e-9 * (high - low) else f"{tick:.3g}" for tick in inside]


def _heat_map(figure: "Figure", x: Floats, values: Floats) -> None:
    """Draw the image and, beside it, the contributions summed over the channels, with the image's outline."""
    heat = values.sum(0)
    height, width = heat.shape
    side, column, thin = 3.4, 2.3, 0.25
    tall, wide = side * min(1.0, max(thin, height / width)), side * min(1.0, max(thin, width / height))
    column = max(column, wide)  # wide enough for the caption under a narrow image
    limit = float(np.abs(heat).max()) or 1.0
    ticks, labels = _ticks(-limit, limit, 3 if tall < 1.5 else 7)  # noqa: PLR2004 - inches
    scale_width = 0.14 + 0.15 + 0.09 * max(map(len, labels))
    figure.set_size_inches(2 * column + 2 * _INCH + 0.12 + scale_width + _INCH, tall + 1.15)
    total_width, total_height = figure.get_size_inches()

    def axes_at(left: float, inches: float) -> "Axes":
        return figure.add_axes((left / total_width, 0.40 / total_height, inches / total_width, tall / total_height))

    for index, name in enumerate(("the row", "red speaks for it, blue against it")):
        left = _INCH + index * (column + _INCH) + (column - wide) / 2
        axes = axes_at(left, wide)
        axes.set_xticks([]), axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color("#d0d7de")
        axes.set_xlabel(name, size=9, color=FAINT)
        # A very flat or narrow image is stretched: a strip of one row of pixels would not be visible.
        aspect: Literal["equal", "auto"] = "equal" if thin <= height / width <= 1 / thin else "auto"
        if index == 0:
            axes.imshow(_displayed(x), interpolation="nearest", vmin=0, vmax=1, cmap="gray", aspect=aspect)
            continue
        shown = axes.imshow(heat, cmap=COLOURS, vmin=-limit, vmax=limit, interpolation="nearest", aspect=aspect)
        _outline(axes, x)
        scale = figure.colorbar(shown, cax=axes_at(2 * (column + _INCH) + 0.12, 0.14))
        scale.set_ticks(ticks, labels=labels)
        scale.ax.tick_params(labelsize=8, colors=FAINT)
        scale.outline.set_edgecolor("#d0d7de")


def _displayed(x: Floats) -> Floats:
    """Turn an image (c, h, w) in [0, 1] into an image for matplotlib: three channels as colours, others as a mean."""
    return np.clip(x.transpose(1, 2, 0) if x.shape[0] == 3 else x.mean(0), 0, 1)  # noqa: PLR2004


def _outline(axes: "Axes", x: Floats) -> None:
    """Draw the border of the brighter pixels: the border shows the image, and leaves the colours as they are."""
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
    label_width = _INCH + 0.1 + max(_width(figure.text(0, 0, name, size=9, parse_math=False)) for name in names)
    figure.texts.clear()
    figure.set_size_inches(max(6.0, label_width + 4.3), 1.25 + 0.27 * len(bars))
    total_width, total_height = figure.get_size_inches()
    axes_width = total_width - label_width - _INCH
    axes = figure.add_axes(
        (label_width / total_width, 0.5 / total_height, axes_width / total_width, 0.27 * len(bars) / total_height)
    )
    places = np.arange(len(bars))
    axes.barh(places, bars, height=0.7, color=[FOR if bar > 0 else AGAINST for bar in bars])
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(places, names, size=9, color=INK, parse_math=False)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    low, high = min(0.0, *bars), max(0.0, *bars)
    sides = (low < 0) + (high > 0 or low == 0)
    inch = ((high - low) or 1.0) / (axes_width - _NUMBER_INCHES * sides)  # a number beside a bar must fit
    low, high = low - _NUMBER_INCHES * inch * (low < 0), high + _NUMBER_INCHES * inch * (high > 0 or low == 0)
    axes.set_xlim(low, high)
    ticks, labels = _ticks(low, high, 5)
    axes.set_xticks(ticks, labels)
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
