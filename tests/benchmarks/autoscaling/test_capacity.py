"""The queue and the control loop of the capacity benchmark, against exact simulation, formulas and laws."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.autoscaling.control_loop import SLO_SECONDS, Run, simulate
from benchmarks.autoscaling.fleet import Fleet
from benchmarks.autoscaling.hpa import Autoscaler, Policy, Rules
from benchmarks.autoscaling.pods import Pods
from benchmarks.autoscaling.replica import Replica, quantile, steady
from benchmarks.autoscaling.replica_tables import Curve
from benchmarks.autoscaling.settings import Settings, recommend
from benchmarks.autoscaling.signals import Reading, Signal
from benchmarks.autoscaling.traffic import Traffic, dearer, outage, recorded

REPLICA = Replica(
    "made up", fixed=1.2e-3, per_row=0.5e-3, max_batch=16, queue_rows=64, noise=0.1, offset=1e-3, tail=1e-3,
    http_row=0.0, device_fixed=1e-3, device_per_row=0.45e-3, cpu_batch=1e-3, cpu_row=0.4e-3, refusal=0.0,
)  # fmt: skip
UP, DOWN = Rules(0.0, (Policy("Percent", 100), Policy("Pods", 4))), Rules(300.0, (Policy("Percent", 10, 60.0),))


@pytest.fixture(scope="module")
def curve() -> Curve:
    return Curve(REPLICA)


def exact(replica: Replica, arrivals: Sequence[float], seed: int) -> tuple[np.ndarray, int]:
    """Run every request through the batcher's rule; give the delays of those admitted, and how many were not."""
    rng = np.random.default_rng(seed)
    waiting: list[float] = []
    delays: list[float] = []
    now, place, refused = 0.0, 0, 0
    while place < len(arrivals) or waiting:
        if not waiting:
            now = arrivals[place]
            waiting.append(now)
            place += 1
        batch, waiting = waiting[: replica.max_batch], waiting[replica.max_batch :]
        factor = max(0.05, 1 + replica.noise * float(rng.normal()))
        now += (replica.fixed + replica.per_row * len(batch)) * factor
        while place < len(arrivals) and arrivals[place] < now:
            if len(waiting) < replica.queue_rows:
                waiting.append(arrivals[place])
            else:
                refused += 1
            place += 1
        delays += [now - came for came in batch]
    beside = replica.offset + rng.exponential(replica.tail, len(delays)) if replica.tail else replica.offset
    return np.array(delays) + beside, refused


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9, 1.0, 2.0])
def test_the_queue_agrees_with_a_simulation_of_every_request(share: float) -> None:
    """Shares answered and refused, requests in flight, p50 and p99 agree with 60,000 simulated requests."""
    rate = share * REPLICA.capacity
    arrivals = np.cumsum(np.random.default_rng(1).exponential(1 / rate, 60_000))
    delays, refused = exact(REPLICA, arrivals.tolist(), 2)
    solved = steady(REPLICA, rate)
    assert solved.served == pytest.approx(len(delays) / arrivals[-1], rel=0.03)
    assert solved.shed == pytest.approx(refused / len(arrivals), abs=0.01)
    assert solved.inflight == pytest.approx(delays.sum() / arrivals[-1], rel=0.08)
    for level in (0.5, 0.99):
        assert quantile(solved.delay, level) == pytest.approx(np.quantile(delays, level), rel=0.1)


@pytest.mark.parametrize("load", [0.3, 0.7, 0.9])
def test_batches_of_one_are_the_queue_of_pollaczek_and_khinchine(load: float) -> None:
    """M/D/1: the mean number waiting is load^2 / (2 (1 - load))."""
    single = replace(REPLICA, fixed=1e-3, per_row=0.0, max_batch=1, queue_rows=200, noise=0.0)
    assert steady(single, load / 1e-3).queue == pytest.approx(load**2 / (2 * (1 - load)), rel=0.02)


def test_a_fleet_in_a_flash_sheds_what_an_exact_simulation_sheds(curve: Curve) -> None:
    """One second at half of the capacity, two at three times, two at half: answered and refused agree within 3 %."""
    rates = (
        [0.5 * curve.replica.capacity] * 20 + [3 * curve.replica.capacity] * 40 + [0.5 * curve.replica.capacity] * 40
    )
    rng, came = np.random.default_rng(3), []
    for index, rate in enumerate(rates):
        count = int(rng.poisson(rate * 0.05))
        came += sorted((index + rng.random(count)) * 0.05)
    delays, refused = exact(curve.replica, came, 4)
    fleet = Fleet(curve)
    served = shed = 0.0
    for rate in rates:
        fleet.step(rate * 5, 5, 0.05)
        served, shed = served + float(fleet.served.sum()) / 5, shed + fleet.shed / 5
    assert served == pytest.approx(len(delays), rel=0.03)
    assert shed == pytest.approx(refused, rel=0.03)


@given(
    st.lists(st.tuples(st.floats(0, 50_000), st.integers(0, 40)), min_size=1, max_size=40),
    st.sampled_from([0.0, 1e-4]),
    st.sampled_from([0.1, 1.0]),
)
@settings(deadline=None, max_examples=60)
def test_rows_that_come_are_answered_refused_or_held(
    curve: Curve, steps: list[tuple[float, int]], refusal: float, seconds: float
) -> None:
    """No row appears or vanishes, none is counted below zero, and no replica holds more than its queue and a batch."""
    tables = curve if refusal == 0 else COSTLY
    fleet, before, came, out = Fleet(tables), 0, 0.0, 0.0
    for rate, replicas in steps:
        out += fleet.resize(before, replicas)
        before = replicas
        fleet.step(rate, replicas, seconds)
        assert (fleet.served >= -1e-6).all()
        assert fleet.shed >= 0
        assert (fleet.rows >= 0).all()
        assert (fleet.rows <= tables.replica.queue_rows + tables.replica.max_batch + 1).all()
        came += rate * seconds
        out += float(fleet.served.sum()) + fleet.shed
    assert out + float(fleet.rows.mean()) * before == pytest.approx(came, rel=1e-6, abs=1e-3)


COSTLY = Curve(replace(REPLICA, refusal=1e-4))


@pytest.mark.parametrize("tables", ["free", "costly"])
def test_more_replicas_never_make_it_worse(curve: Curve, tables: str) -> None:
    """At one rate, each replica more lowers, or keeps, what is refused, what is held and the p99."""
    chosen = curve if tables == "free" else COSTLY
    figures = [chosen.figures(20_000 / replicas) for replicas in range(4, 40)]
    for key, slack in (("shed_share", 1e-6), ("queue_rows", 1e-3), ("p99_ms", 1.0)):
        values = np.array([row[key] for row in figures])
        assert (np.diff(values) <= slack + 0.01 * values[:-1]).all(), key


def test_a_total_over_replicas_is_what_they_hold_and_forgets_those_gone_after_its_window(curve: Curve) -> None:
    """Ten pods make ten times one; five of them removed count for the minute that their samples stay in the window."""
    fleet = Fleet(curve)
    fleet.rows += 4.0
    held = fleet.reading("load", 0.0, 1.0)
    reading, pods = Reading(Signal("load", "load", "average_value", 1.0)), Pods(10, 60, 10)
    totals = []
    for second in range(1, 301):
        if second == 150:
            pods.resize(second, 5)
        pods.advance(second, np.inf)
        reading.add(second, 1.0, fleet, 0.0, 1.0)
        reading.evaluate(second, pods, monitored=True)
        totals.append(reading.latest)
    assert totals[140] == pytest.approx(10 * held)
    assert totals[180] == pytest.approx(10 * held)
    assert totals[-1] == pytest.approx(5 * held)


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 150)), min_size=1, max_size=30))
def test_pods_are_placed_only_where_there_is_room(steps: list[tuple[int, int]]) -> None:
    """There are as many pods as were asked for, and none gets a node while there are as many as places already."""
    pods, placed = Pods(10.0, 60.0, 20), 20
    for turn, (wanted, places) in enumerate(steps):
        pods.resize(30.0 * turn, wanted)
        placed = min(placed, pods.placed)
        pods.advance(30.0 * turn + 1, places)
        assert pods.wanted == wanted
        assert pods.placed <= max(places, placed)
        assert pods.unplaced == 0 or pods.placed >= places
        placed = pods.placed


@pytest.fixture(scope="module")
def planned() -> tuple[Replica, Curve, Settings]:
    return recommend(REPLICA)


def run(planned: tuple[Replica, Curve, Settings], traffic: Traffic, missing: Literal["hold", "zero"] = "hold") -> Run:
    _, tables, chosen = planned
    signal = Signal("load", "load", "average_value", chosen.load, missing=missing)
    first = int(traffic.rate[0] / chosen.rate)
    return simulate(tables, traffic, [signal], Autoscaler(2, 2000, UP, DOWN), replicas=first)


def test_an_outage_of_monitoring_holds_the_size_and_a_null_taken_for_zero_loses_it(
    planned: tuple[Replica, Curve, Settings],
) -> None:
    """During ten minutes without metrics the replicas stay; if absent metrics read as 0, replicas leave under load."""
    traffic = outage(low=20_000.0, high=30_000.0)
    held, fallen = run(planned, traffic), run(planned, traffic, "zero")
    assert traffic.event is not None
    dark = [i for i, t in enumerate(held.time) if traffic.event + 60 < t < traffic.event + 600]
    assert len({held.replicas[i] for i in dark}) == 1
    assert min(fallen.replicas) < 0.8 * held.replicas[dark[0]]
    assert fallen.refused > held.refused


def test_after_ten_times_the_traffic_the_load_signal_brings_the_objective_back(
    planned: tuple[Replica, Curve, Settings],
) -> None:
    """A flash crowd: once the pods are ready the p99 is within the objective; all rows are accounted for."""
    step, calm = 0.5, 900
    seconds = np.arange(0, 1800, step)
    rate = np.interp(seconds, [0, calm, calm + 30, 1800], [5_000, 5_000, 50_000, 50_000])
    free = np.full(len(rate), np.inf)
    found = run(
        planned,
        Traffic("flash", "", step, rate, np.ones(len(rate)), free, np.ones(len(rate), dtype=bool), 600.0, float(calm)),
    )
    summary = found.summary(float(calm), 1.0)
    assert summary["recovered_s"] is not None
    assert summary["recovered_s"] < 400
    assert found.p99[-1] < 1e3 * SLO_SECONDS
    assert 0 < found.refused < found.offered
    assert found.served + found.refused == pytest.approx(found.offered, rel=1e-3)


def test_dearer_requests_are_seen_by_the_load_and_not_by_their_number(planned: tuple[Replica, Curve, Settings]) -> None:
    """If each request brings three rows instead of one, the load signal adds replicas, and requests/s adds none."""
    _, tables, chosen = planned
    traffic, runs = dearer(steady=20_000.0), []
    for signal in (
        Signal("load", "load", "average_value", chosen.load),
        Signal("requests/s", "rate", "average_value", chosen.rate),
    ):
        first = int(np.ceil(traffic.rate[0] / chosen.rate))
        runs.append(simulate(tables, traffic, [signal], Autoscaler(2, 2000, UP, DOWN), replicas=first))
    load, number = runs
    assert load.refused < 0.01 * load.offered
    assert max(number.replicas) == min(number.replicas)
    assert number.refused > 0.2 * number.offered


def test_settings_keep_their_rules(planned: tuple[Replica, Curve, Settings]) -> None:
    """The planned rate keeps 70 % of the capacity and half of the objective; the queue keeps it in overload."""
    bounded, tables, chosen = planned
    figures = tables.figures(chosen.rate)
    assert chosen.rate <= 0.7 * bounded.capacity
    assert figures["p99_ms"] <= 500 * SLO_SECONDS
    assert figures["inflight"] + figures["queue_rows"] == pytest.approx(chosen.load)
    assert tables.figures(10 * chosen.rate)["p99_ms"] <= 1e3 * SLO_SECONDS
    assert chosen.bears >= 10  # refusals cost nothing here
    assert chosen.least_replicas(10 * chosen.rate) == 11


def test_a_recorded_rate_is_read_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    """Two columns, seconds and requests a second; times that do not rise are an error."""
    file = tmp_path / "rate.csv"
    file.write_text("seconds,rate\n0,100\n60,200\n120,50\n")
    traffic = recorded(file)
    assert traffic.rate[-1] == pytest.approx(50, abs=3)
    assert traffic.rate.max() == pytest.approx(200)
    file.write_text("seconds,rate\n0,100\n0,200\n")
    with pytest.raises(ValueError, match="rising"):
        recorded(file)
