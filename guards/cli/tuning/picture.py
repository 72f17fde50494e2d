"""Draws the trials of a search: what each finds, against how long its guards take."""

from collections.abc import Sequence
from io import BytesIO

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from guards.cli.tuning.search import Tried
from guards.cli.tuning.workbench import Found

__all__ = ["draw"]

SIZE = (8, 5)
DOTS = 150
MARKERS = "osD^vP*Xhd"
RIGHT = (1.02, 1.0)


def draw(
    tried: Sequence[Tried], baseline: tuple[Found, float], winner: Tried | None, limit: float, title: str
) -> bytes:
    """Draw the complete trials, the config's own guards, the winner and the latency limit as a PNG.

    ``baseline`` is what the config's guards find on the rows of the search, and how many microseconds a row they take.
    """
    plain = FuncFormatter(lambda value, _place: f"{value:g}" if f"{value:e}"[0] in "125" else "")
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    complete = [each for each in tried if each.found is not None and each.latency_us is not None]
    for place, kind in enumerate(sorted({each.choice.kind for each in complete})):
        of_kind = [each for each in complete if each.choice.kind == kind]
        axes.scatter(
            [each.latency_us or 0.0 for each in of_kind],
            [each.found.share for each in of_kind if each.found is not None],
            marker=MARKERS[place % len(MARKERS)],
            alpha=0.7,
            label=kind,
        )
    found, latency = baseline
    axes.scatter(
        [latency], [found.share], marker="s", s=160, facecolors="none", edgecolors="black", label="the config now"
    )
    if winner is not None and winner.found is not None and winner.latency_us is not None:
        axes.scatter(
            [winner.latency_us], [winner.found.share], marker="o", s=220, facecolors="none", edgecolors="red",
            label="the winner",
        )  # fmt: skip
    axes.axvline(limit, color="grey", linestyle="--", label="latency limit")
    axes.set_xscale("log")
    for formatting in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        formatting(plain)
    axes.tick_params(axis="x", which="minor", labelsize="small")
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("latency of all guards (µs a row, in batches of 32)")
    axes.set_ylabel("suspect rows of the search that are found")
    axes.set_title(title)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=RIGHT)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS)
    return buffer.getvalue()
