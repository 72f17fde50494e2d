"""Metrics as plain arrays: what they render is what prometheus_client's own would."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector

from guards.types import Action
from service.answer import Answer
from service.metrics import SECONDS, Metrics, ModelMetrics
from service.metrics.families import Counters, Histograms
from service.metrics.model import P_VALUES

numbers = st.lists(st.floats(0, 100) | st.sampled_from(SECONDS) | st.just(float("inf")), max_size=40)


class _Only(Collector):
    def __init__(self, part: Counters | Histograms) -> None:
        self.part = part

    def collect(self) -> list[Any]:
        return [self.part.collect()]


def exposition(part: Counters | Histograms) -> str:
    """Render one part alone."""
    registry = CollectorRegistry()
    registry.register(_Only(part))
    return generate_latest(registry).decode()


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


@given(st.lists(st.floats(0, 1, width=32) | st.just(float("nan")), max_size=50))
def test_bulk_and_single_observations_agree(values: list[float]) -> None:
    """observe_many is observe of every value that is not NaN."""
    bulk, single = (Histograms("z", "Help.", [0.25, 0.5, 1.0]) for _ in range(2))
    bulk.observe_many(np.array(values, dtype=np.float32))
    for value in values:
        if value == value:  # noqa: PLR0124 - not NaN
            single.observe(value)
    assert np.array_equal(bulk.counts, single.counts)
    assert bulk.sums == pytest.approx(single.sums, rel=1e-5)


@given(st.integers(1, 3000), st.data())
def test_p_values_at_a_bound_are_at_it(n: int, data: st.DataObject) -> None:
    """The float32 p-value k / n counts under every bound that the fraction k / n does not exceed."""
    ranks = data.draw(st.lists(st.integers(1, n), min_size=1, max_size=20))
    histogram = Histograms("p", "Help.", P_VALUES)
    histogram.observe_many(np.array(ranks, dtype=np.float32) / np.float32(n))
    cumulative = np.cumsum(histogram.counts[0])
    for bound, count in zip(P_VALUES, cumulative, strict=False):
        assert count == sum(Fraction(rank, n) <= Fraction(str(bound)) for rank in ranks)


def test_unknown_labels_are_our_mistake() -> None:
    """A label value that is not of the closed set raises, and makes no series."""
    counters = Counters("w", "Help.", ["code"], [("200",)])
    with pytest.raises(KeyError):
        counters.add("404")
    assert len(counters.values) == 1


def metrics() -> Metrics:
    """Make the metrics of a server with a loaded model."""
    made = Metrics({"/predict": (200, 500)}, ["integrated_gradients"])
    made.model = ModelMetrics(["ood", "quality"], list, "cpu", {"version": "1", "model": 'a"b\\c\n'})
    return made


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_render_parses(accept: str) -> None:
    """Both formats parse with the client library's own parsers, also where a label needs escaping."""
    body, _ = metrics().render(accept)
    parse = parse_openmetrics if accept else parse_text
    families = {family.name: family for family in parse(body.decode())}
    assert families["guardhouse_build_info"].samples[0].labels["model"] == 'a"b\\c\n'
    assert "process_cpu_seconds" in families


@given(st.text(st.characters(codec="latin-1"), max_size=30) | st.from_regex(r"text/plain; ?version=[\w.]*"))
def test_any_accept_header_is_answered(accept: str) -> None:
    """Whatever a scraper asks for, it gets a format that exists."""
    body, content_type = metrics().render(accept)
    assert b"guardhouse_requests_total" in body
    assert content_type.startswith(("text/plain", "application/openmetrics-text"))


def test_a_batch_is_counted_by_guard() -> None:
    """Rows, flags, crashes and violations of a batch go to their guards' series."""
    made = metrics().model
    assert made is not None
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
        made.ran(len(answer), 0.25)
    assert made.rows.values.tolist() == [4, 2, 0, 2]
    assert made.guard_rows.values.tolist() == [6, 4]
    assert made.guard_errors.values.tolist() == [2, 4]
    assert made.guard_flags.values.tolist() == [2, 2]
    assert made.violations.values.tolist() == [0, 2]
    assert made.p_value.counts.sum(1).tolist() == [6, 4]
    assert made.busy.values.tolist() == [0.5]
    assert made.batch_rows.counts.sum() == 2
