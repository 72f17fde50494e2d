"""The manifests under deploy/ as objects: every overlay, and every component on one where it makes sense."""

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
    "DEPLOY",
    "LAYERS",
    "ROOT",
    "Object",
    "Workload",
    "config",
    "config_files",
    "gateways",
    "kustomize",
    "of_kind",
    "only",
    "rendered",
    "selects",
    "workloads",
]

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
GATEWAY = {"app.kubernetes.io/name": "guardhouse"}

SHARED = ("gateway", "redis", "postgres", "tracing", "grpc")
BUILDS: dict[str, tuple[str, ...]] = {
    "base": ("base",),
    **{f"overlays/{name}": (f"overlays/{name}",) for name in ("cpu", "gpu", "canary", "kserve", "dev")},
    "base + monitoring": ("base", "monitoring"),
    **{
        f"cpu + {name}": ("overlays/cpu", name)
        for name in (
            *("autoscaling-hpa", "autoscaling-keda", *SHARED, "database"),
            *("bundle-from-image", "bundle-from-object-store"),
        )
    },
    "cpu + all with an HPA": ("overlays/cpu", "autoscaling-hpa", *SHARED, "bundle-from-image"),
    "gpu + all with KEDA": ("overlays/gpu", "autoscaling-keda", *SHARED, "bundle-from-object-store"),
    "canary + all": (
        "overlays/canary",
        "autoscaling-hpa",
        "redis",
        "database",
        "tracing",
        "grpc",
        "bundle-from-object-store",
    ),
}
"""What is built, and of which folders: an overlay first, then names of components."""
LAYERS = ("overlays/canary/candidate", "overlays/kserve/predictor")
"""Folders that are parts of an overlay and no deployment of their own."""


def kustomize(folder: Path) -> list[Object]:
    """Render a folder; a warning, such as of a deprecated field, is an error."""
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return list(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))


@cache
def rendered(build: str) -> list[Object]:
    """Render one of BUILDS, once."""
    overlay, *components = BUILDS[build]
    if not components:
        return kustomize(DEPLOY / overlay)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        paths = [os.path.relpath(DEPLOY / "components" / name, place) for name in components]
        (place / "kustomization.yaml").write_text(
            yaml.safe_dump(
                {
                    "namespace": "guardhouse",
                    "resources": [os.path.relpath(DEPLOY / overlay, place)],
                    "components": paths,
                }
            )
        )
        return kustomize(place)


@dataclass(frozen=True, slots=True)
class Workload:
    """What makes pods: its kind and name, the pods' labels and their spec."""

    owner: Object
    labels: dict[str, str]
    spec: Object

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.owner["metadata"]["name"])

    @property
    def container(self) -> Object:
        """Its only container."""
        (container,) = self.spec["containers"]
        return container

    @property
    def containers(self) -> list[Object]:
        """Every container, those that run first included."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


def workloads(objects: list[Object]) -> Iterator[Workload]:
    """Find everything that makes pods."""
    for each in objects:
        if each["kind"] in {"Deployment", "StatefulSet"}:
            template = each["spec"]["template"]
            yield Workload(each, template["metadata"]["labels"], template["spec"])
        elif each["kind"] == "InferenceService" and each["spec"]["predictor"].get("labels"):
            yield Workload(each, each["spec"]["predictor"]["labels"], each["spec"]["predictor"])
        elif each["kind"] == "Pod":
            yield Workload(each, each["metadata"].get("labels", {}), each["spec"])


def gateways(objects: list[Object]) -> list[Workload]:
    """Find what makes the gateway's own pods."""
    return [each for each in workloads(objects) if selects(GATEWAY, each.labels)]


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """Say whether labels satisfy a selector."""
    return selector.items() <= labels.items()


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
    """Return the config that a gateway serves by."""
    loaded: Object = yaml.safe_load(config_files(objects, workload)["gateway.yaml"])
    return loaded
