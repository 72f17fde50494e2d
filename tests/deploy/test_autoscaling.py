"""Autoscaling by HPA and by KEDA: both use one recorded figure, and hold the size if monitoring fails."""

import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import BUILDS, DEPLOY, Object, gateways, of_kind, only, rendered

from benchmarks.autoscaling.hpa import Autoscaler, Policy, Rules, average_value, value

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
    return only(rendered("cpu + HPA"), "HorizontalPodAutoscaler")["spec"]


@pytest.fixture
def scaled_object() -> Object:
    return only(rendered("cpu + KEDA"), "ScaledObject")["spec"]


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
    (load,) = (metric["external"]["target"] for metric in hpa["metrics"])
    (trigger,) = scaled_object["triggers"]
    assert (load["type"], load["averageValue"]) == (trigger["metricType"], trigger["metadata"]["threshold"])
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
    objects = rendered("cpu + HPA")
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
    assert wanted >= {"guardhouse:load:sum"}
    assert wanted <= recorded


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_autoscalers_see_the_demand_and_never_nan(scaled_object: Object, tmp_path: Path) -> None:
    """Both engines get the load of all replicas, and nothing at all once none reports.

    Both turn NaN into a large negative number, and would scale to the minimum.
    """
    matchers = 'job="guardhouse",namespace="guardhouse"'
    queries = [
        rule["metricsQuery"]
        .replace("<<.LabelMatchers>>", matchers)
        .replace("<<.Series>>", rule["name"]["matches"][1:-1])
        for rule in (ADAPTED["guardhouse_load"],)
    ]
    queries += [each["metadata"]["query"] for each in scaled_object["triggers"]]
    series = []
    for replica, (inflight, queued) in enumerate([(10, 4), (20, 6)]):
        labels = f'namespace="guardhouse",job="guardhouse",instance="{replica}"'
        series += [
            (f'guardhouse_build_info{{{labels},model="digits"}}', "1x40 _x80"),
            (f"guardhouse_inflight_requests{{{labels}}}", f"{inflight}x40 _x80"),
            (f"guardhouse_queue_rows{{{labels}}}", f"{queued}x40 _x80"),
        ]

    def expected(query: str, when: str, value: float | None) -> dict[str, Any]:
        samples = [] if value is None else [{"labels": "{}", "value": value}]
        return {"expr": query, "eval_time": when, "exp_samples": samples}

    tests = [
        expected(query, when, value)
        for query, reporting in zip(queries, [40, 40], strict=True)
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


class TestPace:
    """What the HPA does to a fleet in a flash crowd, by Kubernetes' documented algorithm."""

    CROWD, PODS_START_SECONDS, WINDOW_SECONDS, TICK = 80.0, 30, 60, 15

    @classmethod
    def replicas(cls, hpa: Object, seconds: int) -> list[int]:
        """Return the replicas over time after the load has stepped from 10 to 80, with what lags in a real cluster.

        A pod takes half a minute to start. The figures are means over a minute: of the load, which no number of
        replicas changes, and of the wait in the queue, which is long until the replicas are ready that the crowd needs.
        """
        behavior = hpa["behavior"]
        up, down = (
            Rules(
                behavior[way]["stabilizationWindowSeconds"],
                tuple(Policy(each["type"], each["value"], each["periodSeconds"]) for each in behavior[way]["policies"]),
            )
            for way in ("scaleUp", "scaleDown")
        )
        scaler = Autoscaler(hpa["minReplicas"], hpa["maxReplicas"], up, down)
        targets = {each["external"]["metric"]["name"]: each["external"]["target"] for each in hpa["metrics"]}
        needed = cls.CROWD / float(targets["guardhouse_load"]["averageValue"])
        started, count = [(-cls.PODS_START_SECONDS, hpa["minReplicas"])], []
        loads, waits = [10.0] * cls.WINDOW_SECONDS, [0.0] * cls.WINDOW_SECONDS
        for now in range(seconds):
            replicas = started[-1][1]
            ready = max(n for at, n in started if at + cls.PODS_START_SECONDS <= now)
            loads.append(cls.CROWD)
            waits.append(0.5 if ready < needed else 0.0)
            if now % cls.TICK == 0:
                load, wait = (sum(each[-cls.WINDOW_SECONDS :]) / cls.WINDOW_SECONDS for each in (loads, waits))
                proposals = [
                    average_value(load, float(target["averageValue"]), replicas)
                    if target["type"] == "AverageValue"
                    else value(wait, float(target["value"].removesuffix("m")) / 1000, replicas, ready)
                    for target in targets.values()
                ]
                replicas = scaler.decide(now, replicas, max(proposals))
            if replicas != started[-1][1]:
                started.append((now, replicas))
            count.append(replicas)
        return count

    def test_a_flash_crowd_gets_what_it_needs_and_no_more(self, hpa: Object) -> None:
        """The replicas that the crowd needs are asked for within a minute and a half, and never one more."""
        needed = math.ceil(self.CROWD / float(hpa["metrics"][0]["external"]["target"]["averageValue"]))
        counts = self.replicas(hpa, 600)
        assert counts[90] == needed
        assert max(counts) == needed

    def test_a_wait_as_a_value_would_compound(self, hpa: Object) -> None:
        """The simulation has teeth: with the queue's wait as a `Value` beside the load the fleet goes to its bound."""
        target = {"type": "Value", "value": "60m"}
        wait = {"external": {"metric": {"name": "guardhouse_queue_wait_seconds_p95"}, "target": target}}
        counts = self.replicas(hpa | {"metrics": [*hpa["metrics"], wait]}, 600)
        assert max(counts[:90]) == hpa["maxReplicas"]

    def test_no_metric_multiplies_the_replicas_there_are(self, hpa: Object, scaled_object: Object) -> None:
        """Every figure of both autoscalers is a total divided by a target (`AverageValue`)."""
        assert {each["external"]["target"]["type"] for each in hpa["metrics"]} == {"AverageValue"}
        assert {each["metricType"] for each in scaled_object["triggers"]} == {"AverageValue"}
