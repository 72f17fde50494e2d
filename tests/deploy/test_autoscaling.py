"""Autoscaling by HPA and by KEDA: the same in both, on figures that are recorded, and steady in a monitoring outage."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import BUILDS, DEPLOY, Object, gateways, of_kind, only, rendered

RULES = DEPLOY / "prometheus"
CAPACITY = RULES / "capacity.rules.yaml"
ADAPTER = yaml.safe_load((DEPLOY / "components/autoscaling-hpa/prometheus-adapter-values.yaml").read_text())
ADAPTED = {rule["name"]["as"]: rule for rule in ADAPTER["rules"]["external"]}
AUTOSCALED = [build for build, folders in BUILDS.items() if any(name.startswith("autoscaling") for name in folders)]
STEADY_SECONDS = 300

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl, which renders the manifests, is absent"
)


@pytest.fixture
def hpa() -> Object:
    return only(rendered("cpu + autoscaling-hpa"), "HorizontalPodAutoscaler")["spec"]


@pytest.fixture
def scaled_object() -> Object:
    return only(rendered("cpu + autoscaling-keda"), "ScaledObject")["spec"]


@pytest.mark.parametrize("build", AUTOSCALED)
def test_an_autoscaler_owns_the_replicas(build: str) -> None:
    """The scaled Deployment is there, says nothing of replicas, and has one autoscaler, which keeps two or more."""
    objects = rendered(build)
    scalers = [*of_kind(objects, "HorizontalPodAutoscaler"), *of_kind(objects, "ScaledObject")]
    (spec,) = (each["spec"] for each in scalers)
    target = spec["scaleTargetRef"]
    (deployment,) = (each for each in of_kind(objects, "Deployment") if each["metadata"]["name"] == target["name"])
    assert (target["apiVersion"], target["kind"]) == (deployment["apiVersion"], deployment["kind"])
    assert "replicas" not in deployment["spec"]
    assert spec.get("minReplicas", spec.get("minReplicaCount")) >= 2


def test_both_autoscalers_do_the_same(hpa: Object, scaled_object: Object) -> None:
    """KEDA's object has the HPA's bounds, targets and pace: fast up, slowly down."""
    advanced = scaled_object["advanced"]["horizontalPodAutoscalerConfig"]
    assert advanced["behavior"] == hpa["behavior"]
    assert (scaled_object["minReplicaCount"], scaled_object["maxReplicaCount"]) == (
        hpa["minReplicas"],
        hpa["maxReplicas"],
    )
    load, wait = (metric["external"]["target"] for metric in hpa["metrics"])
    triggers = {each["name"]: each for each in scaled_object["triggers"]}
    assert (load["type"], load["averageValue"]) == (
        triggers["load"]["metricType"],
        triggers["load"]["metadata"]["threshold"],
    )
    assert wait["type"] == triggers["queue-wait"]["metricType"] == "Value"
    assert float(wait["value"].removesuffix("m")) / 1000 == float(triggers["queue-wait"]["metadata"]["threshold"])
    assert hpa["behavior"]["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert hpa["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= STEADY_SECONDS


def test_keda_scales_nothing_down_in_an_outage(scaled_object: Object) -> None:
    """A query without an answer is an error and not a 0, and after some errors the replicas stay, or grow to a few."""
    assert all(each["metadata"]["ignoreNullValues"] == "false" for each in scaled_object["triggers"])
    assert scaled_object["fallback"]["behavior"] == "currentReplicasIfHigher"
    assert scaled_object["fallback"]["replicas"] >= scaled_object["minReplicaCount"]
    # KEDA has a fallback only where a trigger is of this type.
    assert "AverageValue" in {each["metricType"] for each in scaled_object["triggers"]}


def test_the_hpa_asks_for_what_the_adapter_serves(hpa: Object) -> None:
    """Each metric of the HPA is one that the adapter's rules make, of the series of the scaled Deployment's own job."""
    objects = rendered("cpu + autoscaling-hpa")
    (workload,) = gateways(objects)
    job = workload.labels[only(objects, "PodMonitor")["spec"]["jobLabel"]]
    for metric in hpa["metrics"]:
        assert metric["type"] == "External"
        assert metric["external"]["metric"]["name"] in ADAPTED
        assert metric["external"]["metric"]["selector"]["matchLabels"] == {"job": job}
    load = hpa["metrics"][0]["external"]
    assert (load["metric"]["name"], load["target"]["type"]) == ("guardhouse_load", "AverageValue")


def test_the_adapter_renames_one_series_a_rule() -> None:
    """A rule finds one recorded series, gives it a name that Kubernetes takes, and asks in the HPA's namespace."""
    for name, rule in ADAPTED.items():
        (series,) = re.findall(r'__name__="([^"]+)"', rule["seriesQuery"])
        assert re.fullmatch(rule["name"]["matches"], series)
        assert re.fullmatch(r"[a-z0-9_]+", name)
        assert rule["resources"] == {"overrides": {"namespace": {"resource": "namespace"}}}


def test_every_figure_is_recorded(scaled_object: Object) -> None:
    """Whatever the autoscalers read is recorded by the rules that the same build brings along."""
    groups = [group for path in RULES.glob("*.rules.yaml") for group in yaml.safe_load(path.read_text())["groups"]]
    recorded = {rule.get("record") for group in groups for rule in group["rules"]}
    wanted = {re.findall(r'__name__="([^"]+)"', rule["seriesQuery"])[0] for rule in ADAPTED.values()}
    for trigger in scaled_object["triggers"]:
        wanted |= set(re.findall(r"guardhouse:[a-z0-9_:]+", trigger["metadata"]["query"]))
    assert len(wanted) == 3
    assert wanted <= recorded


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_autoscalers_see_the_demand_and_never_nan(scaled_object: Object, tmp_path: Path) -> None:
    """Both engines get the load of all replicas, 0 for the wait of idle ones, and nothing at all once none reports.

    Both turn NaN into a large negative number, and would scale to the minimum.
    """
    matchers = 'job="guardhouse",namespace="guardhouse"'
    queries = [
        rule["metricsQuery"]
        .replace("<<.LabelMatchers>>", matchers)
        .replace("<<.Series>>", rule["name"]["matches"][1:-1])
        for rule in (ADAPTED["guardhouse_load"], ADAPTED["guardhouse_queue_wait_seconds_p95"])
    ]
    queries += [each["metadata"]["query"] for each in scaled_object["triggers"]]
    series = []
    for replica, (inflight, queued) in enumerate([(10, 4), (20, 6)]):
        labels = f'namespace="guardhouse",job="guardhouse",instance="{replica}"'
        histogram = f'guardhouse_stage_duration_seconds_bucket{{{labels},stage="queue",le='
        series += [
            (f'guardhouse_build_info{{{labels},model="digits"}}', "1x40 _x80"),
            (f"guardhouse_inflight_requests{{{labels}}}", f"{inflight}x40 _x80"),
            (f"guardhouse_queue_rows{{{labels}}}", f"{queued}x40 _x80"),
            *((f'{histogram}"{bound}"}}', "0x40 _x80") for bound in ("0.1", "+Inf")),
        ]

    def expected(query: str, when: str, value: float | None) -> dict[str, Any]:
        samples = [] if value is None else [{"labels": "{}", "value": value}]
        return {"expr": query, "eval_time": when, "exp_samples": samples}

    tests = [
        expected(query, when, value)
        for query, reporting in zip(queries, [40, 0, 40, 0], strict=True)
        for when, value in (("8m", reporting), ("20m", None))
    ]
    (tmp_path / "test.yaml").write_text(
        yaml.safe_dump(
            {
                "rule_files": [str(CAPACITY)],
                "evaluation_interval": "15s",
                "tests": [
                    {
                        "interval": "15s",
                        "input_series": [{"series": name, "values": values} for name, values in series],
                        "promql_expr_test": tests,
                    }
                ],
            }
        )
    )
    done = subprocess.run(
        ["promtool", "test", "rules", tmp_path / "test.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
