"""The metrics that Prometheus scrapes: names, types, and values that change exactly as the requests imply."""

import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from example_folders import (
    ABSTAINED,
    ALLOWED,
    CRASH_HIDDEN,
    CRASH_MODEL,
    CRASH_WIRE,
    FLAGGED,
    HIDDEN,
    REJECTED,
    TABLE_GUARDS,
    WIRED,
)
from fresh_client import FRESH
from gateways import differing, faults_allowed
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

if TYPE_CHECKING:
    from gateways import Gateway

OPENMETRICS = "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5"
# The contract's names, as far as this version has them, and what a scrape must call them.
TYPES = {
    "guardhouse_requests": "counter",
    "guardhouse_request_duration_seconds": "histogram",
    "guardhouse_stage_duration_seconds": "histogram",
    "guardhouse_inflight_requests": "gauge",
    "guardhouse_connections": "gauge",
    "guardhouse_queue_rows": "gauge",
    "guardhouse_batch_rows": "histogram",
    "guardhouse_shed_requests": "counter",
    "guardhouse_device_busy_seconds": "counter",
    "guardhouse_self_test_passed": "gauge",
    "guardhouse_false_alarm_budget_ratio": "gauge",
    "guardhouse_guard_threshold_ratio": "gauge",
    "guardhouse_coverage_target_ratio": "gauge",
    "guardhouse_rows": "counter",
    "guardhouse_rows_abstained_on_purpose": "counter",
    "guardhouse_guard_rows": "counter",
    "guardhouse_guard_flags": "counter",
    "guardhouse_guard_errors": "counter",
    "guardhouse_guard_skipped": "counter",
    "guardhouse_guard_p_value": "histogram",
    "guardhouse_stream_bin": "counter",
    "guardhouse_reference_bin_ratio": "gauge",
    "guardhouse_reference_rows": "gauge",
    "guardhouse_group_predictions": "counter",
    "guardhouse_monitor_skipped_rows": "counter",
    "guardhouse_store_rows": "counter",
    "guardhouse_store_down": "gauge",
    "guardhouse_store_deleted_rows": "counter",
    "guardhouse_store_files_lost": "counter",
    "guardhouse_store_bytes": "gauge",
    "guardhouse_store_max_bytes": "gauge",
    "guardhouse_store_oldest_row_timestamp_seconds": "gauge",
    "guardhouse_feedback": "counter",
    "guardhouse_group_actions": "counter",
    "guardhouse_group_outcomes": "counter",
    "guardhouse_expected_correct": "counter",
    "guardhouse_outcomes": "counter",
    "guardhouse_covered": "counter",
    "guardhouse_explanations": "counter",
    "guardhouse_redis_errors": "counter",
    "guardhouse_explain_duration_seconds": "histogram",
    "guardhouse_build_info": "gauge",
    "process_cpu_seconds": "counter",
    "process_resident_memory_bytes": "gauge",
    "python_gc_collections": "counter",
}
LABELS = {
    "guardhouse_requests": {"route", "code"},
    "guardhouse_request_duration_seconds": {"route"},
    "guardhouse_stage_duration_seconds": {"stage"},
    "guardhouse_shed_requests": {"reason"},
    "guardhouse_device_busy_seconds": {"device"},
    "guardhouse_rows": {"action"},
    "guardhouse_rows_abstained_on_purpose": set(),
    "guardhouse_guard_rows": {"guard"},
    "guardhouse_guard_flags": {"guard"},
    "guardhouse_guard_errors": {"guard"},
    "guardhouse_guard_skipped": {"guard"},
    "guardhouse_guard_p_value": {"guard"},
    "guardhouse_stream_bin": {"stream", "bin"},
    "guardhouse_reference_bin_ratio": {"stream", "bin"},
    "guardhouse_reference_rows": {"stream"},
    "guardhouse_group_predictions": {"attribute", "group", "label"},
    "guardhouse_monitor_skipped_rows": {"monitor", "reason"},
    "guardhouse_store_rows": {"result"},
    "guardhouse_store_deleted_rows": {"reason"},
    "guardhouse_store_files_lost": set(),
    "guardhouse_feedback": {"result"},
    "guardhouse_group_actions": {"attribute", "group", "action"},
    "guardhouse_group_outcomes": {"attribute", "group", "predicted", "actual"},
    "guardhouse_expected_correct": set(),
    "guardhouse_outcomes": {"correct"},
    "guardhouse_covered": {"covered"},
    "guardhouse_explanations": {"method", "result"},
    "guardhouse_explain_duration_seconds": {"method"},
    "guardhouse_redis_errors": set(),
    "guardhouse_build_info": {"version", "model", "model_version", "bundle"},
}


def series(name: str, **labels: str) -> str:
    """Spell a series as the exposition does: labels sorted by name."""
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if labels else name


@pytest.mark.parametrize("gateway", ["table", "images", "values"])
def test_promtool_accepts_the_scrape(gateway: str, request: pytest.FixtureRequest) -> None:
    """Prometheus' own linter has nothing to say of a real scrape."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    server: Gateway = request.getfixturevalue(gateway)
    scrape = FRESH.get(f"{server.url}/metrics").content
    checked = subprocess.run([promtool, "check", "metrics"], input=scrape, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr.decode()
    assert not [line for line in checked.stderr.decode().splitlines() if "guardhouse_" in line]


@pytest.mark.parametrize("accept", [None, OPENMETRICS])
def test_names_types_and_labels_are_the_contracts(table: "Gateway", accept: str | None) -> None:
    """Both formats parse, and hold the contract's families with the contract's types and labels."""
    response = table.client.get("/metrics", headers={"Accept": accept} if accept else {"Accept": "*/*"})
    if accept:
        assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert response.text.endswith("# EOF\n")
        families = {family.name: family for family in parse_openmetrics(response.text)}
    else:
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = {family.name: family for family in parse_text(response.text)}
    assert TYPES.items() <= {name: family.type for name, family in families.items()}.items()
    for name, labels in LABELS.items():
        assert families[name].samples
        for sample in families[name].samples:
            assert sample.labels.keys() - {"le"} == labels
    assert all(family.documentation for family in families.values())


@pytest.mark.parametrize(
    "accept",
    ["text/plain; version=abc", "application/openmetrics-text; version=x.y", "text/plain; version=", "version=1.0.0",
     "application/openmetrics-text; version=99; escaping=nonsense", ";;;,,,===", "text/plain; version=1.0.0; q=a"],
)  # fmt: skip
def test_odd_accept_headers_get_some_format(table: "Gateway", accept: str) -> None:
    """A scraper that asks for nonsense gets metrics all the same."""
    response = table.client.get("/metrics", headers={"Accept": accept})
    assert response.status_code == 200
    assert "guardhouse_build_info" in response.text


@pytest.mark.parametrize("gateway", ["table", "images", "values"])
def test_the_number_of_series_follows_from_the_config(gateway: str, request: pytest.FixtureRequest) -> None:
    """A server under traffic has exactly the series that `fit` announced, and those of gRPC."""
    server: Gateway = request.getfixturevalue(gateway)
    said = re.findall(r"a server of it has (\d+) Prometheus series", server.bundle.with_suffix(".fit.txt").read_text())
    ours = [name for name in server.metrics() if name.startswith("guardhouse_")]
    by_grpc = [name for name in ours if 'route="grpc:' in name]  # the config that was fitted has no `grpc_port`
    assert by_grpc
    assert [str(len(ours) - len(by_grpc))] == said


def test_promises_are_told(table: "Gateway") -> None:
    """Rules find what the config promises beside what is counted, and that the self-test passed."""
    scraped = table.metrics()
    assert scraped["guardhouse_self_test_passed"] == 1
    assert scraped["guardhouse_coverage_target_ratio"] == 0.9
    budget = scraped["guardhouse_false_alarm_budget_ratio"]
    thresholds = [scraped[series("guardhouse_guard_threshold_ratio", guard=guard)] for guard in TABLE_GUARDS]
    assert 0 < max(thresholds) <= budget < 1


def test_p_value_bounds(table: "Gateway") -> None:
    """The p-value histogram has the contract's bounds, so that one rule fits every guard."""
    bounds = [
        float(le) for le in re.findall(r'guard_p_value_bucket\{guard="ood",le="([^"]+)"', "\n".join(table.metrics()))
    ]
    tenths = [round(0.1 * i, 1) for i in range(1, 11)]
    assert bounds == [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, *tenths, float("inf")]


def take_groups(took: Callable[..., None], rows: list[dict[str, Any]], said: list[dict[str, Any]]) -> None:
    """Take what groups should have moved, by label and by action."""
    labels = ["none" if one["label"] is None else one["label"] for one in said]
    sexes = ["Female"] * 4 + ["Male"] * 3 + ["other"] + ["unknown"] * 3
    bands = ["45-65"] * 5 + [">=65"] * 2 + ["45-65"] * 4
    regions = [row["region"] for row in rows]
    for attribute, groups in {"sex": sexes, "age": bands, "region": regions}.items():
        for group, label in set(zip(groups, labels, strict=True)):
            count = sum((g, one) == (group, label) for g, one in zip(groups, labels, strict=True))
            took("guardhouse_group_predictions_total", count, attribute=attribute, group=group, label=label)
        actions = ["flag" if row is HIDDEN else one["action"] for row, one in zip(rows, said, strict=True)]
        for group, action in set(zip(groups, actions, strict=True)):
            count = sum((g, one) == (group, action) for g, one in zip(groups, actions, strict=True))
            took("guardhouse_group_actions_total", count, attribute=attribute, group=group, action=action)


def test_rows_are_counted_once(table: "Gateway") -> None:
    """Rows by action, guard rows, flags, errors, groups and bins move exactly as one request says."""
    rows = [
        *[ALLOWED] * 3, FLAGGED, FLAGGED, ABSTAINED, REJECTED, HIDDEN, WIRED,
        ALLOWED | {"trap": CRASH_HIDDEN}, ALLOWED | {"trap": CRASH_WIRE},
    ]  # fmt: skip
    n = len(rows)
    before = table.metrics()
    said = table.predict(
        rows, parameters={"detail": True}, groups={"sex": ["Female"] * 4 + ["Male"] * 3 + ["x", None, None, None]}
    )
    rest = differing(table.metrics(), before)
    assert rest.pop(series("guardhouse_store_rows_total", result="stored")) == n

    def took(name: str, expected: float, **labels: str) -> None:
        assert rest.pop(series(name, **labels), 0) == expected, (name, labels)

    route = "/v1/models/{name}:predict"
    took("guardhouse_requests_total", 1, route=route, code="200")
    # The scrape before, and those that found the store still writing.
    assert rest.pop(series("guardhouse_requests_total", route="/metrics", code="200")) >= 1
    for action, count in {"allow": 4 + 1, "flag": 2 + 1, "abstain": 1, "reject": 2}.items():
        shown = sum(one["action"] == action for one in said)
        hidden = {"allow": -1, "flag": 1}.get(action, 0)  # the hidden guard's flag is counted and not shown
        took("guardhouse_rows_total", shown + hidden, action=action)
        assert shown == count
    flags = {"quality": 1, "ood": 2, "confidence": 2, "wire": 1, "hidden": 1}
    for guard in TABLE_GUARDS:
        crashed = guard in {"wire", "hidden"}
        took("guardhouse_guard_rows_total", n - crashed, guard=guard)
        took("guardhouse_guard_errors_total", int(crashed), guard=guard)
        took("guardhouse_guard_flags_total", flags[guard], guard=guard)
        took("guardhouse_guard_p_value_count", n - crashed, guard=guard)
        took("guardhouse_guard_p_value_bucket", n - crashed, guard=guard, le="+Inf")
        took("guardhouse_guard_p_value_bucket", n - crashed, guard=guard, le="1.0")
        if guard == "hidden":
            continue
        p_values = [one["guards"][guard]["p_value"] for one in said]
        for le in ("0.0001", "0.0005", "0.001", "0.005", "0.01", "0.05", *(f"{i / 10:g}" for i in range(1, 10))):
            expected = sum(p is not None and p <= float(le) for p in p_values)
            took("guardhouse_guard_p_value_bucket", expected, guard=guard, le=le)
        total = rest.pop(series("guardhouse_guard_p_value_sum", guard=guard))
        assert total == pytest.approx(sum(p for p in p_values if p is not None), abs=1e-4)
    took("guardhouse_guard_violations_total", 1, guard="quality")
    sizes = [min(table.batch_rows, n - start) for start in range(0, n, table.batch_rows)]
    took("guardhouse_batch_rows_count", len(sizes))
    took("guardhouse_batch_rows_sum", n)
    for le in (*(f"{2**power}.0" for power in range(11)), "+Inf"):
        took("guardhouse_batch_rows_bucket", sum(size <= float(le) for size in sizes), le=le)
    take_groups(took, rows, said)
    answered = sum(one["label"] is not None for one in said)
    took("guardhouse_answered_total", answered)
    assert 0 < rest.pop("guardhouse_expected_correct_total") < answered
    streams: dict[str, float] = {}
    for name in [name for name in rest if name.startswith("guardhouse_stream_bin_total")]:
        stream = re.findall(r'stream="([^"]+)"', name)[0]
        streams[stream] = streams.get(stream, 0) + rest.pop(name)
    columns = {f"column:{name}" for name in ("age", "income", "region", "job", "trap")}
    guards = {f"guard:{name}" for name in TABLE_GUARDS}
    assert streams == dict.fromkeys(columns | guards | {f"feature:{i}" for i in range(4)} | {"confidence", "label"}, n)
    leftover = {name for name in rest if "hidden" not in name}
    assert leftover <= {"guardhouse_inflight_requests", "guardhouse_connections"}


def test_a_scrape_has_every_row_that_was_answered_before(table: "Gateway") -> None:
    """Rows are counted after their answers are sent; a scrape that begins after an answer waits for that."""

    def rows() -> float:
        return sum(value for name, value in table._scrape().items() if name.startswith("guardhouse_rows_total"))

    before = rows()
    for sent in range(1, 31):
        table.predict([ALLOWED])
        assert rows() == before + sent


def test_stages_and_time_are_counted(table: "Gateway") -> None:
    """Every stage takes time, the device is busy for some of it, and nothing is in flight afterwards."""
    before = table.metrics()
    for _ in range(3):
        table.predict([ALLOWED] * 10)
    after = table.metrics()
    batches = 3 * -(-10 // table.batch_rows)
    stages = dict.fromkeys(("decode", "queue", "encode"), 3)
    stages |= dict.fromkeys(("input_guards", "model", "output_guards"), batches)
    for stage, count in stages.items():
        name = series("guardhouse_stage_duration_seconds_count", stage=stage)
        assert after[name] - before[name] == count
    busy = series("guardhouse_device_busy_seconds_total", device="cpu")
    assert 0 < after[busy] - before[busy] < 5
    route = series("guardhouse_request_duration_seconds_count", route="/v1/models/{name}:predict")
    assert after[route] - before[route] == 3
    assert after["guardhouse_inflight_requests"] == 0
    assert after["guardhouse_queue_rows"] == 0


def test_refused_requests_count_no_rows(table: "Gateway") -> None:
    """A request that makes no rows moves its own counter and nothing else."""
    before = table.metrics()
    table.post(b"{")
    table.post({"instances": [ALLOWED, {"age": 1}]})
    moved = differing(table.metrics(), before)
    route = "/v1/models/{name}:predict"
    assert moved == {
        series("guardhouse_requests_total", route=route, code="400"): 1,
        series("guardhouse_requests_total", route=route, code="422"): 1,
        series("guardhouse_requests_total", route="/metrics", code="200"): 1,
    }


def test_build_info_names_what_is_served(table: "Gateway") -> None:
    """One series says version, model, its version and the bundle."""
    (name,) = [name for name in table.metrics() if name.startswith("guardhouse_build_info")]
    assert 'model="loans"' in name
    assert 'model_version="2024.1"' in name
    assert re.search(r'bundle="sha256:[0-9a-f]{64}"', name)


def test_reference_ratios_add_up(table: "Gateway") -> None:
    """Every stream's reference fills its bins to one."""
    sums: dict[str, float] = {}
    for name, value in table.metrics().items():
        if name.startswith("guardhouse_reference_bin_ratio"):
            stream = re.findall(r'stream="([^"]+)"', name)[0]
            sums[stream] = sums.get(stream, 0) + value
    assert sums
    assert all(total == pytest.approx(1) for total in sums.values())


@pytest.mark.parametrize("gateway", ["table", "images"])
def test_no_series_is_made_by_what_a_client_sends(gateway: str, request: pytest.FixtureRequest) -> None:
    """A storm of made-up paths, methods, headers, ids, groups and bodies leaves the set of series as it was."""
    server: Gateway = request.getfixturevalue(gateway)
    before = set(server.metrics())
    rng = random.Random(5)  # noqa: S311
    with faults_allowed(server, "a batch failed: ValueError", "ValueError while answering request"):
        for i in range(300):
            _storm(server, rng, i)
    assert set(server.metrics()) == before
    assert server.client.get("/readyz").status_code == 200


def _storm(server: "Gateway", rng: random.Random, i: int) -> None:
    paths = [f"/{rng.random()}", server.predict_path, "/predict", f"/v1/models/m{i}:predict", f"/metrics/{i}", "/livez"]
    methods = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "PROPFIND"]
    region = rng.choice(["north", f"region-{i}", None, i])
    rows = [ALLOWED | {"region": region, "trap": rng.choice([0.6, CRASH_MODEL if i % 50 == 0 else 0.7])}]
    bodies: list[Any] = [
        {"instances": rows, "ids": [f"id-{i}"]},
        {"instances": rows, "groups": {"sex": [f"sex-{i}"]}},
        {"instances": rows, "groups": {f"group-{i}": ["x"]}},
        {"instances": rows, f"key-{i}": i},
        {"instances": rows, "parameters": {"target": f"label-{i}"}},
        {"instances": [{f"column-{i}": 1}]},
        [i],
    ]
    content = rng.choice([json.dumps(rng.choice(bodies)).encode(), rng.randbytes(rng.randrange(200))])
    headers = {
        "Content-Type": rng.choice(["application/json", f"x/{i}"]),
        "X-Request-ID": f"r{i}",
        f"X-Header-{i}": "x",
        "Accept": rng.choice(["*/*", f"a/{i}"]),
        "User-Agent": f"agent-{i}",
    }
    server.client.request(rng.choice(methods), rng.choice(paths), content=content, headers=headers)
