"""What to scale on: one replica's measured capacity curve, and a simulated control loop on traffics past one machine.

A real server is measured, a queue is fitted to it and checked at rates held out of the fit; fleets of it are simulated,
and of a replica with a GPU, whose figures are assumed. Signals differ in what is read and in the target; the
autoscaler's behaviour is the same for all. GUARDHOUSE_TRAFFIC may name a CSV (seconds, requests a second) of a recorded
traffic, to run beside the made ones.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.autoscaling.capacity_curve import QUICK_SHARES, SHARES, Compared, compare, fit, measure
from benchmarks.autoscaling.control_loop import SLO_SECONDS, Run, simulate
from benchmarks.autoscaling.hpa import Autoscaler, Policy, Rules
from benchmarks.autoscaling.plots import draw_curve, draw_runs
from benchmarks.autoscaling.replica import Replica
from benchmarks.autoscaling.replica_tables import Curve
from benchmarks.autoscaling.settings import Settings, recommend
from benchmarks.autoscaling.signals import Signal
from benchmarks.autoscaling.traffic import Traffic, daily, made, recorded, shortage
from benchmarks.harness.load import need_wrk
from benchmarks.harness.report import print_document, print_table

__all__ = ["GPU_CLASS", "main", "signals"]

SEED = 1
UP, DOWN = Rules(0.0, (Policy("Percent", 100), Policy("Pods", 4))), Rules(300.0, (Policy("Percent", 10, 60.0),))
"""For every signal: up as Kubernetes does by default, down by a tenth a minute to the most asked for in five."""
VARIANTS = {
    "load, up 100 %/30 s, down after 10 min": (
        Rules(0.0, (Policy("Percent", 100, 30.0), Policy("Pods", 4, 30.0))),
        Rules(600.0, (Policy("Percent", 10, 60.0), Policy("Pods", 1, 60.0))),
    ),
    "load, up 900 %/15 s": (Rules(0.0, (Policy("Percent", 900),)), DOWN),
    "load, down 100 %/15 s": (UP, Rules(300.0, (Policy("Percent", 100),))),
}
"""Of our signal alone, on the flash crowd."""


GPU_CLASS = Replica(
    "GPU class (assumed)", fixed=6e-3, per_row=0.45e-3, max_batch=64, queue_rows=1024, noise=0.05, offset=1e-3,
    tail=1e-3, http_row=0.2e-3, device_fixed=5.8e-3, device_per_row=0.44e-3, cpu_batch=1e-3, cpu_row=0.2e-3,
    refusal=0.1e-3, kernel_fixed=5.6e-3, kernel_per_row=0.44e-3, start=60.0, provision=240.0,
)  # fmt: skip
"""Other parameters of the same queue, assumed and not measured: a batch of one runs kernels for 6 ms, a row more costs
0.45 ms, so that 64 rows take 35 ms (1,840 rows/s); 0.2 ms of the event loop a request; an image with its libraries and
a large model take a minute to be ready, a node with a GPU four."""


def signals(settings: Settings, *, gpu: bool) -> list[tuple[Signal, ...]]:
    """Give what is compared: ours, by the stated rules, and the usual ones at their usual targets."""
    load = Signal("load", "load", "average_value", settings.load)
    wait = Signal("queue wait p95", "wait", "value", settings.wait, 120.0)
    compared = [
        (load,),
        (load, wait),
        (wait,),
        (Signal("requests/s", "rate", "average_value", settings.rate),),
        (Signal("device busy 70 %", "busy", "value", 0.7, 120.0),),
        (Signal("CPU 70 %", "cpu", "per_pod", 0.7, 30.0, resource=True),),
    ]
    if gpu:
        compared.append((Signal("GPU utilisation 70 %", "kernels", "per_pod", 0.7),))
    return compared


def main(*, quick: bool, out: Path | None = None) -> None:
    """Measure, simulate, print tables and the JSON document, and draw into ``out``."""
    need_wrk()
    console = Console(stderr=True, width=150)
    rounds, seconds, shares = (1, 1.0, QUICK_SHARES) if quick else (3, 4.0, SHARES)
    measured = measure(rounds=rounds, seconds=seconds, console=console, shares=shares)
    replica = fit(measured)
    compared = compare(replica, measured)
    _show_curve(compared)
    document: dict[str, object] = {
        "slo_seconds": SLO_SECONDS, "replica": asdict(replica),
        "start_seconds": measured.start_seconds, "curve": compared, "64 clients": measured.full,
    }  # fmt: skip
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        draw_curve(out / "capacity-curve.png", "One replica: measured here, and the queue fitted to it", compared)
    for kind in (replica, GPU_CLASS):
        try:
            bounded, curve, settings = recommend(kind)
        except ValueError as fault:  # the machine was too busy to measure: there is nothing to simulate
            console.print(f"{fault}: no fleet of it is simulated", style="red")
            document[kind.name] = {"fault": str(fault)}
            continue
        _show_settings(bounded, settings, console)
        document[kind.name] = {
            "settings": asdict(settings), "capacity": bounded.capacity,
            "traffics": _traffics(curve, settings, quick=quick, out=out),
        }  # fmt: skip
    print_document("capacity", quick=quick, **document)


def _traffics(curve: Curve, settings: Settings, *, quick: bool, out: Path | None) -> dict[str, object]:
    """Run every signal through every traffic; if ``quick``, through the first traffic alone."""
    whole = daily(SEED)
    traffics = [*made(SEED), shortage(whole, np.ceil(0.7 * whole.rows_per_second.max() / settings.rate))]
    if path := os.environ.get("GUARDHOUSE_TRAFFIC"):
        traffics.append(recorded(Path(path)))
    found: dict[str, object] = {}
    for traffic in traffics[:1] if quick else traffics:
        title = f"{curve.replica.name}: {traffic.title}"
        runs = _runs(curve, settings, traffic)
        need = np.maximum(1, np.ceil(traffic.rows_per_second / settings.most_rate))
        scored = (np.arange(len(need)) + 1) * traffic.step > traffic.scored
        oracle = float(need[scored].sum()) * traffic.step
        figures = {run.signal: run.summary(traffic.event, oracle) for run in runs}
        found[traffic.name] = {"title": traffic.title, "oracle_replica_h": oracle / 3600, "signals": figures}
        print_table(title, figures)
        if out is not None:
            kind = "gpu" if curve.replica.kernel_fixed else "cpu"
            drawn = [run for run in runs if run.signal not in VARIANTS]
            draw_runs(out / f"capacity-{kind}-{traffic.name}.png", title, traffic, drawn, need)
    return found


def _runs(curve: Curve, settings: Settings, traffic: Traffic) -> list[Run]:
    plans = [(group, (UP, DOWN), "") for group in signals(settings, gpu=curve.replica.kernel_fixed > 0)]
    ours = plans[0][0][0]
    if not traffic.monitored.all():
        plans.append(((replace(ours, name="load, none taken for 0", missing="zero"),), (UP, DOWN), ""))
    if traffic.name == "flash":
        plans += [((ours,), rules, name) for name, rules in VARIANTS.items()]
    least = settings.least_replicas(float(traffic.rate.min()) / 2)
    most = 2 * math.ceil(traffic.rows_per_second.max() / settings.rate)
    first = math.ceil(traffic.rows_per_second[0] / settings.rate)
    runs = []
    for group, rules, name in plans:
        run = simulate(curve, traffic, group, Autoscaler(least, most, *rules), replicas=first)
        run.signal = name or run.signal
        runs.append(run)
    return runs


def _show_settings(replica: Replica, settings: Settings, console: Console) -> None:
    quietest = float(daily(SEED).rate.min())
    console.print(
        f"{replica.name}: at most {replica.capacity:.0f} rows/s, planned for {settings.rate:.0f} rows/s.\n"
        f"  HPA: guardhouse_load averageValue {settings.load:.0f}; minReplicas {settings.least_replicas(quietest)} if "
        f"the quietest hour has {quietest:.0f} requests/s.\n"
        f"  config: server.max_queue_rows {settings.queue_rows}; a replica bears {settings.bears:g} times that.",
        highlight=False,
    )


def _show_curve(compared: Sequence[Compared]) -> None:
    keys = ("rows_per_second", "p50_ms", "p99_ms", "inflight", "queue_rows", "busy_ratio", "cpu_cores", "shed_share")
    rows = {
        f"{row['rate']:.0f} requests/s{', held out' if row['held_out'] else ''}": {
            key: f"{row['measured'][key]:.3g} / {row['modelled'][key]:.3g}" for key in keys
        }
        for row in compared
    }
    print_table("measured / modelled", rows)
