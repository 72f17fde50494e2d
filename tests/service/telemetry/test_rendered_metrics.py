"""Metrics as plain arrays are rendered as prometheus_client renders its own metrics."""

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from scrapes import scrape_of

from guards.calibration.abstention import Abstention
from guards.monitors.base import Series
from guards.types import Action
from service.messages.answer import Answer
from service.messages.seat import Seat
from service.telemetry.metrics.engine import ACTIONS, P_VALUES, EngineMetrics
from service.telemetry.metrics.engine_families import EngineFamilies, Promises
from service.telemetry.metrics.exposition import family_of, metric_families, write
from service.telemetry.metrics.families import Counters, Histograms
from service.telemetry.metrics.front import FrontMetrics
from service.telemetry.metrics.seat_counts import SECONDS
from service.telemetry.metrics.server_counts import ServerCounts

numbers = st.lists(st.floats(0, 100) | st.sampled_from(SECONDS) | st.just(float("inf")), max_size=40)


def exposition(part: Counters | Histograms) -> str:
    """Render one part alone."""
    return write([family_of(part)], "")[0].decode()


def without_created(registry: CollectorRegistry) -> str:
    """Render what prometheus_client has, without its timestamps of creation."""
    lines = generate_latest(registry).decode().splitlines(keepends=True)
    return "".join(line for line in lines if "_created" not in line)


@given(st.dictionaries(st.sampled_from(["/a", "/b"]), numbers))
def test_histograms_agree_with_prometheus_client(observed: dict[str, list[float]]) -> None:
    """The same numbers give the same exposition, to the byte."""
    registry = CollectorRegistry()
    theirs = Histogram("guardhouse_x_seconds", "Help.", ["route"], buckets=SECONDS, registry=registry)
    ours = Histograms("x_seconds", "Help.", SECONDS, ["route"], [("/a",), ("/b",)])
    for route in ("/a", "/b"):
        theirs.labels(route)
        for value in observed.get(route, []):
            theirs.labels(route).observe(value)
            ours.observe(value, route)
    assert exposition(ours) == without_created(registry)


@given(st.lists(st.sampled_from(["ok", "error"]), max_size=30))
def test_counters_agree_with_prometheus_client(counted: list[str]) -> None:
    """The same counts give the same exposition, and every series is there from the start."""
    registry = CollectorRegistry()
    theirs = Counter("guardhouse_y", "Help.", ["result"], registry=registry)
    ours = Counters("y", "Help.", ["result"], [("ok",), ("error",)])
    for result in ("ok", "error"):
        theirs.labels(result)
    for result in counted:
        theirs.labels(result).inc()
        ours.add(result)
    assert exposition(ours) == without_created(registry)


@given(st.lists(st.tuples(*[st.floats(0, 1, width=32) | st.just(float("nan"))] * 2), max_size=50))
def test_columns_and_single_observations_agree(values: list[tuple[float, float]]) -> None:
    """observe_columns is observe of every value that is not NaN, each column to its series."""
    bulk, single = (Histograms("z", "Help.", [0.25, 0.5, 1.0], ["g"], [("a",), ("b",)]) for _ in range(2))
    bulk.observe_columns(np.array(values, dtype=np.float32).reshape(-1, 2))
    for row in values:
        for name, value in zip("ab", row, strict=True):
            if not math.isnan(value):
                single.observe(value, name)
    assert np.array_equal(bulk.counts, single.counts)
    assert bulk.sums == pytest.approx(single.sums, rel=1e-5)


@given(st.integers(1, 3000), st.data())
def test_p_values_at_a_bound_are_at_it(n: int, data: st.DataObject) -> None:
    """The float32 p-value k / n counts under every bound that the fraction k / n does not exceed."""
    ranks = data.draw(st.lists(st.integers(1, n), min_size=1, max_size=20))
    histogram = Histograms("p", "Help.", P_VALUES)
    histogram.observe_columns(np.array(ranks, dtype=np.float32)[:, None] / np.float32(n))
    cumulative = np.cumsum(histogram.counts[0])
    for bound, count in zip(P_VALUES, cumulative, strict=False):
        assert count == sum(Fraction(rank, n) <= Fraction(str(bound)) for rank in ranks)


def test_unknown_labels_are_our_mistake() -> None:
    """A label value outside the closed set raises an exception, and makes no series."""
    counters = Counters("w", "Help.", ["code"], [("200",)])
    with pytest.raises(KeyError):
        counters.add("404")
    assert len(counters.values) == 1


PUBLISHED = Path(__file__).with_name("published_series.txt")


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_render_parses(accept: str) -> None:
    """Both formats parse with the client library's own parsers, also if a label needs escaping."""
    scrape = scrape_of(["ood"], info={"version": "1", "model": 'a"b\\c\n'}, accept=accept)
    families = {family.name: family for family in (parse_openmetrics if accept else parse_text)(scrape)}
    assert families["guardhouse_build_info"].samples[0].labels["model"] == 'a"b\\c\n'
    assert families["guardhouse_requests"].type == "counter"


@given(st.text(st.characters(codec="latin-1"), max_size=30) | st.from_regex(r"text/plain; ?version=[\w.]*"))
def test_any_accept_header_is_answered(accept: str) -> None:
    """Any Accept header of a scraper gets a format that exists."""
    body, content_type = write([family_of(Counters("requests", "Help.", [], [()]))], accept)
    assert b"guardhouse_requests_total" in body
    assert content_type.startswith(("text/plain", "application/openmetrics-text"))


def test_names_helps_types_labels_and_order_stay() -> None:
    """A scrape has the families and the series that users' rules and dashboards were written for, in the same order."""
    found = metric_families(
        ServerCounts(
            FrontMetrics({"/predict": (200, 500), "/metrics": (200,)}),
            EngineMetrics(["ood", "quality"], ["integrated_gradients", "occlusion"], monitors=["d"]),
        ),
        EngineFamilies(
            counts=EngineMetrics(["ood", "quality"], []),
            device="cpu",
            info={"version": "1", "model": "m", "model_version": "2", "bundle": "sha256:x"},
            series=lambda: [
                Series("stream_bin_total", "counter", {"stream": "label", "bin": "a"}, 3),
                Series("drift_evidence", "gauge", {"monitor": "d", "stream": "label"}, 0.5),
            ],
            states=lambda: {"d": ("sequential", "ok")},
            promises=Promises(0.01, 0.9, (0.005, 0.005)),
        ).families(),
    )
    lines = write(found, "")[0].decode().splitlines()
    names = [line if line.startswith("#") else line.rpartition(" ")[0] for line in lines]
    published = PUBLISHED.read_text().splitlines()
    assert names == [line for line in published if "process_" not in line and "python_gc_" not in line]


def test_a_batch_is_counted_by_guard() -> None:
    """Rows, flags, crashes and violations of a batch go to their guards' series."""
    made = EngineMetrics(["ood", "quality"], [])
    answer = Answer(
        action=np.array([Action.ALLOW, Action.FLAG, Action.REJECT, Action.ALLOW]),
        p_value=np.array([[0.5, 0.4], [0.001, np.nan], [0.2, 0.003], [np.nan, np.nan]], dtype=np.float32),
        flagged=np.array([[False, False], [True, False], [False, True], [False, False]]),
        violated=np.array([[False, False], [False, False], [False, True], [False, False]]),
        causes={},
        probabilities=None,
        label=None,
        members=None,
        value=np.zeros(4),
        interval=None,
    )
    for _ in range(2):
        made.observe(answer)
        made.ran(len(answer), 0.25, 1000.0)
    assert made.rows.values.tolist() == [4, 2, 0, 2]
    assert made.guard_rows.values.tolist() == [6, 4]
    assert made.guard_errors.values.tolist() == [2, 4]
    assert made.guard_flags.values.tolist() == [2, 2]
    assert made.violations.values.tolist() == [0, 2]
    assert made.p_value.counts.sum(1).tolist() == [6, 4]
    assert made.busy_seconds == 0.5
    assert made.batch_rows.counts.sum() == 2


def test_rows_abstained_on_purpose_are_counted_apart() -> None:
    """A row counts if guards with a target_error alone kept it from an answer: not if another guard flags it, too."""
    made = EngineMetrics(["ood", "unsure"], [], on_purpose=[1])
    answer = Answer(
        action=np.array([Action.ABSTAIN, Action.ABSTAIN, Action.FLAG, Action.ALLOW, Action.REJECT]),
        p_value=np.full((5, 2), 0.5, dtype=np.float32),
        flagged=np.array([[False, True], [True, True], [True, False], [False, True], [False, True]]),
        violated=None,
        causes={},
        probabilities=None,
        label=None,
        members=None,
        value=np.zeros(5),
        interval=None,
    )
    made.observe(answer)
    assert made.on_purpose.values.tolist() == [1]
    assert made.rows.values.tolist() == [1, 1, 2, 1]


def test_promises_of_a_target_are_exported() -> None:
    """A guard with a target_error has its target, its proven bound and its answered share; without one none has."""

    def names(promises: Promises) -> dict[str, float]:
        families = EngineFamilies(
            counts=EngineMetrics(["ood", "unsure"], []), device="cpu", info={}, series=list, promises=promises
        ).families()
        return {family["name"]: family["samples"][0][1] for family in families if family["name"].startswith("guard_")}

    proven = Abstention(0.05, 0.4, 1000, 900, 30)
    shown = names(Promises(0.01, 0.9, (0.01, 0.1), {"unsure": proven}))
    assert shown["guard_target_error_ratio"] == 0.05
    assert shown["guard_error_bound_ratio"] == proven.bound
    assert shown["guard_answered_ratio"] == 0.9
    assert names(Promises(0.01, 0.9, (0.01, 0.1))).keys() == {"guard_threshold_ratio"}


def test_a_model_without_guards_counts_rows() -> None:
    """An answer without a column of p-values is counted by its actions."""
    made = EngineMetrics([], [])
    nothing = np.zeros((3, 0))
    made.observe(
        Answer(
            action=np.array([Action.ALLOW] * 3),
            p_value=nothing.astype(np.float32),
            flagged=nothing.astype(bool),
            violated=None,
            causes={},
            probabilities=None,
            label=None,
            members=None,
            value=np.zeros(3),
            interval=None,
        )
    )
    assert made.rows.values.tolist() == [3, 0, 0, 0]


def test_actions_have_the_pipelines_names() -> None:
    """The counter's labels are the names of the pipeline's actions, in the order of the actions' numbers."""
    assert tuple(action.label for action in sorted(Action)) == ACTIONS


def test_a_seat_of_another_config_starts_at_zero(caplog: pytest.LogCaptureFixture) -> None:
    """A process that finds other families in its seat logs that, and counts from 0 in places of its own."""
    seat = Seat.of_no_board()
    FrontMetrics({"/predict": (200,)}, seat.again()).requests.add("/predict", "200", by=5)
    with caplog.at_level("WARNING", "guardhouse"):
        same = FrontMetrics({"/predict": (200,)}, seat.again())
    assert (same.requests.total("/predict", "200"), caplog.messages) == (5, [])
    with caplog.at_level("WARNING", "guardhouse"):
        other = FrontMetrics({"/other": (200,)}, seat.again())
    assert other.requests.values.sum() == other.duration.counts.sum() == other.stages.sums.sum() == 0
    assert caplog.messages == ["the front counts other things than the last one did: its counters start at 0"]
