"""The sequential monitor: quiet without a change, early after a change, and unaffected by a restart."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from prometheus_client.parser import text_string_to_metric_families
from scrapes import scrape_of

from guards import Batch, Bundle, Result
from guards.config.config import differences, parse
from guards.input.column import Column
from guards.input.schema import InputSchema
from guards.monitors.base import Context, Statistic
from guards.monitors.sequential import QUIET_ROWS, Sequential, SequentialParams
from guards.types import Action, Mistake, ModelOutput, Prediction, Reference, Verdict
from service.monitoring.live_monitors import Monitoring

COLUMNS = ("a", "b", "c")


def outcome(rows: int, flagged: torch.Tensor | None = None) -> Result:
    none = torch.zeros((1, rows))
    flagged = torch.zeros(rows, dtype=torch.bool) if flagged is None else flagged
    action = torch.where(flagged, int(Action.FLAG), 0)
    p_value = torch.linspace(0.01, 1, rows)[torch.randperm(rows, generator=torch.Generator().manual_seed(rows))][None]
    verdict = Verdict(("g",), none, p_value, flagged[None], None, action, {})
    return Result(ModelOutput(none.T, none.T), Prediction(value=torch.zeros(rows)), verdict)


def monitor(rows: int = 2000, seed: int = 0, reference: torch.Tensor | None = None, **params: Any) -> Sequential:
    schema = InputSchema(
        kind="tabular", shape=(len(COLUMNS),), columns=tuple(Column(name=n, kind="numeric") for n in COLUMNS)
    )
    x = normal(rows, seed) if reference is None else reference
    made = SequentialParams.model_validate({"name": "drift", "projections": 0, **params})
    fresh = Sequential(made, Context(schema, (), ("g",)))
    return fresh.fit(Reference(Batch(x), None, schema), outcome(len(x)))


def normal(rows: int, seed: int) -> torch.Tensor:
    return torch.randn((rows, len(COLUMNS)), generator=torch.Generator().manual_seed(seed))


def feed(watching: Sequential, x: torch.Tensor, flagged: torch.Tensor | None = None, size: int = 50) -> None:
    for start in range(0, len(x), size):
        part = x[start : start + size]
        marks = None if flagged is None else flagged[start : start + size]
        # Each guard's p-value is spread evenly, so that this stream never moves.
        watching.observe(Batch(part), outcome(len(part), marks))


def drifted(watching: Sequential) -> list[str]:
    return [s.labels["stream"] for s in watching.report() if s.name == "drifted" and s.value == 1]


def values(watching: Sequential, name: str) -> dict[str, Statistic]:
    return {s.labels["stream"]: s for s in watching.report() if s.name == name}


def test_states_of_a_drift_that_comes_and_goes() -> None:
    """Insufficient data, ok, alarm with the right column's name, and ok again after the stated number of quiet rows."""
    watching = monitor()
    assert watching.state() == "insufficient_data"
    feed(watching, normal(96, 1))
    assert watching.state() == "insufficient_data"
    feed(watching, normal(3000, 2))
    assert (watching.state(), drifted(watching)) == ("ok", [])
    moved = normal(400, 3)
    moved[:, 1] += 1
    feed(watching, moved)
    assert (watching.state(), drifted(watching)) == ("alarm", ["column:b"])
    alarms = {s.labels["stream"]: s.value for s in watching.series() if s.metric == "drift_alarms_total"}
    assert {name for name, count in alarms.items() if count} == {"column:b"}
    feed(watching, normal(QUIET_ROWS - 50, 4))
    assert watching.state() == "alarm", "the evidence has not been low for long enough"
    feed(watching, normal(1500, 5))
    assert (watching.state(), drifted(watching)) == ("ok", [])
    assert {s.labels["stream"]: s.value for s in watching.series() if s.metric == "drift_alarms_total"} == alarms


def test_drift_that_stays_is_one_alarm() -> None:
    """A change that persists keeps the alarm up, and is counted once."""
    watching = monitor()
    feed(watching, normal(6000, 3) + torch.tensor([0.0, 0.0, 0.7]))
    assert watching.state() == "alarm"
    assert watching.alarm_counts.sum() == 1
    assert values(watching, "evidence")["column:c"].value > watching.report()[0].value  # type: ignore[operator]


def test_a_warning_comes_before_an_alarm() -> None:
    """While evidence grows a warning is given first, which is no alarm and counts none."""
    watching = monitor(average_run_length=10**8)
    states = []
    for start in range(0, 800, 16):
        feed(watching, normal(800, 6)[start : start + 16] + 0.5)
        states.append(watching.state())
    assert states.index("warning") < states.index("alarm")
    assert set(states[states.index("alarm") :]) == {"alarm"}


def test_several_streams_are_named() -> None:
    """All columns that moved are named, and none that did not."""
    watching = monitor()
    feed(watching, normal(1500, 7) + torch.tensor([0.6, 0.0, -0.6]))
    assert drifted(watching) == ["column:a", "column:c"]


@pytest.mark.parametrize("epoch", [10, 40])
def test_no_alarm_by_the_number_of_rows_alone(epoch: int) -> None:
    """Rows with the reference's very frequencies never alarm, however many times the run length they are.

    A sum of e-processes that neither win nor lose grows by one an epoch, and would alarm at exactly the run length.
    """
    watching = monitor(average_run_length=10_000, epoch=epoch)
    reference = watching.reference_counts.numpy()
    even = np.zeros_like(reference)
    for i, start in enumerate(watching.streams.offsets.tolist()):
        if watching.names[i] != "label":  # which is constant
            even[start + 1 : start + 11] = epoch // 10
        else:
            even[start + int(reference[start : start + 13].argmax())] = epoch
    highest = []
    for _ in range(3 * 10_000 // epoch):
        watching.judge(even)
        highest.append(watching.evidence.max())
    assert watching.state() == "ok"
    assert highest[-1] == highest[len(highest) // 2], "the evidence has not settled"


@pytest.mark.parametrize("include", ["all", "clean"])
def test_epochs_judged_at_once_are_judged_as_one_by_one(include: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However rows are cut into batches, the same rows leave the same state: through alarms, their ends and halvings.

    The cuts are single rows, parts of an epoch, many epochs, and more epochs than are judged at once.
    """
    monkeypatch.setattr("guards.monitors.sequential.WINDOW_ROWS", 700)
    monkeypatch.setattr("guards.monitors.sequential.COUNTS_AT_ONCE", 4096)
    quiet, moved = normal(3 * QUIET_ROWS, 21), normal(400, 22) + 1.5
    x = torch.cat([quiet[:300], moved, quiet, moved[:200], quiet[:500]])
    flagged = torch.rand(len(x), generator=torch.Generator().manual_seed(23)) < 0.1
    whole = outcome(len(x), flagged)
    alarms, found = 0, []
    for size in (1, 7, 100, len(x)):
        watching = monitor(average_run_length=1000, epoch=8, include=include)
        before = "ok"
        for start in range(0, len(x), size):
            rows = slice(start, start + size)
            watching.observe(Batch(x[rows]), whole[rows])
            alarms += size == 1 and watching.state() == "alarm" != before
            before = watching.state()
        found.append({name: array.tolist() for name, array in watching.snapshot().items()})
    assert alarms == 2
    assert found[0] == found[1] == found[2] == found[3]


def test_bets_that_are_none_never_start() -> None:
    """With a tolerance beyond every bet nothing is bet, so that nothing can be won on any rows."""
    watching = monitor(tolerance=10, average_run_length=100)
    feed(watching, normal(2000, 8) * 100 + 50)
    assert watching.evidence.max() == 0
    assert watching.state() == "ok"


def test_tolerated_drift_is_none() -> None:
    """A shift within the tolerance raises no alarm, but one without it; a larger shift raises both."""
    for tolerance, shift, state in ((0.0, 0.3, "alarm"), (0.35, 0.3, "ok"), (0.35, 1.5, "alarm")):
        watching = monitor(10_000, tolerance=tolerance)
        feed(watching, normal(4000, 9) + shift)
        assert watching.state() == state


def test_missing_values_that_the_reference_never_had() -> None:
    """A missing value now and then is within what the reference cannot rule out; many of them are named as drift."""
    watching = monitor(10_000)
    rare = normal(10_000, 10)
    rare[::2500, 0] = torch.nan
    feed(watching, rare)
    assert watching.state() == "ok"
    many = normal(500, 11)
    many[::5, 0] = torch.inf
    many[::7, 0] = torch.nan
    feed(watching, many)
    assert drifted(watching) == ["column:a"]


def test_a_guard_that_crashes_is_named() -> None:
    """P-values that are missing are drift of that guard's stream, and of no other."""
    watching = monitor()
    rows = normal(64, 12)
    said = outcome(64)
    crashed = replace(said, verdict=replace(said.verdict, p_value=torch.full((1, 64), torch.nan)))
    watching.observe(Batch(rows), crashed)
    assert drifted(watching) == ["guard:g"]


@pytest.mark.parametrize(("include", "state"), [("all", "alarm"), ("clean", "ok")])
def test_flagged_rows_are_judged_unless_left_out(include: str, state: str) -> None:
    """By default drift that guards flag row by row is seen; left out, flagged rows count in the series alone."""
    watching = monitor(include=include)
    rows = normal(2000, 13)
    flagged = torch.arange(2000) % 4 == 0
    rows[flagged] += 3
    feed(watching, rows, flagged)
    assert watching.state() == state
    counted = values(watching, "evidence")["column:a"].n
    assert counted == (2000 if include == "all" else 1500) // 16 * 16
    total = sum(s.value for s in watching.series() if s.labels.get("stream") == "column:a" and "total" in s.metric)
    assert total - watching.alarm_counts[0] == 2000


def test_reference_of_clean_rows() -> None:
    """With `clean` the reference's flagged rows are left out of the null, and stay in the reference's series."""
    x, flagged = normal(400, 14), torch.arange(400) % 2 == 0
    whole = monitor(reference=x)
    fresh = Sequential(SequentialParams(name="drift", projections=0, include="clean"), whole.context)
    fresh.fit(Reference(Batch(x), None, whole.context.schema), outcome(400, flagged))
    assert fresh.reference_counts.sum() == 200 * len(fresh.names)
    assert fresh.streams.reference_counts.sum() == 400 * len(fresh.names)


def test_run_length_in_control_is_at_least_what_was_asked_for() -> None:
    """Over references and streams, rows to a false alarm are on average no fewer than the average run length."""
    asked, most, lengths = 400, 4000, []
    for run in range(30):
        watching = monitor(200, seed=1000 + run, average_run_length=asked, epoch=8)
        length = most
        for start in range(0, most, 200):
            feed(watching, normal(200, 10_000 + 100 * run + start // 200), size=200)
            if watching.state() == "alarm":
                length = start
                break
        lengths.append(length)
    assert np.mean(lengths) >= asked


@pytest.mark.parametrize("at", [16, 23, 1000, 1313])
def test_a_restart_changes_nothing(at: int) -> None:
    """Restored from its snapshot, a fresh monitor of the same bundle goes on to the bit, alarm included."""
    rows = normal(2000, 15)
    rows[900:, 2] += 1
    whole = monitor()
    feed(whole, rows[:at])
    fresh = monitor()
    fresh.restore(whole.snapshot())
    for each in (whole, fresh):
        feed(each, rows[at:])
    assert (whole.series(), whole.report(), whole.state()) == (fresh.series(), fresh.report(), fresh.state())
    assert whole.state() == "alarm"
    one, other = whole.snapshot(), fresh.snapshot()
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_evidence_against_another_tolerance_starts_anew() -> None:
    """After the tolerance was changed the counts go on, and what was won against the old null is dropped."""
    old, new = monitor(), monitor(tolerance=0.2)
    feed(old, normal(1000, 16) + 1)
    assert old.state() == "alarm"
    new.restore(old.snapshot())
    assert new.evidence.max() == 0
    assert new.state() == "ok"
    assert np.array_equal(new.counts, old.counts)


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("counts", lambda x: x[:-1], "counts is int64"),
        ("evidence", lambda x: x.astype(np.float64), "evidence is float64"),
        ("evidence", lambda x: x - 1, "evidence holds a number that is negative"),
        ("evidence", lambda x: x * np.float32("nan"), "evidence holds a number that is negative or not finite"),
        ("clock", lambda x: x + 1, "its pending rows do not fit its clock"),
        ("unjudged", lambda x: x + np.uint16(1), "its pending rows do not fit its clock"),
        ("reference", lambda x: x[::-1].copy(), "it was taken with another reference"),
        ("window", None, "a snapshot has"),
    ],
)
def test_what_is_no_snapshot_is_refused(name: str, change: Any, sentence: str) -> None:
    """A snapshot with an array of another shape, type or range, or of another bundle, is refused; nothing changes."""
    watching = monitor()
    feed(watching, normal(105, 17))
    state = dict(watching.snapshot())
    if change is None:
        del state[name]
    else:
        state[name] = change(state[name])
    before = watching.report()
    with pytest.raises(ValueError, match=sentence):
        watching.restore(state)
    assert watching.report() == before


def test_stability_index_follows_the_last_rows() -> None:
    """The index is of a window: small on clean rows, of the shift's size soon after it, and None on a few rows."""
    watching = monitor(10_000)
    feed(watching, normal(96, 18))
    assert values(watching, "psi")["column:a"].value is None
    feed(watching, normal(30_000, 19), size=1000)
    assert values(watching, "psi")["column:a"].value == pytest.approx(0, abs=0.002)
    feed(watching, normal(60_000, 20) + torch.tensor([0.5, 0, 0]), size=1000)
    found = values(watching, "psi")
    assert found["column:a"].value == pytest.approx(0.24, abs=0.02)  # by scipy, for ten decile bins
    low, high = found["column:a"].interval or (0.0, 0.0)
    assert 0.2 < low < high < 0.3
    assert found["column:b"].value == pytest.approx(0, abs=0.002)
    assert 10_000 <= found["column:a"].n <= 20_000


def test_run_length_below_an_epoch_is_refused() -> None:
    """An average run length that no epoch can resolve is a mistake."""
    with pytest.raises(ValueError, match="average_run_length is below the 400 rows of an epoch"):
        SequentialParams(name="d", average_run_length=300, epoch=400)


def sequential(bundle: Bundle) -> Sequential:
    return next(each for each in bundle.monitors if isinstance(each, Sequential))


def test_in_a_bundle() -> None:
    """Fitted with a bundle, on clean rows of the toy table it is quiet, and a moved column is named first."""
    bundle = tiny_models.fitted("tabular", monitors=[{"kind": "sequential", "name": "drift"}]).bundle
    watching, pipeline = sequential(bundle), bundle.pipeline()
    for seed in range(10):
        batch = Batch(tiny_models.inputs("tabular", 200, 900 + seed))
        watching.observe(batch, pipeline(batch))
    assert watching.state() == "ok"
    for seed in range(2):
        batch = Batch(tiny_models.inputs("tabular", 200, 950 + seed))
        batch.x[:, 2] += 2
        watching.observe(batch, pipeline(batch))
    assert watching.state() == "alarm"
    assert "column:age" in drifted(watching)
    assert "column:length" not in drifted(watching)


def test_run_length_and_tolerance_change_without_a_refit() -> None:
    """Both may change at deploy time, so nothing fitted may depend on them; the epoch may not."""
    documents = [
        tiny_models.document("tabular", monitors=[{"kind": "sequential", "name": "d", **params}])
        for params in ({}, {"average_run_length": 10**6, "tolerance": 0.1}, {"epoch": 8})
    ]
    fitted, free, bound = map(parse, documents)
    assert differences(fitted, free) == []
    assert differences(fitted, bound) == ["monitors.0.epoch"]
    states = [monitor(average_run_length=run, tolerance=tol).state_dict() for run, tol in ((10**4, 0.0), (10**6, 0.2))]
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))


def test_monitors_of_streams_share_their_bins() -> None:
    """Two monitors of streams with different bins are refused in one sentence; alike, each series is there once."""
    both = [{"kind": "bins", "name": "streams"}, {"kind": "sequential", "name": "drift", "bins": 5}]
    sentence = "monitors: 'drift' has bins: 5 and 'streams' has 10: give all monitors of streams the same"
    with pytest.raises(Mistake) as refused:
        parse(tiny_models.document("tabular", monitors=both))
    assert refused.value.sentences == (sentence,)
    both[1]["bins"] = 10
    bundle = tiny_models.fitted("tabular", monitors=both).bundle
    monitoring = Monitoring(bundle.monitors)
    samples = [
        (sample.name, *sorted(sample.labels.items()))
        for family in text_string_to_metric_families(scrape_of(["g"], series=monitoring.series))
        if family.name.startswith(("guardhouse_stream", "guardhouse_reference", "guardhouse_drift"))
        for sample in family.samples
    ]
    assert len(samples) == len(set(samples)) > 100
    assert any(name == "guardhouse_drift_evidence" for name, *_ in samples)


def test_projections_of_noise_do_not_drift() -> None:
    """Directions of the largest variance in a sample are so by chance as well: clean rows along them are no drift."""
    generator = torch.Generator().manual_seed(0)
    context = Context(InputSchema(kind="tabular", shape=(1,), columns=(Column(name="a", kind="numeric"),)), (), ())

    def answered(rows: int) -> tuple[Batch, Result]:
        features, none = torch.randn((rows, 64), generator=generator), torch.zeros((0, rows))
        verdict = Verdict((), none, none, none.bool(), None, torch.zeros(rows, dtype=torch.int64), {})
        output, prediction = ModelOutput(torch.zeros((rows, 1)), features), Prediction(value=torch.zeros(rows))
        return Batch(torch.zeros((rows, 1))), Result(output, prediction, verdict)

    batch, said = answered(1000)
    watching = Sequential(SequentialParams(name="drift"), context).fit(Reference(batch, None, context.schema), said)
    assert watching.streams.reference_counts.sum() == 1000 * 2 + 500 * 4
    for _ in range(20):
        watching.observe(*answered(500))
    assert watching.state() == "ok"
