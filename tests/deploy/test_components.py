"""What single components promise: routes, rules, autoscaling that outlives a monitoring outage, narrow policies."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import BUILDS, DEPLOY, ROOT, Object, config, gateways, of_kind, only, rendered, selects, workloads

from guards.config import parse

RULES = DEPLOY / "prometheus"
CAPACITY = RULES / "capacity.rules.yaml"
ADAPTER = yaml.safe_load((DEPLOY / "components/autoscaling-hpa/prometheus-adapter-values.yaml").read_text())
ADAPTED = {rule["name"]["as"]: rule for rule in ADAPTER["rules"]["external"]}
AUTOSCALED = [build for build, folders in BUILDS.items() if any(name.startswith("autoscaling") for name in folders)]
MONITORED = [build for build, (overlay, *_) in BUILDS.items() if overlay.endswith(("cpu", "gpu", "canary", "kserve"))]
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


# The route


def routed(method: str, path: str) -> bool:
    """Say whether the route takes a request, by the Gateway API's rules for exact paths and prefixes."""
    (rule,) = only(rendered("cpu + gateway"), "HTTPRoute")["spec"]["rules"]
    for match in rule["matches"]:
        value = match["path"]["value"]
        within = path == value or (match["path"]["type"] == "PathPrefix" and path.startswith(f"{value}/"))
        if within and match.get("method", method) == method:
            return True
    return False


@pytest.mark.parametrize(
    "request_line",
    [
        *("POST /v1/models/digits:predict", "POST /v1/models/digits:explain", "POST /v1/models/digits:feedback"),
        *("GET /v1/models", "GET /v1/explanations/1", "POST /predict", "GET /docs", "GET /openapi.json"),
        *("GET /v2", "GET /v2/models/digits/ready", "POST /v2/models/digits/versions/1/infer", "GET /v2/health/live"),
        *("GET /livez", "GET /readyz", "GET /healthz"),
    ],
)
def test_the_public_is_routed(request_line: str) -> None:
    """Predictions, explanations, feedback, health and documents are the world's to ask for."""
    assert routed(*request_line.split())


@pytest.mark.parametrize("request_line", ["GET /metrics", "GET /v1/models/digits/monitors", "GET /", "GET /v20"])
def test_the_inside_is_not(request_line: str) -> None:
    """Metrics, and what is known of drift and groups, are not."""
    assert not routed(*request_line.split())


def test_the_route_leads_to_a_service() -> None:
    """Every backend of the route is a Service of the build, at its port."""
    for build in ("cpu + gateway", "overlays/canary", "canary + all"):
        objects = rendered(build)
        ports = {each["metadata"]["name"]: each["spec"]["ports"][0]["port"] for each in of_kind(objects, "Service")}
        (rule,) = only(objects, "HTTPRoute")["spec"]["rules"]
        assert rule["backendRefs"]
        assert all(ports[each["name"]] == each["port"] for each in rule["backendRefs"])


def test_grpc_has_the_port_that_the_config_is_told() -> None:
    """The config key in the component's comment makes the gateway listen where container, Service and policy say."""
    objects = rendered("cpu + grpc")
    text = (DEPLOY / "components" / "grpc" / "kustomization.yaml").read_text()
    (server,) = re.findall(r"`server: (\{.*?\})`", text)
    (workload,) = gateways(objects)
    wanted = parse(config(objects, workload) | {"server": yaml.safe_load(server)}).server.grpc_port
    assert wanted == workload.container["ports"][1]["containerPort"]
    assert wanted == only(objects, "Service")["spec"]["ports"][1]["port"]


# What Prometheus is told


def test_prometheus_rules_are_current(tmp_path: Path) -> None:
    """The PrometheusRules are what `make prometheus-rules` writes of deploy/prometheus."""
    shutil.copytree(RULES, tmp_path / "deploy" / "prometheus")
    (tmp_path / "deploy" / "components" / "monitoring").mkdir(parents=True)
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "prometheus_rules.py", tmp_path / "tools")
    subprocess.run([sys.executable, "tools/prometheus_rules.py"], cwd=tmp_path, check=True, capture_output=True)
    path = Path("deploy") / "components" / "monitoring" / "rules.yaml"
    assert (tmp_path / path).read_text() == (ROOT / path).read_text(), "run `make prometheus-rules`"


def test_every_file_of_rules_is_an_object() -> None:
    """Each file of deploy/prometheus arrives in the cluster, unchanged."""
    found = {each["metadata"]["name"]: each["spec"] for each in of_kind(rendered("overlays/cpu"), "PrometheusRule")}
    files = {f"guardhouse-{path.name.partition('.')[0]}": path for path in RULES.glob("*.rules.yaml")}
    assert len(files) > 1
    assert found == {name: yaml.safe_load(path.read_text()) for name, path in files.items()}


@pytest.mark.parametrize("build", MONITORED)
def test_every_gateway_is_scraped(build: str) -> None:
    """The PodMonitor selects the gateways' pods alone, by a port they have, and `job` tells canaries apart."""
    objects = rendered(build)
    monitor = only(objects, "PodMonitor")["spec"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["path"] == "/metrics"
    scraped = [each for each in workloads(objects) if selects(monitor["selector"]["matchLabels"], each.labels)]
    assert [each.name for each in scraped] == [each.name for each in gateways(objects)]
    for workload in scraped:
        assert workload.labels[monitor["jobLabel"]] == workload.name
        assert endpoint["port"] in {port["name"] for port in workload.container["ports"]}


# Autoscaling


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


@pytest.mark.skipif(not CAPACITY.is_file(), reason=f"no {CAPACITY.name}")
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
@pytest.mark.skipif(not CAPACITY.is_file(), reason=f"no {CAPACITY.name}")
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


# Policies


@pytest.mark.parametrize("build", BUILDS)
def test_nothing_passes_that_no_policy_names(build: str) -> None:
    """All pods are denied both ways; each policy selects pods that exist, and opens ports that are listened on."""
    objects = rendered(build)
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind(objects, "NetworkPolicy")}
    assert policies.pop("default-deny") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    found = list(workloads(objects))
    for policy in policies.values():
        chosen = [each for each in found if selects(policy["podSelector"]["matchLabels"], each.labels)]
        assert chosen
        for rule in policy.get("ingress", []):
            for workload in chosen:
                listening = {port["containerPort"] for port in workload.container["ports"]}
                assert {port["port"] for port in rule["ports"]} <= listening
        for rule in policy.get("egress", []):
            assert rule["ports"]


@pytest.mark.parametrize(
    ("variable", "policy", "port"),
    [
        ("GUARDHOUSE_REDIS_URL", "guardhouse-to-redis", 6379),
        ("GUARDHOUSE_DATABASE_URL", "guardhouse-to-database", 5432),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "guardhouse-to-collector", 4318),
    ],
)
def test_whoever_is_told_an_address_may_go_there(variable: str, policy: str, port: int) -> None:
    """A component that names a server opens the way to it, for a canary too."""
    for build in ("cpu + all with an HPA", "canary + all"):
        objects = rendered(build)
        names = {each["metadata"]["name"]: each["spec"] for each in of_kind(objects, "NetworkPolicy")}
        (rule,) = names[policy]["egress"]
        assert [each["port"] for each in rule["ports"]] == [port]
        for workload in gateways(objects):
            assert variable in {each["name"] for each in workload.container["env"]}
            assert selects(names[policy]["podSelector"]["matchLabels"], workload.labels)


def test_addresses_are_services_of_the_build() -> None:
    """The addresses of Redis and, by the comment that makes its Secret, of PostgreSQL are those of their Services."""
    objects = rendered("cpu + all with an HPA")
    services = {each["metadata"]["name"]: each["spec"]["ports"][0]["port"] for each in of_kind(objects, "Service")}
    (workload,) = gateways(objects)
    (redis,) = (each["value"] for each in workload.container["env"] if each["name"] == "GUARDHOUSE_REDIS_URL")
    host, _, port = redis.removeprefix("redis://").removesuffix("/0").partition(":")
    assert services[host] == int(port)
    comment = (DEPLOY / "components" / "postgres" / "kustomization.yaml").read_text()
    (user, host, database) = re.findall(r"postgresql://(\w+):\$password@([\w-]+)/(\w+)", comment)[0]
    (postgres,) = (each for each in workloads(objects) if each.name == host)
    variables = {each["name"]: each["value"] for each in postgres.container["env"]}
    assert (variables["POSTGRES_USER"], variables["POSTGRES_DB"]) == (user, database)
    assert services[host] == 5432
