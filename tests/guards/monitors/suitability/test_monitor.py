"""The suitability monitor: its verdicts on windows of a table, before any label comes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from easy_and_hard import CONTEXT, feed, monitor, outcome, rows

from guards import Batch, Bundle, Reference
from guards.config.config import differences, parse
from guards.monitors.base import Statistic
from guards.monitors.suitability.monitor import Suitability
from guards.monitors.suitability.params import SuitabilityParams
from guards.replay import replay
from guards.types import Mistake


def found(watching: Suitability, name: str) -> Statistic:
    (one,) = [each for each in watching.report() if each.name == name and not each.labels]
    return one


def told(watching: Suitability, name: str) -> str | None:
    """Give the label whose figure is 1: the verdict, or the reason."""
    ones = [next(iter(each.labels.values())) for each in watching.report() if each.name == name and each.value == 1]
    return ones[0] if ones else None


def test_rows_like_the_held_out_rows_do_no_harm() -> None:
    """Without a shift the verdict is no harm, and the interval of the expected accuracy holds the held-out accuracy."""
    watching = monitor()
    assert watching.state() == "insufficient_data"
    assert told(watching, "suitability") is None
    feed(watching, *rows(2000, 2))
    assert (watching.state(), told(watching, "suitability")) == ("ok", "no_harm")
    expected = found(watching, "expected_accuracy")
    assert expected.interval is not None
    assert expected.interval[0] < 0.8 < expected.interval[1]
    assert expected.interval[1] - expected.interval[0] < 0.05
    assert watching.alarms() == {"harm": 0}


def test_more_hard_rows_do_harm_although_the_confidence_stays() -> None:
    """A window of hard rows is harm: the estimate knows how often the model is right on such rows."""
    watching = monitor()
    feed(watching, *rows(2000, 3, hard=0.95))
    assert (watching.state(), told(watching, "suitability")) == ("alarm", "harm")
    assert found(watching, "expected_accuracy").value == pytest.approx(0.05 * 0.95 + 0.95 * 0.65, abs=0.02)
    cause = watching.cause()
    assert cause is not None
    assert cause.value == pytest.approx(0.8 - 0.665, abs=0.03)
    assert watching.alarms() == {"harm": 1}


def test_a_loss_at_the_margin_is_not_decided() -> None:
    """If the interval of the loss holds the margin, nobody can tell."""
    watching = monitor(margin=0.03)
    feed(watching, *rows(2000, 4, hard=0.6))
    assert (watching.state(), told(watching, "suitability")) == ("warning", "cannot_tell")
    assert told(watching, "cannot_tell") == "too_wide"


@pytest.mark.parametrize("value", [-1.0, torch.nan])
def test_values_that_no_held_out_row_has_widen_the_interval(value: float) -> None:
    """If a column is unseen or missing in a tenth of the rows, the model may be wrong on each, and nobody can tell."""
    x, y = rows(2000, 5)
    x[:200, 0] = value
    watching = monitor()
    feed(watching, x, y)
    assert told(watching, "cannot_tell") == "too_wide"
    assert found(watching, "unfamiliar_share").value == pytest.approx(0.1, abs=0.01)


def test_a_window_unlike_the_held_out_rows_cannot_be_judged() -> None:
    """If hardly any held-out row looks like the window, nobody can tell."""
    x, y = rows(60_000, 6)
    rare = (x[:, 1] > 2.2) & (x[:, 0] == 0)
    watching = monitor(window=1000)
    feed(watching, x[rare][:1000], y[rare][:1000])
    assert told(watching, "cannot_tell") == "no_overlap"
    overlap = found(watching, "overlap").value
    assert overlap is not None
    assert overlap < 1 / 6


def test_a_shuffled_column_is_found_by_its_pair() -> None:
    """If a column is shuffled, every column alone looks as usual, and the pair with its partner does not."""
    x, y = rows(2000, 7)
    x[:, 2] = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0)), 2]
    watching = monitor()
    feed(watching, x, y)
    assert told(watching, "cannot_tell") == "broken_pairs"


def test_other_class_shares_are_a_second_explanation() -> None:
    """If other class shares explain a window, the expected accuracy is that under these shares."""
    x, y = rows(8000, 8, hard=0.0)
    # The model is right on every "no" and on seven of ten "yes".
    answers = outcome(x, y, right=(1.0, 1.0))
    fooled = (y == 1) & (torch.rand(8000, generator=torch.Generator().manual_seed(1)) < 0.3)
    assert answers.prediction.label is not None
    assert answers.prediction.probabilities is not None
    prediction = replace(
        answers.prediction,
        label=torch.where(fooled, 0, answers.prediction.label),
        probabilities=torch.where(
            fooled[:, None], answers.prediction.probabilities.flip(1), answers.prediction.probabilities
        ),
    )
    answers = replace(answers, prediction=prediction)
    watching = Suitability(SuitabilityParams(name="s", window=2000, exclude=("kind",)), CONTEXT)
    watching.fit(Reference(Batch(x[:5000]), y[:5000], CONTEXT.schema), answers[:5000])
    late = torch.arange(5000, 8000)
    index = torch.cat([late[y[late] == 1], late[y[late] == 0][:200], late[y[late] == 1]])[:2000]
    picked = replace(
        answers,
        prediction=replace(prediction, label=prediction.label[index], probabilities=prediction.probabilities[index]),
        output=replace(answers.output, logits=answers.output.logits[index], features=answers.output.features[index]),
        verdict=answers[:2000].verdict,
    )
    watching.observe(Batch(x[index]), picked)
    assert picked.prediction.label is not None
    assert found(watching, "label_shift").value == 1
    right = float((picked.prediction.label == y[index]).double().mean())
    assert found(watching, "expected_accuracy").value == pytest.approx(right, abs=0.03)


def test_each_full_window_gets_one_verdict() -> None:
    """A window ends after exactly its number of rows, however the rows are batched."""
    x, y = rows(5100, 9)
    watching = monitor(window=500)
    for start, stop in ((0, 499), (499, 501), (501, 2600), (2600, 5100)):
        watching.observe(Batch(x[start:stop]), outcome(x[start:stop], y[start:stop]))
    windows = {each.labels["verdict"]: each.value for each in watching.report() if each.name == "windows"}
    assert sum(value or 0 for value in windows.values()) == 10
    counted = {each.labels["verdict"]: each.value for each in watching.series()}
    assert counted == windows


def test_withheld_answers_are_not_counted() -> None:
    """Rows whose answer is withheld are in no window: the figures are of answered rows."""
    x, y = rows(2500, 10)
    answers = outcome(x, y)
    action = torch.zeros(2500, dtype=torch.int64)
    action[:1000] = 2
    watching = monitor(window=1000)
    watching.observe(Batch(x), replace(answers, verdict=replace(answers.verdict, action=action)))
    assert watching.verdicts.sum() == 1


def test_a_restart_goes_on_within_a_window() -> None:
    """A monitor that restores a snapshot fills the same window, and gives the same report."""
    x, y = rows(3000, 11, hard=0.9)
    first, second = monitor(), monitor()
    feed(first, x[:2500], y[:2500])
    second.restore({name: array.copy() for name, array in first.snapshot().items()})
    assert second.report() == first.report()
    for watching in (first, second):
        feed(watching, x[500:], y[500:])
    assert second.report() == first.report()
    with pytest.raises(ValueError, match="a snapshot has"):
        second.restore({"current": first.current})


def test_without_labels_every_verdict_is_cannot_tell() -> None:
    """Unlabelled calibration rows support no verdict, and the fit says so."""
    watching = monitor(labelled=False)
    assert "the calibration rows have no labels" in watching.notices[0]
    feed(watching, *rows(2000, 12))
    assert (told(watching, "suitability"), told(watching, "cannot_tell")) == ("cannot_tell", "no_labels")
    assert found(watching, "expected_accuracy").value is None


@pytest.mark.parametrize(
    ("count", "params", "said"),
    [
        (300, {}, "needs at least 500 labelled calibration rows, there are 300"),
        (600, {"bins": 100}, "lower `bins`, `exclude` columns, or give more rows"),
    ],
)
def test_too_few_rows_are_refused(count: int, params: dict[str, Any], said: str) -> None:
    """A reference that cannot support the estimate is refused with the way out."""
    with pytest.raises(ValueError, match=said):
        monitor(count, **params)


def test_a_run_length_shorter_than_two_windows_is_refused() -> None:
    """A false alarm at every second window would be no promise."""
    with pytest.raises(ValueError, match="average_run_length is below two windows"):
        SuitabilityParams(name="s", window=2000, average_run_length=3000)


def test_it_lives_in_a_bundle_and_in_a_replay(tmp_path: Path) -> None:
    """A bundle on disk keeps the monitor without reference rows, and a replay gives its verdicts."""
    labeller = tiny_models.model("tabular")
    heldout = tiny_models.rows("tabular", 3000, 60, labeller=labeller)
    params = {"kind": "suitability", "name": "suitable", "window": 500, "bins": 4}
    bundle = tiny_models.fitted("tabular", heldout=heldout, monitors=[params]).bundle
    bundle.save(tmp_path / "b")
    loaded = Bundle.load(tmp_path / "b")
    stream = tiny_models.rows("tabular", 1200, 61, labeller=labeller)
    document, _ = replay(loaded, stream)
    figures = document["monitors"]["suitable"]["statistics"]
    assert sum(each["value"] for each in figures if each["name"] == "windows") == 2  # type: ignore[misc]
    rows_kept = [name for name, tensor in loaded.monitors[0].state_dict().items() if max((*tensor.shape, 0)) >= 2000]
    assert rows_kept == []


def test_the_margin_may_change_without_a_refit() -> None:
    """Another margin or run length judges the same counts; another window needs a refit."""

    def config(**changes: Any) -> Any:
        return parse(tiny_models.document("tabular", monitors=[{"kind": "suitability", "name": "s", **changes}]))

    assert differences(config(), config(margin=0.1, average_run_length=10**6)) == []
    assert differences(config(), config(window=1000)) == ["monitors.0.window"]


def test_a_regression_is_refused() -> None:
    """A regression has no accuracy, and the config is refused with a sentence."""
    with pytest.raises(Mistake, match="a regression has no accuracy"):
        tiny_models.fitted(
            "tabular",
            model={"builder": "tiny_models:value_net", "task": "regression", "device": "cpu"},
            guards=[],
            monitors=[{"kind": "suitability", "name": "s"}],
        )
