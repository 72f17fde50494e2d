"""Renders the manifests under deploy/ as objects: every overlay, and every component on an overlay that fits."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

__all__ = [
    "BUILDS",
    "BY_HAND",
    "DEPLOY",
    "LAYERS",
    "ROOT",
    "RUNTIME",
    "SEVERAL",
    "SHARED",
    "Object",
    "Workload",
    "config",
    "config_files",
    "gateways",
    "is_custom",
    "kustomize",
    "of_kind",
    "only",
    "refusal",
    "rendered",
    "selects",
    "workloads",
]

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
GATEWAY = {"app.kubernetes.io/name": "guardhouse"}

CUSTOM = ("monitoring.coreos.com/", "keda.sh/", "gateway.networking.k8s.io/", "serving.kserve.io/")

SHARED = ("gateway", "redis", "tracing", "grpc", "keys")
SEVERAL = ("postgres", "bundle-from-object-store", "replicas")
"""The components for several replicas: a shared database, bundles for each pod, and the number of replicas."""
BUILDS: dict[str, tuple[str, ...]] = {
    "base": ("base",),
    **{f"overlays/{name}": (f"overlays/{name}",) for name in ("cpu", "gpu", "canary", "kserve", "dev")},
    **{
        f"base + {name}": ("base", name)
        for name in (
            *("namespace", "monitoring", "metrics-port", *SHARED, "database", "postgres"),
            *("bundle-from-image", "bundle-from-object-store", "bundle-from-shared-claim"),
        )
    },
    "cpu + replicas": ("overlays/cpu", "database", "bundle-from-shared-claim", "replicas"),
    "cpu + HPA": ("overlays/cpu", "monitoring", "database", "bundle-from-image", "autoscaling-hpa"),
    "cpu + KEDA": ("overlays/cpu", "monitoring", "database", "bundle-from-image", "autoscaling-keda"),
    "cpu + all with an HPA": (
        *("overlays/cpu", "namespace", "monitoring", *SHARED),
        *("postgres", "bundle-from-image", "autoscaling-hpa"),
    ),
    "gpu + all with KEDA": (
        *("overlays/gpu", "namespace", "monitoring", *SHARED),
        *("postgres", "bundle-from-object-store", "autoscaling-keda"),
    ),
    "canary + image": ("overlays/canary", "bundle-from-image"),
    "canary + object store": ("overlays/canary", "bundle-from-object-store"),
    "canary + all": (
        *("overlays/canary", "metrics-port", "redis", "tracing", "grpc"),
        *("database", "bundle-from-object-store", "autoscaling-hpa"),
    ),
    "kserve + all": ("overlays/cpu", "namespace", "monitoring", *SHARED, *SEVERAL, "kserve"),
    "kserve + image": ("overlays/gpu", "bundle-from-image", "kserve"),
}
"""The builds by name: first the folder of an overlay, then the names of components."""
LAYERS = ("overlays/canary/candidate", "components/kserve/predictor", "checks/deployment")
"""Folders that are parts of other folders, and cannot be deployed alone."""
RUNTIME = DEPLOY / "kserve" / "clusterservingruntime.yaml"
BY_HAND = (DEPLOY / "loader.yaml", DEPLOY / "kserve" / "inferenceservice.yaml", RUNTIME)
"""Files of objects that a user applies by hand, beside a build."""


def kustomize(folder: Path) -> list[Object]:
    """Render a folder with kustomize; a warning, such as for a deprecated field, is an error."""
    done = _kustomize(folder)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return list(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))


def refusal(overlay: str, *components: str) -> str:
    """Return the error of kustomize for components that do not go together; empty if kustomize builds them."""
    with tempfile.TemporaryDirectory() as folder:
        done = _kustomize(_written(Path(folder).resolve(), overlay, *components))
    return done.stderr if done.returncode else ""


@cache
def rendered(build: str) -> list[Object]:
    """Render one of BUILDS, once, in the namespace `guardhouse`."""
    with tempfile.TemporaryDirectory() as folder:
        return kustomize(_written(Path(folder).resolve(), *BUILDS[build]))


def _kustomize(folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)


def _written(place: Path, overlay: str, *components: str) -> Path:
    paths = [os.path.relpath(DEPLOY / "components" / name, place) for name in components]
    resources = [os.path.relpath(DEPLOY / overlay, place)]
    content = {"namespace": "guardhouse", "resources": resources, "components": paths}
    (place / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return place


@dataclass(frozen=True, slots=True)
class Workload:
    """An object that makes pods: its kind and name, and the labels and the spec of its pods."""

    owner: Object
    labels: dict[str, str]
    spec: Object

    @property
    def name(self) -> str:
        """The name of the object."""
        return str(self.owner["metadata"]["name"])

    @property
    def container(self) -> Object:
        """The only container of the pods."""
        (container,) = self.spec["containers"]
        return container

    @property
    def containers(self) -> list[Object]:
        """Every container of the pods, with the init containers."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


def workloads(objects: list[Object]) -> Iterator[Workload]:
    """Find all objects that make pods."""
    for each in objects:
        if each["kind"] in {"Deployment", "StatefulSet"}:
            template = each["spec"]["template"]
            yield Workload(each, template["metadata"]["labels"], template["spec"])
        elif each["kind"] == "InferenceService" and each["spec"]["predictor"].get("labels"):
            yield Workload(each, each["spec"]["predictor"]["labels"], each["spec"]["predictor"])
        elif each["kind"] == "Pod":
            yield Workload(each, each["metadata"].get("labels", {}), each["spec"])


def gateways(objects: list[Object]) -> list[Workload]:
    """Find the objects that make the gateway's own pods."""
    return [each for each in workloads(objects) if selects(GATEWAY, each.labels)]


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """Tell whether labels satisfy a selector."""
    return selector.items() <= labels.items()


def is_custom(each: Object) -> bool:
    """Tell whether an object is of a kind that an operator defines."""
    return str(each["apiVersion"]).startswith(CUSTOM)


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Find the objects of a kind."""
    return [each for each in objects if each["kind"] == kind]


def only(objects: list[Object], kind: str) -> Object:
    """Find the only object of a kind."""
    (found,) = of_kind(objects, kind)
    return found


def config_files(objects: list[Object], workload: Workload) -> dict[str, str]:
    """Return the files of the ConfigMap that a gateway's pods mount."""
    (name,) = (volume["configMap"]["name"] for volume in workload.spec["volumes"] if "configMap" in volume)
    (found,) = (each for each in of_kind(objects, "ConfigMap") if each["metadata"]["name"] == name)
    files: dict[str, str] = found["data"]
    return files


def config(objects: list[Object], workload: Workload) -> Object:
    """Return the config that a gateway's pods serve by."""
    loaded: Object = yaml.safe_load(config_files(objects, workload)["gateway.yaml"])
    return loaded
