"""A real kube-apiserver accepts every build by strict server-side apply, and admits every pod under `restricted`."""

import copy
from collections.abc import Iterator

import pytest
import yaml
from api_server import ApiServer, kubebuilder_assets
from manifests import BUILDS, DEPLOY, ROOT, Object, Workload, gateways, kustomize, rendered, workloads

ASSETS = kubebuilder_assets()
CUSTOM = {
    "PodMonitor": ("monitoring.coreos.com", "v1"),
    "PrometheusRule": ("monitoring.coreos.com", "v1"),
    "ScaledObject": ("keda.sh", "v1alpha1"),
    "HTTPRoute": ("gateway.networking.k8s.io", "v1"),
    "InferenceService": ("serving.kserve.io", "v1beta1"),
}

pytestmark = pytest.mark.skipif(
    ASSETS is None, reason="KUBEBUILDER_ASSETS names no folder with an etcd and a kube-apiserver"
)


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    assert ASSETS is not None
    running = ApiServer(ASSETS)
    try:
        applied = running.kubectl("apply", "--server-side", objects=[definition(kind) for kind in CUSTOM])
        assert applied.returncode == 0, applied.stderr
        names = [f"crd/{definition(kind)['metadata']['name']}" for kind in CUSTOM]
        waited = running.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
        assert waited.returncode == 0, waited.stderr
        yield running
    finally:
        running.stop()


@pytest.fixture
def bare_server() -> Iterator[ApiServer]:
    assert ASSETS is not None
    running = ApiServer(ASSETS)
    yield running
    running.stop()


def definition(kind: str) -> Object:
    """Define a custom resource that takes anything: its fields are checked against its own schema in test_manifests."""
    group, version = CUSTOM[kind]
    plural = f"{kind.lower()}s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                }
            ],
        },
    }


def in_namespace(name: str, objects: list[Object]) -> list[Object]:
    """Copy a build into a namespace of its own, so that no build finds what another has left; make it if need be."""
    objects = copy.deepcopy(objects)
    if not any(each["kind"] == "Namespace" for each in objects):
        (made,) = (each for each in rendered("base + namespace") if each["kind"] == "Namespace")
        objects.insert(0, copy.deepcopy(made))
    for each in objects:
        if each["kind"] == "Namespace":
            each["metadata"]["name"] = name
        else:
            each["metadata"]["namespace"] = name
    return objects


def pod(workload: Workload, namespace: str) -> Object:
    """Make the pod that a controller would make."""
    spec = {key: value for key, value in workload.spec.items() if key not in KSERVES_OWN}
    for claim in workload.owner["spec"].get("volumeClaimTemplates", []):
        source = {"claimName": f"{claim['metadata']['name']}-{workload.name}-0"}
        spec = spec | {
            "volumes": [*spec["volumes"], {"name": claim["metadata"]["name"], "persistentVolumeClaim": source}]
        }
    metadata = {"name": f"{workload.name}-0", "namespace": namespace, "labels": workload.labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


KSERVES_OWN = {"labels", "annotations", "minReplicas", "maxReplicas", "deploymentStrategy"}


@pytest.mark.parametrize("build", BUILDS)
def test_the_server_takes_every_object(server: ApiServer, build: str) -> None:
    """A strict server-side apply of the build succeeds, says nothing of Pod Security, and every pod is admitted."""
    name = f"build-{list(BUILDS).index(build)}"
    objects = in_namespace(name, rendered(build))
    applied = server.kubectl("apply", "--server-side", "--validate=strict", objects=objects)
    assert applied.returncode == 0, applied.stderr
    assert "PodSecurity" not in applied.stderr
    again = server.kubectl("apply", "--server-side", "--validate=strict", objects=objects)
    assert again.returncode == 0, again.stderr
    pods = [pod(workload, name) for workload in workloads(objects)]
    loader = yaml.safe_load((DEPLOY / "loader.yaml").read_text())
    loader["metadata"]["namespace"] = name
    pods.append(loader)
    admitted = server.kubectl("create", "--dry-run=server", "--validate=strict", objects=pods)
    assert admitted.returncode == 0, admitted.stderr


def test_the_example_needs_no_operator(bare_server: ApiServer) -> None:
    """The first command of the page that says how to deploy succeeds on a cluster that has no custom resource."""
    applied = bare_server.kubectl("apply", "-k", str(ROOT / "examples" / "digits"))
    assert applied.returncode == 0, applied.stderr
    assert len(applied.stdout.splitlines()) == len(kustomize(ROOT / "examples" / "digits"))


def test_the_server_refuses_a_privileged_pod(server: ApiServer) -> None:
    """The namespace admits restricted pods alone: the same pod as root is refused."""
    objects = in_namespace("refusing", rendered("base"))
    assert server.kubectl("apply", "--server-side", objects=objects).returncode == 0
    (workload,) = gateways(objects)
    rooted = pod(workload, "refusing")
    rooted["spec"]["securityContext"] = {}
    refused = server.kubectl("create", "--dry-run=server", objects=[rooted])
    assert refused.returncode != 0
    assert 'violates PodSecurity "restricted' in refused.stderr
