"""The Helm chart makes the same objects as kustomize makes of the base with the same values."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import DEPLOY, ROOT, Object, kustomize, of_kind, only

HELM = os.environ.get("GUARDHOUSE_HELM") or shutil.which("helm")
CHART = DEPLOY / "chart"
DIGEST = f"registry.example/guardhouse@sha256:{64 * '0'}"
RESOURCES = {
    "requests": {"cpu": "2", "memory": "4Gi", "ephemeral-storage": "1Gi"},
    "limits": {"memory": "4Gi", "ephemeral-storage": "4Gi"},
}
CONFIG = {
    "gateway.yaml": 'name: fraud\nmodel: {classes: ["<=50K", ">50K"]}\n',
    "model.py": "# theirs: {{ no template }}\n",
}
VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "another bundle by digest": {"image": DIGEST, "bundle": "sha256-0123456789ab"},
    "another model": {
        "config": CONFIG,
        "resources": RESOURCES,
        "storageClass": "fast",
        "metricsPort": 9100,
        "bundle": "sha256-ba9876543210",
    },
}

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl, which renders the manifests, is absent"
)


def by_helm(folder: Path, values: dict[str, Any]) -> list[Object]:
    """Render the chart with values."""
    assert HELM is not None
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    done = subprocess.run(
        [HELM, "template", "any-release", CHART, "--values", folder / "values.yaml"],
        env={"PATH": os.environ["PATH"], "HOME": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def by_kustomize(folder: Path, values: dict[str, Any]) -> list[Object]:
    """Render the base with what the values say, as a user's file says it."""
    content: dict[str, Any] = {"resources": [os.path.relpath(DEPLOY / "base", folder)], "patches": []}
    if "image" in values:
        name, _, digest = values["image"].partition("@")
        content["images"] = [{"name": "guardhouse", "newName": name, "digest": digest}]
    content["configMapGenerator"] = []
    if "bundle" in values:
        literals = [f"name={values['bundle']}"]
        content["configMapGenerator"] += [{"name": "guardhouse-bundle", "behavior": "replace", "literals": literals}]
    if "config" in values:
        for name, text in values["config"].items():
            (folder / name).write_text(text)
        files = list(values["config"])
        content["configMapGenerator"] += [{"name": "guardhouse-config", "behavior": "replace", "files": files}]
    if "resources" in values:
        path = "/spec/template/spec/containers/0/resources"
        patch = json.dumps([{"op": "replace", "path": path, "value": values["resources"]}])
        content["patches"] += [{"target": {"kind": "Deployment"}, "patch": patch}]
    if "metricsPort" in values:
        value = {"name": "metrics", "containerPort": values["metricsPort"]}
        patch = json.dumps([{"op": "add", "path": "/spec/template/spec/containers/0/ports/-", "value": value}])
        content["patches"] += [{"target": {"kind": "Deployment"}, "patch": patch}]
    if "storageClass" in values:
        patch = json.dumps([{"op": "add", "path": "/spec/storageClassName", "value": values["storageClass"]}])
        content["patches"] += [{"target": {"kind": "PersistentVolumeClaim"}, "patch": patch}]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return kustomize(folder)


def comparable(objects: list[Object]) -> list[Object]:
    """Sort objects, and leave the hashes out of ConfigMaps' names: each tool has a hash of its own."""
    text = re.sub(r"guardhouse-(bundle|config)-[a-z0-9]{10}\b", r"guardhouse-\1-HASH", json.dumps(objects))
    found: list[Object] = json.loads(text)
    return sorted(found, key=lambda each: (each["kind"], each["metadata"]["name"]))


def test_the_chart_is_current(tmp_path: Path) -> None:
    """Template and values are what `make chart` writes of deploy/base."""
    shutil.copytree(DEPLOY / "base", tmp_path / "deploy" / "base")
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "helm_chart.py", tmp_path / "tools")
    subprocess.run([sys.executable, "tools/helm_chart.py"], cwd=tmp_path, check=True, capture_output=True)
    for name in ("templates/guardhouse.yaml", "values.yaml"):
        assert (tmp_path / "deploy" / "chart" / name).read_text() == (CHART / name).read_text(), "run `make chart`"


@pytest.mark.skipif(HELM is None, reason="no helm: name one in GUARDHOUSE_HELM")
@pytest.mark.parametrize("name", VALUES)
def test_helm_renders_what_kustomize_renders(name: str, tmp_path: Path) -> None:
    """By whichever tool, the same values give the same objects under the same names."""
    for folder in ("helm", "kustomize"):
        (tmp_path / folder).mkdir()
    helm, plain = by_helm(tmp_path / "helm", VALUES[name]), by_kustomize(tmp_path / "kustomize", VALUES[name])
    assert comparable(helm) == comparable(plain)


@pytest.mark.skipif(HELM is None, reason="no helm: name one in GUARDHOUSE_HELM")
def test_another_value_rolls_the_pods(tmp_path: Path) -> None:
    """Another bundle or config is another pod template, which names ConfigMaps that are in the release."""
    seen = []
    for values in ({}, {"bundle": "sha256-0123456789ab"}, {"config": {"gateway.yaml": "name: fraud\n"}}):
        objects = by_helm(tmp_path, values)
        pod = only(objects, "Deployment")["spec"]["template"]["spec"]
        maps = {each["metadata"]["name"] for each in of_kind(objects, "ConfigMap")}
        assert {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume} <= maps
        named = {each["valueFrom"]["configMapKeyRef"]["name"] for each in pod["containers"][0]["env"][:1]}
        assert named <= maps
        seen.append(json.dumps(pod))
    assert len(set(seen)) == 3
