"""The monitors' counts against pandas and numpy, and their statistics against figures worked out by hand."""

import math
import re
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_models
import torch
from scipy.stats import binomtest

from guards import Batch, Bundle, Result, Statistic
from guards.input.column import Column
from guards.input.schema import InputSchema
from guards.monitors.base import Context, Monitor
from guards.monitors.bins import Bins, BinsParams
from guards.monitors.groups.monitor import Groups
from guards.monitors.groups.params import GroupsParams
from guards.monitors.optional_methods import series_of

CLASSES = tiny_models.CLASSES
GUARDS = ("quality", "ood", "unsure")


def context(kind: str = "tabular", classes: tuple[str, ...] = CLASSES) -> Context:
    return Context(tiny_models.schema(kind), classes, GUARDS)


def groups(**params: Any) -> Groups:
    where = params.pop("where", context())
    return Groups(GroupsParams.model_validate({"name": "g", "attribute": "a", **params}), where)


def judged(bundle: Bundle, count: int = 500, seed: int = 77) -> tuple[Batch, Result]:
    batch = Batch(tiny_models.inputs("tabular", count, seed))
    return batch, bundle.pipeline()(batch)


def expected_labels(outcome: Result) -> list[str]:
    """Every row's label, or none if the row was not answered."""
    assert outcome.prediction.label is not None
    pairs = zip(outcome.prediction.label.tolist(), outcome.verdict.action.tolist(), strict=True)
    return ["none" if action >= 2 else CLASSES[label] for label, action in pairs]


def counted(monitor: Groups) -> dict[tuple[str, str], float]:
    series = [s for s in monitor.series() if s.metric == "group_predictions_total" and s.value]
    return {(s.labels["group"], s.labels["label"]): s.value for s in series}


def reported(monitor: Monitor, name: str) -> list[Statistic]:
    return [statistic for statistic in monitor.report() if statistic.name == name]


def test_groups_of_a_categorical_column(table: Bundle) -> None:
    """Counts by category and label are a cross-tabulation; missing is unknown, unseen or unlisted other."""
    batch, outcome = judged(table)
    batch.x[:40, 3] = -1.0
    monitor = groups(source={"column": "colour"}, levels=["red", "blue"])
    monitor.observe(batch, outcome)
    names = {0.0: "blue", 1.0: "other", 2.0: "red", -1.0: "other"}
    colours = ["unknown" if math.isnan(v) else names[v] for v in batch.x[:, 3].tolist()]
    table_of = pd.crosstab(pd.Series(colours), pd.Series(expected_labels(outcome)))
    assert {"unknown", "other", "red", "blue"} == set(table_of.index)
    assert "none" in table_of.columns
    expected = {(g, label): n for g, row in table_of.iterrows() for label, n in row.items() if n}
    assert counted(monitor) == expected


def test_bands_of_a_numeric_column(table: Bundle) -> None:
    """Bands are half open: an edge belongs to the band above it."""
    batch, outcome = judged(table)
    batch.x[0, 2], batch.x[1, 2] = 0.0, 0.5
    monitor = groups(source={"column": "age", "edges": [0, 0.5]})
    assert monitor.levels == ("<0", "0-0.5", ">=0.5", "other", "unknown")
    monitor.observe(batch, outcome)
    bands = pd.cut(pd.Series(batch.x[:, 2].tolist()), [-np.inf, 0, 0.5, np.inf], right=False, labels=monitor.levels[:3])
    named = bands.astype(object).where(bands.notna(), "unknown")
    assert counted(monitor) == Counter(zip(named, expected_labels(outcome), strict=True))


def test_groups_of_the_request(table: Bundle) -> None:
    """Groups that come with the request are counted by their codes; without any they are unknown."""
    batch, outcome = judged(table, 6)
    monitor = groups(source={"request": "a"}, levels=["f", "m"])
    codes = monitor.encode(["f", "m", None, "x", "other", "unknown"])
    assert codes.tolist() == [0, 1, 3, 2, 2, 3]
    monitor.observe(Batch(batch.x, {"a": codes}), outcome)
    by_group = Counter(group for (group, _), n in counted(monitor).items() for _ in range(int(n)))
    assert by_group == {"f": 1, "m": 1, "other": 2, "unknown": 2}
    monitor.observe(batch, outcome)
    assert sum(n for (group, _), n in counted(monitor).items() if group == "unknown") == 8


def test_groups_of_regression() -> None:
    """A regression's answers are counted under value, and it has no selection rates."""
    model = {"builder": "tiny_models:value_net", "task": "regression", "device": "cpu"}
    guards = [{"name": "ood", "detector": {"kind": "mahalanobis"}, "action": "reject"}]
    labeller = tiny_models.model("tabular", "tiny_models:value_net", task="regression")
    bundle = tiny_models.fitted("tabular", model=model, guards=guards, monitors=[]).bundle
    assert labeller.outputs == 1
    batch, outcome = judged(bundle)
    monitor = groups(source={"column": "colour"}, where=context(classes=()))
    monitor.observe(batch, outcome)
    labels = Counter(label for (_, label), n in counted(monitor).items() for _ in range(int(n)))
    assert labels == {
        "value": int((outcome.verdict.action < 2).sum()),
        "none": int((outcome.verdict.action >= 2).sum()),
    }
    assert reported(monitor, "selection_rate") == []


def test_selection_rates(table: Bundle) -> None:
    """A selection rate is of answered rows, with an interval around it; no rows have no rate."""
    batch, outcome = judged(table)
    monitor = groups(source={"column": "colour"}, positive="ant")
    before = {s.labels["group"]: s for s in reported(monitor, "selection_rate")}
    assert before["red"] == Statistic(
        "selection_rate", None, None, 0, {"attribute": "a", "group": "red", "label": "ant"}
    )
    monitor.observe(batch, outcome)
    labels = np.array(expected_labels(outcome))
    for statistic in reported(monitor, "selection_rate"):
        if statistic.labels["group"] in tiny_models.COLOURS:
            code = tiny_models.COLOURS.index(statistic.labels["group"])
            answered = labels[(batch.x[:, 3] == code).numpy() & (labels != "none")]
            hits = int((answered == "ant").sum())
            exact = binomtest(hits, len(answered)).proportion_ci(method="exact")
            assert statistic.n == len(answered)
            assert statistic.value == pytest.approx(hits / len(answered))
            assert statistic.interval is not None
            assert 0 <= statistic.interval[0] < exact.low < exact.high < statistic.interval[1] <= 1


def test_selection_rates_of_every_label(table: Bundle) -> None:
    """Without a positive label each label has its rate, and a group's rates add up to one."""
    batch, outcome = judged(table)
    monitor = groups(source={"column": "colour"})
    monitor.observe(batch, outcome)
    rates = [s for s in reported(monitor, "selection_rate") if s.labels["group"] == "red"]
    assert [s.labels["label"] for s in rates] == list(CLASSES)
    assert sum(s.value or 0 for s in rates) == pytest.approx(1)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"source": {"column": "color"}}, "source.column: no column 'color'; there are ['length', 'mass', 'age',"),
        ({"source": {"column": "age"}}, "source: 'age' is numeric; a numeric column has `edges`"),
        ({"source": {"column": "colour", "edges": [1]}}, "source: 'colour' is categorical; a numeric column has"),
        (
            {"source": {"column": "colour"}, "levels": ["pink"]},
            "levels: ['pink'] are no categories of 'colour': ['blue', 'green', 'red']",
        ),
        (
            {"source": {"column": "colour"}, "positive": "dog"},
            "positive: 'dog' is no label; there are ['ant', 'bee', 'cat']",
        ),
    ],
)
def test_groups_that_do_not_fit(params: dict[str, Any], sentence: str) -> None:
    """A column, level or label that is not there is refused with those that are."""
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        groups(**params)


def test_reserved_names(table: Bundle) -> None:
    """A category named other or unknown is that group, a label named none is refused, and no series is there twice."""
    categories = ("blue", "other", "unknown")
    columns = (*tiny_models.schema().columns[:3], Column(name="colour", kind="categorical", categories=categories))
    schema = InputSchema(kind="tabular", shape=(4,), columns=columns)
    monitor = groups(source={"column": "colour"}, where=Context(schema, CLASSES, GUARDS))
    assert monitor.levels == ("blue", "other", "unknown")
    batch, outcome = judged(table, 4)
    batch.x[:, 3] = torch.tensor([1.0, 2.0, -1.0, math.nan])
    monitor.observe(batch, outcome)
    by_group = Counter(group for (group, _), n in counted(monitor).items() for _ in range(int(n)))
    assert by_group == {"other": 2, "unknown": 2}
    with pytest.raises(ValueError, match="a label is named 'none'"):
        groups(source={"column": "age", "edges": [1]}, where=context(classes=("none", "some")))
    reserved = Column(name="colour", kind="categorical", categories=("missing", "unseen"))
    table_of = InputSchema(kind="tabular", shape=(4,), columns=(*tiny_models.schema().columns[:3], reserved))
    bins = Bins(BinsParams(name="b"), Context(table_of, ("missing", "x"), GUARDS))
    assert bins.streams.bins["column:colour"] == ("category:missing", "category:unseen", "unseen", "missing")
    assert bins.streams.bins["label"] == ("category:missing", "x", "unseen", "missing")


def streams(monitor: Monitor, metric: str) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for series in monitor.series():
        if series.metric == metric:
            found.setdefault(series.labels["stream"], {})[series.labels["bin"]] = series.value
    return found


def bins(bundle: Bundle) -> Bins:
    (monitor,) = (each for each in bundle.monitors if isinstance(each, Bins))
    monitor.counts[:] = 0
    return monitor


def test_a_stream_of_thousands_of_labels_has_a_thousand_series() -> None:
    """The labels that the reference has most of have series of their own, the rest one together; no row is lost."""
    labels = ("other", *(f"label {place}" for place in range(4999)))
    monitor = Bins(BinsParams(name="b", projections=0), Context(tiny_models.schema("tensor"), labels, GUARDS))
    rng = np.random.default_rng(0)
    start = len(monitor.counts) - len(labels) - 2
    monitor.counts[start:] = rng.integers(0, 9, len(labels) + 2)
    reference = torch.zeros(len(monitor.counts), dtype=torch.int64)
    reference[start:] = torch.tensor([7, *rng.integers(0, 5, 4999), 1, 1])
    monitor.streams.reference_counts = reference
    live, was = (streams(monitor, metric)["label"] for metric in ("stream_bin_total", "reference_bin_ratio"))
    assert live.keys() == was.keys()
    assert len(live) == 1000 + len(("unseen", "missing", "other"))
    assert live["category:other"] == monitor.counts[start]
    assert (live["unseen"], live["missing"]) == tuple(monitor.counts[-2:])
    assert sum(live.values()) == monitor.counts[start:].sum()
    assert sum(was.values()) == pytest.approx(1)
    common = np.argsort(-reference[start:-2].numpy(), kind="stable")[:1000]
    assert live.keys() >= {labels[place] for place in common if place}
    short = Bins(BinsParams(name="b", projections=0), Context(tiny_models.schema("tensor"), labels[:1000], GUARDS))
    assert list(streams(short, "stream_bin_total")["label"]) == [*labels[:1000], "unseen", "missing"]


def test_streams_of_a_table(table: Bundle) -> None:
    """A table has a stream for each column, projection and guard, the confidence and the label."""
    monitor = bins(table)
    assert set(monitor.streams.bins) == {
        *(f"column:{name}" for name in tiny_models.COLUMNS),
        *(f"feature:{i}" for i in range(4)),
        *(f"guard:{name}" for name in GUARDS),
        "confidence",
        "label",
    }
    assert monitor.streams.bins["column:age"] == ("below", *map(str, range(10)), "above", "missing")
    assert monitor.streams.bins["column:colour"] == (*tiny_models.COLOURS, "unseen", "missing")
    assert monitor.streams.bins["label"] == (*CLASSES, "unseen", "missing")


def test_reference_bins_hold_equal_mass(table: Bundle) -> None:
    """The reference fills the bins of a number equally, none lies below or above, and each stream sums to one."""
    ratios = streams(bins(table), "reference_bin_ratio")
    for stream, ratio in ratios.items():
        assert sum(ratio.values()) == pytest.approx(1), stream
    age = ratios["column:age"]
    assert age["below"] == age["above"] == 0
    present = 1 - age["missing"]
    assert all(age[str(i)] == pytest.approx(present / 10, abs=0.005) for i in range(10))


def test_the_reference_says_how_many_rows_it_has(table: Bundle) -> None:
    """They are the held-out rows that the temperature did not use, and half of them for streams that fit chooses."""
    monitor = bins(table)
    rows = {s.labels["stream"]: s.value for s in monitor.series() if s.metric == "reference_rows"}
    assert rows == {name: 160 if name.startswith("feature:") else 320 for name in monitor.streams.bins}


def test_bins_by_numpy(table: Bundle) -> None:
    """Counts of numbers are numpy's histogram, with what is below, above and missing apart."""
    monitor = bins(table)
    batch, outcome = judged(table)
    batch.x[:3, 2] = torch.tensor([-1e9, 1e9, math.nan])
    monitor.observe(batch, outcome)
    found = streams(monitor, "stream_bin_total")
    for index, name in enumerate(tiny_models.COLUMNS[:3]):
        edges = monitor.streams.edges[index].double().numpy()
        values = batch.x[:, index].double().numpy()
        expected, _ = np.histogram(values[~np.isnan(values) & (values < edges[-1])], edges)
        assert [found[f"column:{name}"][str(i)] for i in range(10)] == expected.tolist()
        assert found[f"column:{name}"]["below"] == (values < edges[0]).sum()
        assert found[f"column:{name}"]["above"] == (values >= edges[-1]).sum()
        assert found[f"column:{name}"]["missing"] == np.isnan(values).sum()


def test_categories_labels_and_guards_are_counted(table: Bundle) -> None:
    """Categories, predicted labels and p-values are counted as they are."""
    monitor = bins(table)
    batch, outcome = judged(table)
    batch.x[:5, 3] = -1.0
    crashed = torch.cat([torch.full((7,), math.nan), outcome.verdict.p_value[0, 7:]])
    p_value = torch.stack([crashed, *outcome.verdict.p_value[1:]])
    outcome = replace(outcome, verdict=replace(outcome.verdict, p_value=p_value))
    monitor.observe(batch, outcome)
    found = streams(monitor, "stream_bin_total")
    colours = Counter(batch.x[:, 3].nan_to_num(9).tolist())
    expected = [colours[0.0], colours[1.0], colours[2.0], 5, colours[9.0]]
    assert list(found["column:colour"].values()) == expected
    assert outcome.prediction.label is not None
    labels = Counter(outcome.prediction.label.tolist())
    assert list(found["label"].values()) == [labels[0], labels[1], labels[2], 0, 0]
    assert found["guard:quality"]["missing"] == 7
    assert {name: sum(counts.values()) for name, counts in found.items()} == dict.fromkeys(found, 500)


def test_projections_are_principal_directions(table: Bundle) -> None:
    """The watched directions are orthonormal, ordered by the variance of the held-out features."""
    monitor = bins(table)
    directions = monitor.streams.directions
    assert torch.allclose(directions.T @ directions, torch.eye(4), atol=1e-5)
    assert (directions.sum(0) >= 0).all()
    features = table.model(tiny_models.rows("tabular", 400, 50).x).features
    spread = ((features - monitor.streams.mean) @ directions).var(0)
    assert (spread[:-1] >= spread[1:] * 0.8).all()


def test_image_statistics_by_numpy() -> None:
    """Brightness, contrast and sharpness are the mean, the deviation and the variance of the Laplacian."""
    from scipy.ndimage import laplace

    from guards.monitors.image_statistics import image_statistics

    x = torch.rand((5, 3, 7, 6), generator=torch.Generator().manual_seed(0))
    grey = x.double().mean(1).numpy()
    expected = [[g.mean() for g in grey], [g.std() for g in grey], [laplace(g, mode="nearest").var() for g in grey]]
    assert image_statistics(x).numpy() == pytest.approx(np.array(expected), rel=1e-4)


@pytest.mark.parametrize(
    ("kind", "names"), [("image", ("brightness", "contrast", "sharpness")), ("tensor", ("mean", "deviation"))]
)
def test_statistics_of_pictures_and_tensors(kind: str, names: tuple[str, ...]) -> None:
    """Pictures and tensors have streams of statistics instead of columns, and no regression has labels."""
    monitor = Bins(BinsParams(name="b", projections=2), context(kind, classes=()))
    assert set(monitor.streams.bins) == {
        *(f"statistic:{name}" for name in names),
        *("feature:0", "feature:1"),
        *(f"guard:{name}" for name in GUARDS),
        "label",
    }


def test_bins_of_few_features_and_constant_streams() -> None:
    """More projections than features, and streams that never vary, are no trouble."""
    model = {"builder": "tiny_models:tensor_net", "classes": list(CLASSES), "features": "head", "device": "cpu"}
    bundle = tiny_models.fitted(
        "tensor", model=model, guards=[], monitors=[{"kind": "bins", "name": "b", "projections": 9}]
    )
    monitor = bins(bundle.bundle)
    batch = Batch(torch.zeros(5, 5))
    monitor.observe(batch, bundle.bundle.pipeline()(batch))
    found = streams(monitor, "stream_bin_total")
    assert {name: sum(counts.values()) for name, counts in found.items()} == dict.fromkeys(found, 5)
    assert [name for name in found if name.startswith("guard:")] == []


def test_bins_of_a_column_that_is_always_missing() -> None:
    """A column without any value has all its rows in the missing bin."""
    heldout = tiny_models.rows("tabular", 400, 50)
    heldout.x[:, 1] = math.nan
    bundle = tiny_models.fitted("tabular", heldout=heldout).bundle
    ratios = streams(bins(bundle), "reference_bin_ratio")["column:mass"]
    assert ratios["missing"] == 1
    assert sum(ratios.values()) == 1


def test_bins_report_rows(table: Bundle) -> None:
    """The report says how many rows each stream has seen."""
    monitor = bins(table)
    assert all(statistic.n == 0 for statistic in monitor.report())
    monitor.observe(*judged(table, 12))
    assert monitor.report()[0] == Statistic("rows", 12.0, None, 12, {"stream": "column:length"})
    assert len(monitor.report()) == len(monitor.streams.bins)
    assert monitor.state() == "ok"


def test_monitor_without_series() -> None:
    """A monitor need not have series nor anything to fit."""

    class Quiet(Monitor):
        def observe(self, batch: Batch, outcome: Result) -> None:
            pass

        def report(self) -> list[Statistic]:
            return []

    monitor = Quiet(BinsParams(name="quiet"), context())
    batch = Batch(torch.zeros(1, 4))
    assert series_of(monitor) == []
    assert monitor.alarms() == {}
    assert (monitor.name, monitor.kind, monitor.state()) == ("quiet", "bins", "ok")
    reference = tiny_models.reference("tabular", 20)
    assert monitor.fit(reference, tiny_models.fitted("tabular").bundle.pipeline()(batch)) is monitor
