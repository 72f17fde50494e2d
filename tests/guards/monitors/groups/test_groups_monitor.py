"""The groups monitor against fairlearn, published counts and figures worked out by hand."""

import csv
import os
from pathlib import Path
from typing import Any

import example_groups
import fairlearn.metrics as fl
import numpy as np
import numpy.typing as npt
import pytest
import tiny_models
import torch
from sklearn.metrics import accuracy_score, precision_score

from guards.config.config import parse
from guards.monitors.answered_rows import Records
from guards.monitors.base import Context
from guards.monitors.groupings import OTHER, UNKNOWN
from guards.monitors.groups.group_counts import error_moments
from guards.monitors.groups.monitor import Groups
from guards.monitors.groups.params import GroupsParams
from guards.monitors.optional_methods import HasCounts
from guards.types import Batch, Mistake

Rows = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]
RATES = {
    "selection_rate": fl.selection_rate,
    "true_positive_rate": fl.true_positive_rate,
    "false_positive_rate": fl.false_positive_rate,
    "positive_predictive_value": precision_score,
    "accuracy": accuracy_score,
}
DIFFERENCES = {
    "demographic_parity_difference": fl.demographic_parity_difference,
    "demographic_parity_ratio": fl.demographic_parity_ratio,
    "equal_opportunity_difference": fl.equal_opportunity_difference,
    "equalized_odds_difference": fl.equalized_odds_difference,
}


def made_up(groups: int, count: int, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, count)
    actual = (rng.random(count) < 0.2 + 0.1 * (group % 5)).astype(np.int64)
    predicted = (rng.random(count) < 0.15 + 0.5 * actual + 0.05 * (group % 5)).astype(np.int64)
    return group, predicted, actual


def compas(columns: str, levels: tuple[str, ...]) -> Rows:
    """Expand the counts of ProPublica's table into rows: a score of 5 and more predicts a new offence."""
    folder = Path(os.environ.get("GUARDHOUSE_DATA", "../shared/data")) / "compas"
    path = folder / f"two_year_counts_by_{columns}.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there; GUARDHOUSE_DATA names the data folder")
    with path.open(encoding="utf-8") as stream:
        lines = [line for line in csv.DictReader(stream) if line[columns] in levels]
    times = [int(line["n"]) for line in lines]
    group = np.repeat([levels.index(line[columns]) for line in lines], times)
    predicted = np.repeat([int(int(line["decile_score"]) >= 5) for line in lines], times)
    return group, predicted, np.repeat([int(line["two_year_recid"]) for line in lines], times)


def agree_with_fairlearn(levels: tuple[str, ...], rows: Rows) -> None:
    group, predicted, actual = rows
    watched = example_groups.monitor(levels)
    example_groups.feed(watched, group, predicted, actual)
    frame = fl.MetricFrame(metrics=RATES, y_true=actual, y_pred=predicted, sensitive_features=group)
    for name in RATES:
        for code, level in enumerate(levels):
            statistic = example_groups.found(watched, name, group=level)
            assert statistic.value == pytest.approx(frame.by_group[name][code], abs=1e-12), (name, level)
            assert statistic.interval is not None
            assert 0 <= statistic.interval[0] <= statistic.value <= statistic.interval[1] <= 1
    for name, metric in DIFFERENCES.items():
        statistic = example_groups.found(watched, name)
        assert statistic.value == pytest.approx(metric(actual, predicted, sensitive_features=group), abs=1e-12), name
        assert statistic.interval is not None
        assert statistic.interval[0] <= statistic.value <= statistic.interval[1]


@pytest.mark.parametrize(
    ("levels", "seed"), [(("a", "b"), 1), (("a", "b", "c", "d"), 2), (tuple("abcdefghijklmno"), 3)]
)
def test_fairlearn_agrees(levels: tuple[str, ...], seed: int) -> None:
    """Every rate, difference and ratio has fairlearn's name and value, for few groups and for many."""
    agree_with_fairlearn(levels, made_up(len(levels), 3000, seed))


@pytest.mark.data
@pytest.mark.parametrize(
    ("column", "levels"),
    [("race", ("African-American", "Caucasian", "Hispanic", "Other")), ("sex", ("Female", "Male"))],
)
def test_fairlearn_agrees_on_compas(column: str, levels: tuple[str, ...]) -> None:
    """The same holds of the COMPAS counts, by race and by sex."""
    agree_with_fairlearn(levels, compas(column, levels))


@pytest.mark.data
@pytest.mark.parametrize("seed", range(3))
def test_compas_counts_are_golden(seed: int) -> None:
    """In any order, with labels late and out of order, on three replicas, the published counts come out exactly."""
    levels = ("African-American", "Caucasian")
    group, predicted, actual = compas("race", levels)
    rng = np.random.default_rng(seed)
    replicas = [example_groups.monitor(levels) for _ in range(3)]
    for rows in np.array_split(rng.permutation(len(group)), 40):
        replica = replicas[rng.integers(3)]
        replica.counts += replica.tally(example_groups.records(group[rows], predicted[rows]))
    for rows in np.array_split(rng.permutation(len(group)), 17):
        replicas[rng.integers(3)].join(example_groups.records(group[rows], predicted[rows], actual[rows]))
    watched = example_groups.monitor(levels)
    watched.counts[:] = sum((replica.counts for replica in replicas), start=np.zeros_like(watched.counts))
    watched.judge_by(watched.counts, ())
    assert example_groups.group_counts(watched).outcomes[0, :2].tolist() == [[990, 532], [805, 1369]]
    assert example_groups.group_counts(watched).outcomes[1, :2].tolist() == [[1139, 461], [349, 505]]
    rounded = {
        ("false_positive_rate", "African-American"): 0.4485,
        ("false_positive_rate", "Caucasian"): 0.2345,
        ("selection_rate", "African-American"): 0.5882,
        ("selection_rate", "Caucasian"): 0.3480,
    }
    for (name, level), value in rounded.items():
        assert round(example_groups.found(watched, name, group=level).value or 0, 4) == value
    for name, value in (
        ("demographic_parity_difference", 0.2402),
        ("demographic_parity_ratio", 0.5916),
        ("equalized_odds_difference", 0.2139),
    ):
        assert round(example_groups.found(watched, name).value or 0, 4) == value
    miss = example_groups.found(watched, "true_positive_rate", group="Caucasian").value or 0
    assert round(1 - miss, 4) == 0.4772


def test_labels_add_to_the_outcomes_alone() -> None:
    """A row is counted as answered once, and its label changes no prediction, action or coverage of another."""
    watched = example_groups.monitor()
    watched.counts += watched.tally(example_groups.records([0, 1, 1], [1, 0, 1]))
    before = example_groups.group_counts(watched).predictions.copy()
    watched.join(example_groups.records([1], [0], [1]))
    assert np.array_equal(example_groups.group_counts(watched).predictions, before)
    assert example_groups.group_counts(watched).actions.sum() == 3
    assert example_groups.group_counts(watched).outcomes.sum() == 1
    coverage = example_groups.found(watched, "label_coverage", group="b")
    assert (coverage.value, coverage.n) == (0.5, 2)


def test_rows_without_an_answer() -> None:
    """Abstained and rejected rows are ``none``: in no rate, and their labels in no confusion matrix."""
    watched = example_groups.monitor()
    action = np.array([0, 2, 3, 1])
    example_groups.feed(watched, [0, 0, 0, 0], [1, 1, -1, 0], [1, 0, 0, 0], action=action)
    assert example_groups.group_counts(watched).predictions[0].tolist() == [1, 1, 2]
    assert example_groups.group_counts(watched).outcomes[0].tolist() == [[1, 0], [0, 1], [2, 0]]
    assert example_groups.found(watched, "selection_rate", group="a").value == 0.5
    assert example_groups.found(watched, "accuracy", group="a").n == 2
    rates = {
        action: example_groups.found(watched, "action_rate", group="a", action=action).value
        for action in ("any", "flag")
    }
    assert rates == {"any": 0.75, "flag": 0.25}
    series = {s.labels["action"]: s.value for s in watched.series() if s.metric == "group_actions_total" and s.value}
    assert series == {"allow": 1, "flag": 1, "abstain": 1, "reject": 1}


def test_worst_case_bounds() -> None:
    """If labels are missing, bounds say what each rate could be: here 2 of 4 answers have known labels."""
    watched = example_groups.monitor()
    watched.counts += watched.tally(example_groups.records([0] * 4, [1, 1, 0, 0]))
    watched.join(example_groups.records([0, 0], [1, 0], [1, 0]))
    bounds = {
        "true_positive_rate_bounds": (1 / 2, 1.0),
        "false_positive_rate_bounds": (0.0, 1 / 2),
        "positive_predictive_value_bounds": (1 / 2, 1.0),
        "accuracy_bounds": (1 / 2, 1.0),
    }
    for name, expected in bounds.items():
        assert example_groups.found(watched, name, group="a").interval == expected


@pytest.mark.parametrize("seed", range(3))
def test_bounds_hold_what_is_hidden(seed: int) -> None:
    """Whatever labels are missing, the rates of all rows lie within the bounds."""
    group, predicted, actual = made_up(2, 300, seed)
    everything, watched = example_groups.monitor(), example_groups.monitor()
    example_groups.feed(everything, group, predicted, actual)
    known = np.random.default_rng(seed).random(300) < 0.2 + 0.6 * actual
    watched.counts += watched.tally(example_groups.records(group, predicted))
    watched.join(example_groups.records(group[known], predicted[known], actual[known]))
    for name in ("true_positive_rate", "false_positive_rate", "positive_predictive_value", "accuracy"):
        for level in example_groups.LEVELS:
            bounds = example_groups.found(watched, f"{name}_bounds", group=level).interval
            assert bounds is not None
            assert bounds[0] <= (example_groups.found(everything, name, group=level).value or 0) <= bounds[1]


def test_inverse_probability_weights_undo_selection() -> None:
    """If positives get labels more often, rates are biased; weighted by the inverse probability, they are unbiased."""
    group, predicted, actual = made_up(2, 40_000, 5)
    probability = np.where(predicted == 1, 0.9, 0.2)
    known = np.random.default_rng(6).random(len(group)) < probability
    everything, watched = example_groups.monitor(), example_groups.monitor()
    example_groups.feed(everything, group, predicted, actual)
    weight = (1 / probability)[known]
    watched.join(example_groups.records(group[known], predicted[known], actual[known], weight=weight))
    for name in ("true_positive_rate", "false_positive_rate", "accuracy"):
        truth = example_groups.found(everything, name, group="a").value
        plain = example_groups.found(watched, name, group="a")
        weighted = example_groups.found(watched, f"{name}_weighted", group="a")
        assert truth is not None
        assert plain.value is not None
        assert weighted.interval is not None
        assert weighted.value is not None
        assert weighted.interval[0] <= truth <= weighted.interval[1]
        assert abs(weighted.value - truth) < 0.02 < abs(plain.value - truth) + 0.01
        assert weighted.n < plain.n


def test_labels_that_depend_on_the_decision() -> None:
    """If only approved loans are ever repaid, the monitor warns; if all labels come, it does not."""
    watched = example_groups.monitor()
    group, predicted, actual = made_up(2, 400, 7)
    watched.counts += watched.tally(example_groups.records(group, predicted))
    approved = predicted == 1
    watched.join(example_groups.records(group[approved], predicted[approved], actual[approved]))
    assert example_groups.found(watched, "labels_depend_on_decision").value == 1
    assert watched.state() == "warning"
    assert example_groups.found(watched, "label_coverage", label="no").value == 0
    watched.join(example_groups.records(group[~approved], predicted[~approved], actual[~approved]))
    assert example_groups.found(watched, "labels_depend_on_decision").value == 0
    assert watched.state() == "ok"


def test_calibration_by_group() -> None:
    """The gap is mean confidence less accuracy, of the rows whose label is known, with an interval around it."""
    watched = example_groups.monitor()
    rng = np.random.default_rng(8)
    confidence = rng.uniform(0.5, 1, 6000)
    right = rng.random(6000) < np.where(np.arange(6000) < 3000, confidence, confidence - 0.2)
    group = np.repeat([0, 1], 3000)
    example_groups.feed(watched, group, right.astype(np.int64), np.ones(6000, np.int64), confidence=confidence)
    good, bad = (example_groups.found(watched, "calibration_gap", group=level) for level in example_groups.LEVELS)
    assert bad.value == pytest.approx((confidence[3000:] - right[3000:]).mean(), abs=1e-6)
    assert good.interval is not None
    assert bad.interval is not None
    assert good.interval[0] < 0 < good.interval[1]
    assert 0 < bad.interval[0] < 0.2 < bad.interval[1]


def test_alarm_and_hysteresis() -> None:
    """An interval beyond the tolerance alarms; it lasts until the difference itself is within, not its lower bound."""
    watched = example_groups.monitor(tolerance=0.1)
    assert watched.state() == "insufficient_data"
    group, predicted = example_groups.draws({0: 0.6, 1: 0.2}, 300, 9)
    watched.counts += watched.tally(example_groups.records(group, predicted))
    assert watched.state() == "alarm"
    interval = example_groups.found(watched, "demographic_parity_difference").interval
    assert interval is not None
    assert interval[0] > 0.1
    low, high = example_groups.draws({0: 0.2}, 400, 10), example_groups.draws({1: 0.3}, 400, 11)
    for group, predicted in (low, high):
        watched.counts += watched.tally(example_groups.records(group, predicted))
    interval = example_groups.found(watched, "demographic_parity_difference").interval
    assert interval is not None
    assert interval[0] < 0.1 < (example_groups.found(watched, "demographic_parity_difference").value or 0)
    assert watched.state() == "alarm"
    fresh = example_groups.monitor(tolerance=0.1)
    fresh.counts += watched.counts
    assert fresh.state() == "ok"
    group, predicted = example_groups.draws({0: 0.2, 1: 0.3}, 2000, 12)
    watched.counts += watched.tally(example_groups.records(group, predicted))
    assert watched.state() == "ok"


def test_no_tolerance_no_alarm() -> None:
    """Without a declared tolerance nothing alarms; few rows are not enough data for any judgement."""
    watched = example_groups.monitor()
    group, predicted = example_groups.draws({0: 0.9, 1: 0.1}, 500, 13)
    watched.counts += watched.tally(example_groups.records(group, predicted))
    assert watched.state() == "ok"
    few = example_groups.monitor(tolerance=0.0, minimum=501)
    few.counts += watched.counts
    assert few.state() == "insufficient_data"


EQUAL_ODDS = "equalized_odds_difference"


def test_a_rate_that_one_group_lacks_is_no_difference_of_0() -> None:
    """If one of two groups has no positive outcome, true positive rates and equalized odds are not compared."""
    watched = example_groups.monitor(alarm=[EQUAL_ODDS], tolerance=0.5, minimum=10)
    group, predicted = np.repeat([0, 1], 20), np.tile([0, 1], 20)
    example_groups.feed(watched, group, predicted, np.where(group == 0, 0, predicted))
    for name in ("equal_opportunity_difference", EQUAL_ODDS):
        statistic = example_groups.found(watched, name)
        assert (statistic.value, statistic.interval) == (None, None), name
    assert example_groups.found(watched, "demographic_parity_difference").value == 0
    assert watched.state() == "insufficient_data"
    example_groups.feed(watched, [0], [1], [1])
    assert example_groups.found(watched, EQUAL_ODDS).value == pytest.approx(0.5)
    assert watched.state() == "ok"


def test_a_proven_difference_alarms_without_the_other_rate() -> None:
    """Of equalized odds, false positive rates that clearly differ are enough to alarm; the value stays unknown."""
    watched = example_groups.monitor(alarm=[EQUAL_ODDS], tolerance=0.1)
    group = np.repeat([0, 1], 500)
    example_groups.feed(watched, group, np.where(group == 0, np.arange(1000) % 10 == 0, 1), np.zeros(1000))
    statistic = example_groups.found(watched, EQUAL_ODDS)
    assert statistic.value is None
    assert statistic.interval is not None
    assert 0.5 < statistic.interval[0] < 0.9
    assert statistic.interval[1] == 1
    assert watched.state() == "alarm"


@pytest.mark.parametrize("classes", [("no", "yes"), ()])
def test_one_group_alone_is_compared_with_none(classes: tuple[str, ...]) -> None:
    """If all rows are of one group, every difference and ratio is unknown, and so is the state."""
    watched = example_groups.monitor(classes=classes)
    more = {} if classes else {"confidence": np.full(100, np.nan)}
    predicted = (np.arange(100) % 2).astype(int if classes else float)
    example_groups.feed(watched, np.zeros(100, int), predicted, np.arange(100) % 3 == 0, **more)
    compared = [s for s in watched.report() if s.name.endswith(("_difference", "_ratio"))]
    assert compared
    assert all((s.value, s.interval) == (None, None) for s in compared)
    assert watched.state() == "insufficient_data"


def test_more_statistics_share_the_alarm() -> None:
    """An alarmed statistic's interval widens with the number of those that may alarm."""
    group, predicted, actual = made_up(2, 500, 14)
    widths = []
    for alarm in (["demographic_parity_difference"], ["demographic_parity_difference", "equalized_odds_difference"]):
        watched = example_groups.monitor(alarm=alarm)
        example_groups.feed(watched, group, predicted, actual)
        interval = example_groups.found(watched, "demographic_parity_difference").interval
        assert interval is not None
        widths.append(interval[1] - interval[0])
    assert widths[0] < widths[1]


def test_regression_by_group() -> None:
    """A regression has the mean error of each group, as fairlearn has it, and the difference between groups."""
    rng = np.random.default_rng(15)
    group = rng.integers(0, 2, 800)
    actual = rng.normal(100, 20, 800)
    predicted = actual + rng.normal(0, 5, 800) + 3.0 * group
    watched = example_groups.monitor(classes=(), tolerance=1.0)
    confidence = np.full(800, np.nan)
    example_groups.feed(watched, group, predicted, actual, confidence=confidence)
    frame = fl.MetricFrame(
        metrics=lambda y_true, y_pred: float(np.mean(y_pred - y_true)),
        y_true=actual, y_pred=predicted, sensitive_features=group,
    )  # fmt: skip
    for code, level in enumerate(example_groups.LEVELS):
        statistic = example_groups.found(watched, "mean_error", group=level)
        assert statistic.value == pytest.approx(frame.by_group[code], abs=1e-5)
        assert statistic.interval is not None
        assert statistic.interval[0] < 3.0 * code < statistic.interval[1]
    difference = example_groups.found(watched, "mean_error_difference")
    assert difference.value == pytest.approx(frame.difference(), abs=1e-5)
    assert watched.state() == "alarm"
    assert {s.labels["predicted"] for s in watched.series() if s.metric == "group_outcomes_total"} == {"value", "none"}


def test_errors_are_bounded() -> None:
    """A value out of all bounds counts as the largest, so that no sum overflows; NaN is no answer."""
    watched = example_groups.monitor(classes=())
    values = np.array([np.inf, 1.0, np.nan, -np.inf])
    example_groups.feed(watched, [0] * 4, values, np.zeros(4), confidence=np.full(4, np.nan))
    assert example_groups.group_counts(watched).predictions[0].tolist() == [3, 1]
    n, mean, variance = error_moments(example_groups.group_counts(watched).residuals)
    assert n.tolist()[:1] == [3]
    assert mean[0] == pytest.approx(1 / 3, rel=1e-6)
    assert variance[0] == pytest.approx(2 / 3 * 2.0**256, rel=1e-6)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e12])
def test_errors_are_counted_in_the_targets_own_unit(unit: float) -> None:
    """Targets of any magnitude have their figures, and two models' sums add up whatever each was fitted on."""
    rng = np.random.default_rng(3)
    group, error = rng.integers(0, 2, 600), rng.normal(2, 5, 600) * unit
    actual = rng.normal(0, 3, 600) * unit
    confidence = np.full(300, np.nan)
    models = [example_groups.monitor(classes=()), example_groups.monitor(classes=())]
    for rows, watched in zip((slice(300), slice(300, 600)), models, strict=True):
        example_groups.feed(watched, group[rows], (actual + error)[rows], actual[rows], confidence=confidence)
    models[0].counts += models[1].counts
    for code, level in enumerate(example_groups.LEVELS):
        statistic = example_groups.found(models[0], "mean_error", group=level)
        assert statistic.value == pytest.approx(error[group == code].mean(), rel=1e-6)
        assert statistic.interval is not None
        assert statistic.interval[1] - statistic.interval[0] == pytest.approx(error.std() * 0.42, rel=0.2)


def crossed(**params: Any) -> Groups:
    first = {"name": "sex", "attribute": "sex", "source": {"request": "sex"}, "levels": ["f", "m"]}
    second = {"name": "colour", "attribute": "colour", "source": {"column": "colour"}, "levels": ["red", "blue"]}
    third = {"name": "both", "attribute": "both", "intersect": ["sex", "colour"], **params}
    monitors = tuple(GroupsParams.model_validate(each) for each in (first, second, third))
    return Groups(monitors[2], Context(tiny_models.schema("tabular"), tiny_models.CLASSES, (), monitors))


def test_intersections() -> None:
    """Declared levels are crossed; a row that is unknown in any is unknown, other in any is other."""
    watched = crossed()
    assert watched.levels == ("f & red", "f & blue", "m & red", "m & blue", OTHER, UNKNOWN)
    x = torch.zeros((6, 4))
    x[:, 3] = torch.tensor([2.0, 0.0, 0.0, 1.0, torch.nan, 0.0])  # red, blue, blue, green, missing, blue
    sex = torch.tensor([0, 0, 1, 1, 2, 3])  # f f m m other unknown
    assert watched.group_of(Batch(x, {"sex": sex})).tolist() == [0, 1, 3, 4, 5, 5]
    assert watched.request is None


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"intersect": ["sex", "race"]}, "intersect: no groups monitor 'race' with a source; there are"),
        ({"attribute": "sex"}, "attribute: monitor 'sex' has the attribute 'sex', too: rename one"),
        ({"alarm": ["mean_error_difference"]}, "alarm: mean_error_difference is no statistic of a classification"),
    ],
)
def test_what_does_not_fit_is_refused(params: dict[str, Any], sentence: str) -> None:
    """Names that are not there are refused with those that are."""
    with pytest.raises(ValueError, match=sentence):
        crossed(**params)


def test_too_many_groups_are_refused() -> None:
    """A product of levels, or a table of outcomes, that is too large to read is refused in a sentence."""
    many = [f"l{i}" for i in range(20)]
    params = [{"name": n, "attribute": n, "source": {"request": n}, "levels": many} for n in ("x", "y")] + [
        {"name": "xy", "attribute": "xy", "intersect": ["x", "y"]}
    ]
    monitors = tuple(GroupsParams.model_validate(each) for each in params)
    with pytest.raises(ValueError, match="intersect: 20 x 20 levels make 400 groups, but only 200 are allowed"):
        Groups(monitors[2], Context(tiny_models.schema("tabular"), tiny_models.CLASSES, (), monitors))
    for labels, way_out in ((80, "declare fewer levels"), (100, "leave this monitor out")):
        sentence = (
            f"levels: 4 groups of {labels} labels make {4 * (labels + 1) * labels} counters of outcomes, .*{way_out}$"
        )
        with pytest.raises(ValueError, match=sentence):
            example_groups.monitor(classes=tuple(map(str, range(labels))))


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({}, "give either `source` or `intersect`"),
        ({"source": {"column": "colour"}, "intersect": ["x", "y"]}, "give either `source` or `intersect`"),
        ({"intersect": ["x", "x"]}, "`intersect` names two or more different groups monitors"),
        ({"intersect": ["x", "y"], "levels": ["a"]}, "`intersect` names two or more different groups monitors"),
        (
            {"source": {"column": "colour"}, "alarm": ["accuracy_difference"] * 2},
            "`alarm` lists a statistic twice",
        ),
        ({"source": {"column": "colour"}, "tolerance": -1}, "greater than or equal to 0"),
    ],
)
def test_mistakes_in_the_config(params: dict[str, Any], sentence: str) -> None:
    """A mistake is one sentence, led by its place."""
    monitor = {"name": "g", "kind": "groups", "attribute": "g", **params}
    with pytest.raises(Mistake) as refused:
        parse(tiny_models.document("tabular", monitors=[monitor]))
    assert sentence in str(refused.value)
    assert str(refused.value).startswith("monitors.0.groups")


def test_tolerance_may_change_at_deploy_time(tmp_path: Path) -> None:
    """Another tolerance needs no refit; another minimum needs one."""
    monitor = {"name": "g", "kind": "groups", "attribute": "colour", "source": {"column": "colour"}}
    bundle = tiny_models.fitted("tabular", monitors=[monitor]).bundle
    bundle.save(tmp_path / "b")
    config = parse(tiny_models.document("tabular", monitors=[{**monitor, "tolerance": 0.2}]))
    loaded = type(bundle).load(tmp_path / "b", config=config).monitors[0]
    assert isinstance(loaded, Groups)
    assert loaded.params.tolerance == 0.2
    with pytest.raises(Mistake, match=r"monitors\.0\.minimum"):
        type(bundle).load(
            tmp_path / "b", config=parse(tiny_models.document("tabular", monitors=[{**monitor, "minimum": 5}]))
        )


def test_records_of_a_batch() -> None:
    """Records hold what was answered, on the host: no label if there is no answer, each monitor's codes by name."""
    bundle = tiny_models.fitted("tabular").bundle
    batch = Batch(tiny_models.inputs("tabular", 200, 3), {"region": torch.arange(200) % 3})
    outcome = bundle.pipeline()(batch)
    counting = [monitor for monitor in bundle.monitors if isinstance(monitor, HasCounts)]
    groupings = [monitor.grouping for monitor in counting if monitor.grouping is not None]
    noted = Records.of(batch, outcome, groupings)
    action = outcome.verdict.action.numpy()
    assert outcome.prediction.label is not None
    assert outcome.prediction.probabilities is not None
    assert len(noted) == 200
    assert noted.predicted.tolist() == np.where(action >= 2, -1, outcome.prediction.label.numpy()).tolist()
    highest = outcome.prediction.probabilities.amax(1).numpy()
    assert noted.confidence == pytest.approx(np.where(action >= 2, np.nan, highest), nan_ok=True)
    assert noted.groups["region"].tolist() == (np.arange(200) % 3).tolist()
    assert noted.flagged is not None
    assert noted.flagged.tolist() == outcome.verdict.flagged.any(0).tolist()
    assert noted.actual is None


def test_rows_of_before_hide_no_recent_difference_between_groups() -> None:
    """After 20,000 alike labels one group's true positives fall: in alarm within 1,000 labels, by recent rows alone."""
    rng = np.random.default_rng(8)
    watched = example_groups.monitor(tolerance=0.1)

    def label(n: int, miss: float) -> None:
        group, actual = rng.integers(0, 2, n), (rng.random(n) < 0.4).astype(np.int64)
        wrong = rng.random(n) < np.where((group == 1) & (actual == 1), miss, 0.1)
        example_groups.feed(watched, group, np.where(wrong, 1 - actual, actual), actual)

    label(20_000, 0.1)
    assert watched.state() == "ok"
    taken = 0
    while watched.state() != "alarm":
        label(100, 0.6)
        taken += 100
        assert taken <= 1000
    cause = watched.cause()
    assert cause is not None
    assert cause.name == "recent_equalized_odds_difference"
    assert example_groups.found(watched, "equalized_odds_difference").value < 0.1  # type: ignore[operator]


def test_recent_figures_need_a_tolerance_to_alarm() -> None:
    """Without a declared tolerance recent differences are reported, and raise no alarm."""
    watched = example_groups.monitor()
    group = np.arange(800) % 2
    example_groups.feed(watched, group, group, group)
    assert example_groups.found(watched, "recent_demographic_parity_difference").value == 1
    assert watched.state() == "ok"


@pytest.mark.parametrize("tolerance", [1, 5, 1e9])
def test_a_tolerance_that_no_rate_can_leave_is_refused(tolerance: float) -> None:
    """A difference between rates is at most 1; one between mean errors has no such bound."""
    with pytest.raises(ValueError, match="difference between rates, which is never more than 1"):
        example_groups.monitor(tolerance=tolerance)
    assert example_groups.monitor(tolerance=0.99).may_alarm
    assert example_groups.monitor(classes=(), tolerance=tolerance).may_alarm


def test_a_monitor_of_clean_rows_counts_neither_flagged_rows_nor_their_outcomes() -> None:
    """With `include: clean` a flagged row is left out when it is answered and when its label comes, in shadow, too."""
    watched, whole = (example_groups.monitor(include=include) for include in ("clean", "all"))
    spotless, action = np.array([True, False, True, True]), np.array([0, 0, 1, 0])
    for each in (watched, whole):
        example_groups.feed(each, [0, 0, 1, 1], [1, 1, 1, 0], [1, 0, 1, 0], spotless=spotless, action=action)
    clean = example_groups.monitor()
    example_groups.feed(clean, [0, 1], [1, 0], [1, 0])
    assert watched.counts.tolist() == clean.counts.tolist()
    assert whole.counts.tolist() != clean.counts.tolist()
