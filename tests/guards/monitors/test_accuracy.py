"""The accuracy monitor: estimates before labels come, realised figures after, and the difference of both."""

from typing import Any

import numpy as np
import pytest
import tiny_models
import torch

from guards import Batch, Bundle
from guards.calibration.confidence_shift import fit_shift, move_log_odds
from guards.config.config import parse
from guards.monitors.accuracy import Accuracy, AccuracyParams
from guards.monitors.answered_rows import Records
from guards.monitors.base import Context, Statistic
from guards.monitors.groups.params import GroupsParams
from guards.statistics.rate_comparisons import difference_interval
from guards.statistics.recent_blocks import ALPHA
from guards.types import Mistake


def accuracy(bundle: Bundle) -> Accuracy:
    (monitor,) = (each for each in bundle.monitors if isinstance(each, Accuracy))
    monitor.counts[:] = 0
    return monitor


def made(classes: tuple[str, ...] = tiny_models.CLASSES, guards: tuple[str, ...] = ("ood",), **params: Any) -> Accuracy:
    region = {"name": "region", "attribute": "place", "source": {"request": "place"}, "levels": ["north", "south"]}
    monitors = (GroupsParams.model_validate(region),)
    context = Context(tiny_models.schema("tabular"), classes, guards, monitors, 0.01)
    return Accuracy(AccuracyParams(name="accuracy", **params), context)


def found(monitor: Accuracy, name: str, group: str | None = None) -> Statistic:
    (one,) = [s for s in monitor.report() if s.name == name and s.labels.get("group") == group]
    return one


def counters(monitor: Accuracy) -> dict[tuple[str, ...], float]:
    return {(s.metric, *s.labels.values()): s.value for s in monitor.series()}


def records(n: int, **given: Any) -> Records:
    columns: dict[str, Any] = {
        "predicted": np.zeros(n, np.int64), "action": np.zeros(n, np.int64), "confidence": np.full(n, 0.8),
        "groups": {"region": np.zeros(n, np.int64)}, **given,
    }  # fmt: skip
    return Records(**columns)


def test_every_bundle_has_one(tmp_path: Any) -> None:
    """Every bundle has the monitor, on disk too; a monitor that the config names takes its place."""
    bundle = tiny_models.fitted("tensor").bundle
    bundle.save(tmp_path / "b")
    fitted, loaded = accuracy(bundle), accuracy(Bundle.load(tmp_path / "b"))
    assert fitted.name == loaded.name == "accuracy"
    assert found(fitted, "train_accuracy") == found(loaded, "train_accuracy")
    named = tiny_models.fitted("tensor", monitors=[{"kind": "accuracy", "name": "quality"}]).bundle
    assert [monitor.name for monitor in named.monitors] == ["quality"]
    with pytest.raises(Mistake, match="the name 'accuracy' is reserved for the accuracy monitor"):
        parse(tiny_models.document("tensor", monitors=[{"kind": "bins", "name": "accuracy"}]))
    with pytest.raises(Mistake, match="there is another accuracy monitor: one is enough"):
        tiny_models.fitted("tensor", monitors=[{"kind": "accuracy", "name": "a"}, {"kind": "accuracy", "name": "b"}])


def test_train_held_out_and_live_in_one_place(table: Bundle) -> None:
    """The model's accuracy on train, held-out and live rows, each by its own count, and the gaps between them."""
    monitor = accuracy(table)
    train, heldout = tiny_models.rows("tabular"), tiny_models.rows("tabular", 400, 50)
    for name, rows in (("train_accuracy", train), ("reference_accuracy", heldout)):
        statistic = found(monitor, name)
        right = table.model(rows.x).logits.argmax(1) == rows.y
        assert statistic.n <= len(rows)
        assert statistic.value == pytest.approx(right.double().mean().item(), abs=0.05)
    live = tiny_models.rows("tabular", 500, 7)
    assert live.y is not None
    batch = Batch(live.x)
    outcome = table.pipeline()(batch)
    noted = Records.of(batch, outcome)
    monitor.observe(batch, outcome)
    members = outcome.prediction.members
    assert members is not None
    covered = members.gather(1, live.y[:, None])[:, 0].long().numpy()
    truth = Records(noted.predicted, noted.action, noted.confidence, actual=live.y.numpy(), covered=covered)
    monitor.join(truth)
    answered = noted.predicted >= 0
    right = (noted.predicted == live.y.numpy())[answered]
    assert found(monitor, "realised_accuracy").value == pytest.approx(right.mean())
    assert found(monitor, "coverage").value == pytest.approx(covered[answered].mean())
    expected = found(monitor, "expected_accuracy")
    moved = move_log_odds(noted.confidence, float(monitor.shift))
    assert expected.value == pytest.approx(np.nanmean(moved), abs=1e-6)
    drop = found(monitor, "accuracy_drop")
    assert drop.value == pytest.approx((found(monitor, "reference_accuracy").value or 0) - right.mean())
    assert drop.interval is not None
    assert drop.interval[0] < 0 < drop.interval[1]
    count = counters(monitor)
    assert count["expected_correct_total",] == pytest.approx(np.nansum(moved), abs=1e-3)
    assert (count["outcomes_total", "true"], count["outcomes_total", "false"]) == (right.sum(), (~right).sum())
    assert (count["covered_total", "true"], count["covered_total", "false"]) == (
        covered[answered].sum(),
        (1 - covered[answered]).sum(),
    )
    monitor.counts[:] = 0


def test_groups_are_told_apart() -> None:
    """With a groups monitor's name every figure is there by group too, and an unknown name is refused."""
    monitor = made(groups="region")
    group = np.array([0, 0, 1, 3])
    confidence = np.array([0.9, 0.7, 0.6, 0.5])
    monitor.counts += monitor.tally(records(4, confidence=confidence, groups={"region": group}))
    monitor.join(records(4, groups={"region": group}, actual=np.array([0, 1, 0, 0])))
    assert found(monitor, "expected_accuracy", "north").value == pytest.approx(0.8)
    assert found(monitor, "expected_accuracy").value == pytest.approx(0.675)
    assert found(monitor, "realised_accuracy", "north").value == 0.5
    assert found(monitor, "realised_accuracy", "unknown").n == 1
    assert counters(monitor)["group_expected_correct_total", "place", "north"] == pytest.approx(1.6)
    batch = Batch(torch.zeros(2, 4), {"place": torch.tensor([1, 1])})
    outcome = tiny_models.fitted("tabular", guards=[]).bundle.pipeline()(batch)
    monitor.observe(batch, outcome)
    assert found(monitor, "expected_accuracy", "south").n == 3
    with pytest.raises(ValueError, match="groups: no groups monitor 'sex'; there are"):
        made(groups="sex")


def test_the_estimate_is_valid_while_guards_keep_their_budget() -> None:
    """Flags within the budget's band leave the estimate valid; significantly more mark it invalid, with a warning."""
    monitor = made()
    monitor.heldout_rows = torch.tensor(4000)
    flagged = np.arange(5000) % 100 == 0
    monitor.counts += monitor.tally(records(5000, flagged=flagged))
    assert found(monitor, "estimate_valid").value == 1
    assert monitor.state() == "ok"
    monitor.counts += monitor.tally(records(500, flagged=np.ones(500, bool)))
    assert found(monitor, "estimate_valid").value == 0
    assert monitor.state() == "warning"
    assert found(made(guards=()), "estimate_valid").value is None


def test_a_loss_of_accuracy_alarms() -> None:
    """A significant loss of accuracy beyond the tolerance raises the alarm, until the accuracy has recovered."""
    monitor = made(tolerance=0.05)
    monitor.heldout_counts = torch.tensor([900, 1000])
    assert monitor.state() == "insufficient_data"
    monitor.counts += monitor.tally(records(400))
    monitor.join(records(400, actual=(np.arange(400) % 5 == 0).astype(np.int64) * 2))
    assert found(monitor, "accuracy_drop").value == pytest.approx(0.1)
    assert monitor.state() == "ok"
    monitor.join(records(1000, actual=(np.arange(1000) % 3 == 0).astype(np.int64)))
    assert monitor.state() == "alarm"
    monitor.join(records(9000, actual=(np.arange(9000) % 10 == 0).astype(np.int64)))
    assert monitor.state() == "ok"


def test_rows_without_an_answer_or_confidence() -> None:
    """Abstained rows are neither right nor wrong, and a confidence that is NaN is in no estimate."""
    monitor = made()
    predicted, action = np.array([-1, 0, 0]), np.array([2, 0, 0])
    confidence = np.array([np.nan, np.nan, 0.5])
    given: dict[str, Any] = {"predicted": predicted, "action": action, "confidence": confidence}
    monitor.counts += monitor.tally(records(3, **given))
    monitor.join(records(3, **given, actual=np.zeros(3, np.int64), covered=np.array([1, -1, 0])))
    assert found(monitor, "expected_accuracy").value == 0.5
    assert found(monitor, "realised_accuracy").n == 2
    assert found(monitor, "coverage").n == 1
    assert found(monitor, "flagged_share").value == pytest.approx(1 / 3)


def test_regression_has_mean_error_and_coverage() -> None:
    """A regression has its mean error, with an asymptotic interval, and how often intervals held the truth."""
    monitor = made(classes=())
    rng = np.random.default_rng(0)
    actual = rng.normal(50, 9, 500)
    predicted = actual + rng.normal(1, 2, 500)
    given: dict[str, Any] = {"predicted": predicted, "confidence": np.full(500, np.nan)}
    monitor.counts += monitor.tally(records(500, **given))
    monitor.join(records(500, **given, actual=actual, covered=(rng.random(500) < 0.9).astype(np.int64)))
    error = found(monitor, "mean_error")
    assert error.value == pytest.approx((predicted - actual).mean(), rel=1e-7)
    assert error.interval is not None
    assert error.interval[0] < 1 < error.interval[1]
    assert found(monitor, "coverage").value == pytest.approx(0.9, abs=0.05)
    assert {key[0] for key in counters(monitor)} == {"answered_total", "covered_total"}
    assert [s.name for s in monitor.report() if "accuracy" in s.name] == []


def test_confidence_is_calibrated_on_held_out_rows(table: Bundle) -> None:
    """The held-out rows' mean confidence, moved in log odds, is their accuracy; the estimate of new rows follows."""
    monitor = accuracy(table)
    held_out = found(monitor, "reference_accuracy")
    fresh = tiny_models.rows("tabular", 3000, 11)
    assert fresh.y is not None
    batch = Batch(fresh.x)
    outcome = table.pipeline()(batch)
    monitor.observe(batch, outcome)
    noted = Records.of(batch, outcome)
    known = noted.confidence[~np.isnan(noted.confidence)]
    assert found(monitor, "expected_accuracy").value == pytest.approx(
        move_log_odds(known, float(monitor.shift)).mean(), abs=1e-6
    )
    assert found(monitor, "expected_accuracy").value == pytest.approx(held_out.value, abs=0.08)
    sure = np.array([0.6, 0.9, 0.99])
    shift = fit_shift(sure, 0.7)
    assert move_log_odds(sure, shift).mean() == pytest.approx(0.7)
    assert shift < 0
    assert np.isnan(move_log_odds(np.array([np.nan]), shift)).all()
    monitor.counts[:] = 0


def labelled(monitor: Accuracy, right: int, wrong: int) -> None:
    """Give labels, the wrong ones spread evenly among the right ones."""
    n = right + wrong
    is_wrong = np.diff(np.floor(np.arange(n + 1) * wrong / max(n, 1))) > 0
    monitor.join(records(n, actual=is_wrong.astype(np.int64)))
    answers = np.zeros_like(monitor.counts)
    answers[0] = n
    monitor.add("answers", n, answers)


def heldout(monitor: Accuracy) -> Accuracy:
    monitor.heldout_counts = torch.tensor([950, 1000])
    return monitor


def test_good_labels_of_before_hide_no_fall_of_accuracy() -> None:
    """20,000 labels at 95 % and then 60 %: in alarm within 200 of those, without any tolerance declared."""
    monitor = heldout(made(guards=()))
    labelled(monitor, 19_000, 1000)
    assert monitor.state() == "ok"
    assert found(monitor, "recent_accuracy").value == pytest.approx(0.95, abs=0.001)
    taken = 0
    while monitor.state() != "alarm":
        labelled(monitor, 15, 10)
        taken += 25
        assert taken <= 200
    cause = monitor.cause()
    assert cause is not None
    assert cause.name == "recent_accuracy_drop"
    assert cause.interval is not None
    assert cause.interval[0] > 0.05
    loss = found(monitor, "accuracy_drop").value
    assert loss is not None
    assert loss < 0.01
    labelled(monitor, 4750, 250)
    assert monitor.state() == "ok"


def test_a_recent_alarm_is_of_the_served_bundle_alone() -> None:
    """Totals of more than the served bundle are judged without recent rows, and leave the monitor as it was."""
    monitor = heldout(made(guards=()))
    labelled(monitor, 600, 400)
    assert monitor.state() == "alarm"
    assert monitor.aside(monitor.counts.copy()).state() == "ok"
    assert monitor.state() == "alarm"


def test_few_clean_streams_raise_a_recent_alarm() -> None:
    """Of 100 clean streams of 20,000 labels, each with a reference of its own, far fewer than 20 alarm at tolerance 0.

    An average run length of 100,000 labels allows for a fifth of them.
    """
    rng = np.random.default_rng(0)
    streams, block = 100, 250
    right = rng.binomial(1000, 0.95, streams)
    blocks = rng.binomial(block, 0.95, (streams, 20_000 // block))
    alarmed = np.zeros(streams, bool)
    for length in (1, 2, 4, 10, 20, 40):
        sums = np.add.accumulate(np.pad(blocks, ((0, 0), (1, 0))), axis=1)
        windows = sums[:, length:] - sums[:, :-length]
        loss = right[:, None] / 1000 - windows / (length * block)
        # The largest loss of a stream has the interval that lies furthest from no loss.
        worst = windows[np.arange(streams), loss.argmax(1)]
        low, _ = difference_interval((right, np.full(streams, 1000)), (worst, np.full(streams, length * block)), ALPHA)
        alarmed |= low > 0
    assert alarmed.sum() <= 5


def test_a_tolerance_of_a_regression_is_refused() -> None:
    """A regression has no accuracy that could fall, so the tolerance would have no effect."""
    with pytest.raises(ValueError, match="a regression has not got"):
        made(classes=(), tolerance=0.1)
