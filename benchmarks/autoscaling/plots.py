"""Draws a traffic and the signals' results, one above the other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.autoscaling.capacity_curve import Compared
from benchmarks.autoscaling.control_loop import SLO_SECONDS, Run
from benchmarks.autoscaling.traffic import Traffic

__all__ = ["draw_curve", "draw_runs"]


def draw_runs(file: Path, title: str, traffic: Traffic, runs: Sequence[Run], need: npt.NDArray[np.float64]) -> None:
    """Write a picture of traffic, replicas beside an oracle's, p99, and the share of refused or late requests."""
    plt = _pyplot()
    ratios = [1, 1.6, 1.3, 1.3]
    figure, axes = plt.subplots(4, 1, figsize=(10, 11), sharex=True, layout="constrained", height_ratios=ratios)
    unit, divisor = ("hours", 3600) if len(traffic.rate) * traffic.step > 4 * 3600 else ("minutes", 60)
    time = (np.arange(len(traffic.rate)) * traffic.step - traffic.scored) / divisor
    scored = time >= 0
    axes[0].fill_between(time[scored], traffic.rows_per_second[scored] / 1e3, color="tab:grey", alpha=0.4)
    axes[0].set(ylabel="1,000 rows/s", title=title, ylim=(0, None))
    _shade(axes, time[scored], ~traffic.monitored[scored], "no monitoring")
    _shade(axes, time[scored], np.isfinite(traffic.places[scored]), "no more nodes")
    axes[1].plot(time[scored], need[scored], "k--", linewidth=1.2, label="oracle", zorder=5)
    colours = plt.get_cmap("tab10")
    for index, run in enumerate(runs):
        at = (np.array(run.time) - traffic.scored) / divisor
        first = index == 0  # ours
        style = {"color": colours(index % 10), "linewidth": 2.2 if first else 1.1, "zorder": 4 if first else 3}
        axes[1].plot(at, run.replicas, label=run.signal, **style)
        axes[2].plot(at, 1e3 * np.array(run.p99), **style)
        axes[3].plot(at, 100 * np.array(run.late), **style)
    axes[1].set(ylabel="replicas ready", yscale="log")
    _plain(axes[1])
    axes[2].axhline(1e3 * SLO_SECONDS, color="black", linestyle=":", linewidth=1)
    axes[2].set(ylabel="p99 of answers, ms", yscale="log")
    _plain(axes[2])
    axes[3].set(ylabel="refused or late, %", xlabel=unit, ylim=(0, 100))
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def draw_curve(file: Path, title: str, compared: Sequence[Compared]) -> None:
    """Write a picture of the measured curve beside the model's curve."""
    plt = _pyplot()
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.5), layout="constrained")
    rates = np.array([row["rate"] for row in compared])
    order = np.argsort(rates)
    held = np.array([bool(row["held_out"]) for row in compared])
    for axis, (key, label, scale) in zip(
        axes.flat,
        [("rows_per_second", "answered rows/s", "linear"), ("p50_ms", "p50, ms", "log"), ("p99_ms", "p99, ms", "log"),
         ("inflight", "requests in flight", "log"), ("queue_rows", "rows queued", "symlog"),
         ("shed_share", "share refused", "linear")],
        strict=True,
    ):  # fmt: skip
        measured, modelled = (
            np.array([points[key] for points in side])
            for side in ([row["measured"] for row in compared], [row["modelled"] for row in compared])
        )
        axis.plot(rates[order], modelled[order], color="tab:grey", label="model")
        axis.plot(rates[~held], measured[~held], "o", color="tab:blue", label="measured, fitted to")
        axis.plot(rates[held], measured[held], "s", color="tab:orange", label="measured, held out")
        axis.set(ylabel=label, xlabel="requests/s that came", yscale=scale)
    figure.suptitle(title)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _shade(axes, time, where, label: str) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - matplotlib's are untyped
    if where.any():
        for axis in axes:
            axis.axvspan(time[where][0], time[where][-1], color="tab:red", alpha=0.08)
        axes[0].text(time[where][0], 0, f" {label}", va="bottom", color="tab:red")


def _plain(axis) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - matplotlib's are untyped
    """Write a logarithmic axis in whole numbers."""
    from matplotlib import ticker  # noqa: PLC0415 - needed for plots alone

    axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.yaxis.set_minor_formatter(ticker.NullFormatter())


def _pyplot() -> Any:  # noqa: ANN401 - matplotlib's are untyped
    import matplotlib as mpl  # noqa: PLC0415 - needed for plots alone

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    return plt
