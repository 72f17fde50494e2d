"""What single components promise: routes, labels for Prometheus, narrow policies, addresses."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from manifests import (
    BUILDS,
    DEPLOY,
    ROOT,
    Object,
    config,
    gateways,
    of_kind,
    only,
    refusal,
    rendered,
    selects,
    workloads,
)

from guards.config.config import parse
from guards.config.server import ServerConfig

RULES = DEPLOY / "prometheus"
MONITORED = [build for build, names in BUILDS.items() if {"monitoring", "metrics-port"} & set(names)]

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl, which renders the manifests, is absent"
)


# The route


def routed(method: str, path: str) -> bool:
    """Say whether the route takes a request, by the Gateway API's rules for exact paths and prefixes."""
    (rule,) = only(rendered("base + gateway"), "HTTPRoute")["spec"]["rules"]
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
    for build in ("base + gateway", "cpu + all with an HPA", "overlays/canary", "canary + all"):
        objects = rendered(build)
        ports = {each["metadata"]["name"]: each["spec"]["ports"][0]["port"] for each in of_kind(objects, "Service")}
        (rule,) = only(objects, "HTTPRoute")["spec"]["rules"]
        assert rule["backendRefs"]
        assert all(ports[each["name"]] == each["port"] for each in rule["backendRefs"])


def configured(component: str) -> ServerConfig:
    """Return the section `server` with the key that the comment of a component names."""
    objects = rendered("base")
    (server,) = re.findall(
        r"`server: (\{.*?\})`", (DEPLOY / "components" / component / "kustomization.yaml").read_text()
    )
    return parse(config(objects, gateways(objects)[0]) | {"server": yaml.safe_load(server)}).server


def test_grpc_has_the_port_that_the_config_is_told() -> None:
    """With the key from the component's comment, the gateway listens on the port of container, Service and policy."""
    objects = rendered("base + grpc")
    (workload,) = gateways(objects)
    wanted = configured("grpc").grpc_port
    assert wanted == workload.container["ports"][1]["containerPort"]
    assert wanted == only(objects, "Service")["spec"]["ports"][1]["port"]


@pytest.mark.parametrize("build", ["base + metrics-port", "canary + all"])
def test_the_metrics_have_the_port_that_the_config_is_told(build: str) -> None:
    """With the key from the comment, the gateway listens on the container's port, which Prometheus alone reaches."""
    objects = rendered(build)
    wanted = configured("metrics-port").metrics_port
    for workload in gateways(objects):
        ports = {port["name"]: port["containerPort"] for port in workload.container["ports"]}
        assert ports["metrics"] == wanted
        assert workload.container["ports"][0]["name"] == "http", "the first port is KServe's"
    (endpoint,) = only(objects, "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == "metrics"
    opened = {
        each["metadata"]["name"]: {port["port"] for rule in each["spec"].get("ingress", []) for port in rule["ports"]}
        for each in of_kind(objects, "NetworkPolicy")
    }
    assert opened["guardhouse-from-prometheus"] == {wanted}
    assert [name for name, ports in opened.items() if wanted in ports] == ["guardhouse-from-prometheus"]
    for service in of_kind(objects, "Service"):
        assert {wanted, "metrics"}.isdisjoint(port["targetPort"] for port in service["spec"]["ports"])


@pytest.mark.parametrize("components", [("monitoring", "metrics-port"), ("metrics-port", "monitoring")])
def test_the_metrics_port_is_used_in_place_of_monitoring(components: tuple[str, str]) -> None:
    """Both components together do not build, in either order: nobody gets a PodMonitor with the wrong port."""
    assert "guardhouse-from-prometheus" in refusal("base", *components)


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
    found = {
        each["metadata"]["name"]: each["spec"] for each in of_kind(rendered("base + monitoring"), "PrometheusRule")
    }
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


# Policies


@pytest.mark.parametrize("build", BUILDS)
def test_nothing_passes_that_no_policy_names(build: str) -> None:
    """All its pods are denied both ways; each policy selects pods that exist, and opens ports that are listened on."""
    objects = rendered(build)
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind(objects, "NetworkPolicy")}
    denied = policies.pop("guardhouse-default-deny")
    assert denied.keys() == {"podSelector", "policyTypes"}
    assert denied["policyTypes"] == ["Ingress", "Egress"]
    found = list(workloads(objects))
    assert all(selects(denied["podSelector"]["matchLabels"], each.labels) for each in found)
    assert all(policy["podSelector"]["matchLabels"] for policy in policies.values()), "it reaches others' pods"
    for policy in policies.values():
        chosen = [each for each in found if selects(policy["podSelector"]["matchLabels"], each.labels)]
        assert chosen
        for rule in policy.get("ingress", []):
            for workload in chosen:
                listening = {port["containerPort"] for port in workload.container["ports"]}
                assert {port["port"] for port in rule["ports"]} <= listening
        for rule in policy.get("egress", []):
            assert rule["ports"]


class TestNetworkPolicies:
    """Which pods reach the gateway's pods, and that DNS is allowed, by Kubernetes' rules for network policies."""

    @pytest.fixture(params=["base", "base + gateway", "base + monitoring", "cpu + all with an HPA", "kserve + all"])
    def build(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @staticmethod
    def rules(build: str, direction: str) -> list[Object]:
        """Return all rules for the gateway's pods; policies add up."""
        objects = rendered(build)
        (workload,) = gateways(objects)
        policies = [each["spec"] for each in of_kind(objects, "NetworkPolicy")]
        chosen = [each for each in policies if selects(each["podSelector"].get("matchLabels", {}), workload.labels)]
        return [rule for each in chosen for rule in each.get(direction, [])]

    @staticmethod
    def holds(selector: Object, labels: dict[str, str]) -> bool:
        """Say whether labels satisfy a selector with labels and expressions."""
        within = [labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", [])]
        return selects(selector.get("matchLabels", {}), labels) and all(within)

    def lets_in(self, build: str, namespace: str, **labels: str) -> bool:
        """Say whether a pod of a namespace reaches port 3000; the gateway's namespace is called `guardhouse`."""
        labels |= {"kubernetes.io/metadata.name": namespace}
        for rule in self.rules(build, "ingress"):
            for peer in rule["from"]:
                own = "namespaceSelector" not in peer and namespace == "guardhouse"
                if own or ("namespaceSelector" in peer and self.holds(peer["namespaceSelector"], labels)):
                    assert peer.get("podSelector", {}) == {}, "which pods of a namespace is not asked here"
                    return 3000 in {port["port"] for port in rule["ports"]}
        return False

    def looks_up(self, build: str, protocol: str, port: int, *, namespace: str = "", address: str = "") -> bool:
        """Say whether the gateway's pods reach a resolver, in a namespace or at an address."""
        for rule in self.rules(build, "egress"):
            if {"protocol": protocol, "port": port} not in rule["ports"]:
                continue
            for peer in rule.get("to", []):
                named = {"kubernetes.io/metadata.name": namespace}
                if namespace and "namespaceSelector" in peer and self.holds(peer["namespaceSelector"], named):
                    return not peer.get("podSelector")
                if address and peer.get("ipBlock", {}).get("cidr") == f"{address}/32":
                    return True
        return False

    def test_other_tenants_pods_reach_nothing(self, build: str) -> None:
        """Pods of a namespace that no policy admits do not reach the gateway, whatever labels they have."""
        assert not self.lets_in(build, "another-tenant")
        assert not self.lets_in(build, "default", **{"app.kubernetes.io/name": "guardhouse"})
        assert not self.lets_in(build, "kube-system")

    def test_the_chosen_ingress_and_neighbours_reach_the_gateway(self, build: str) -> None:
        """Pods of its own namespace do, and of a namespace that an administrator has labelled."""
        assert self.lets_in(build, "guardhouse")
        assert self.lets_in(build, "ingress-nginx", **{"guardhouse/client": "true"})

    def test_a_component_lets_in_whom_it_brings(self) -> None:
        """The Gateway's and Prometheus' namespaces come in with their components, and not without."""
        for component, namespace in (("gateway", "gateway-system"), ("monitoring", "monitoring")):
            assert self.lets_in(f"base + {component}", namespace)
            assert not self.lets_in("base", namespace)

    @pytest.mark.parametrize("protocol", ["UDP", "TCP"])
    def test_names_are_looked_up_wherever_the_cluster_has_its_dns(self, build: str, protocol: str) -> None:
        """kube-dns, CoreDNS by any labels, OpenShift's on its own port, NodeLocal DNSCache, and Cloud DNS on GKE."""
        assert self.looks_up(build, protocol, 53, namespace="kube-system")
        assert self.looks_up(build, protocol, 5353, namespace="openshift-dns")
        assert self.looks_up(build, protocol, 53, address="169.254.20.10")
        assert self.looks_up(build, protocol, 53, address="169.254.169.254")
        assert not self.looks_up(build, protocol, 53, namespace="another-tenant")


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
    """The addresses of Redis and (in the comment that makes its Secret) of PostgreSQL are their Services' addresses."""
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
