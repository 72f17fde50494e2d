"""The one file that a user edits: examples/digits/kustomization.yaml, beside a user's own model."""

import re
import shutil
from pathlib import Path

import pytest
from manifests import (
    DEPLOY,
    ROOT,
    Object,
    Workload,
    config_files,
    gateways,
    is_custom,
    kustomize,
    of_kind,
    only,
)

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl, which renders the manifests, is absent"
)


@pytest.fixture
def own_model(tmp_path: Path) -> Path:
    """Return the folder of a user's model, beside a copy of deploy/, with the kustomization of the example."""
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    folder = tmp_path / "models" / "fraud"
    folder.mkdir(parents=True)
    example = (ROOT / "examples" / "digits" / "kustomization.yaml").read_text()
    edited = example.replace("namespace: digits", "namespace: fraud").replace("newTag: 0.1.0", "newTag: 1.2.3")
    edited = edited.replace("name=sha256-000000000000", "name=sha256-0123456789ab")
    (folder / "kustomization.yaml").write_text(edited)
    (folder / "gateway.yaml").write_text("name: fraud\n")
    (folder / "model.py").write_text("# theirs\n")
    return folder


def bundle_names(objects: list[Object], workload: Workload) -> set[str]:
    """Return the names of the bundle in a gateway's containers."""
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind(objects, "ConfigMap")}
    variables = [each for container in workload.containers for each in container.get("env", [])]
    named = [each["valueFrom"]["configMapKeyRef"] for each in variables if each["name"] == "BUNDLE_NAME"]
    return {maps[each["name"]][each["key"]] for each in named}


def test_another_bundle_is_another_revision(own_model: Path) -> None:
    """Another bundle's name changes the pod template: the pods roll, and `kubectl rollout undo` brings the old back."""
    path = own_model / "kustomization.yaml"
    (before,) = gateways(kustomize(own_model))
    path.write_text(path.read_text().replace("sha256-0123456789ab", "sha256-ba9876543210"))
    (after,) = gateways(kustomize(own_model))
    assert before.spec != after.spec
    path.write_text(path.read_text().replace("sha256-ba9876543210", "sha256-0123456789ab"))
    (again,) = gateways(kustomize(own_model))
    assert before.spec == again.spec


def test_one_edited_file_deploys_a_model(own_model: Path) -> None:
    """The example's kustomization, edited beside a user's model, deploys that model and nothing of the example's."""
    path = own_model / "kustomization.yaml"
    wanted = "postgres|bundle-from-object-store|monitoring"
    edited = re.sub(rf"^# (- .*/(?:{wanted})\b)", r"  \1", path.read_text(), flags=re.MULTILINE)
    path.write_text(re.sub(r"^# (- .*autoscaling)-hpa", r"  \1-keda", edited, flags=re.MULTILINE))
    objects = kustomize(own_model)
    (workload,) = gateways(objects)
    assert config_files(objects, workload) == {"gateway.yaml": "name: fraud\n", "model.py": "# theirs\n"}
    assert bundle_names(objects, workload) == {"sha256-0123456789ab"}
    assert workload.container["image"] == "guardhouse:1.2.3"
    assert only(objects, "Namespace")["metadata"]["name"] == "fraud"
    assert {each["metadata"]["namespace"] for each in objects if each["kind"] != "Namespace"} == {"fraud"}
    for trigger in only(objects, "ScaledObject")["spec"]["triggers"]:
        assert 'namespace="fraud"' in trigger["metadata"]["query"]


@pytest.mark.parametrize("overlay", ["overlays/cpu", "overlays/gpu", "overlays/dev", "overlays/kserve"])
def test_any_overlay_takes_a_model(own_model: Path, overlay: str) -> None:
    """The same file on another overlay gives every pod the user's image and config, whatever makes the pods."""
    path = own_model / "kustomization.yaml"
    path.write_text(path.read_text().replace("deploy/base", f"deploy/{overlay}"))
    objects = kustomize(own_model)
    (workload,) = gateways(objects)
    assert bundle_names(objects, workload) == {"sha256-0123456789ab"}
    assert config_files(objects, workload)["gateway.yaml"] == "name: fraud\n"
    assert workload.container["image"] == "guardhouse:1.2.3"
    assert {each["metadata"]["namespace"] for each in objects if each["kind"] != "Namespace"} == {"fraud"}


def test_a_canary_of_a_model(own_model: Path) -> None:
    """On the overlay with a canary the file gives either Deployment a config and a bundle of the user's."""
    (own_model / "next.yaml").write_text("name: fraud # the next one\n")
    path = own_model / "kustomization.yaml"
    canary = (
        "  - {name: guardhouse-canary-config, behavior: replace, files: [gateway.yaml=next.yaml]}\n"
        "  - {name: guardhouse-canary-bundle, behavior: replace, literals: [name=sha256-ba9876543210]}\n"
    )
    edited = path.read_text().replace("deploy/base", "deploy/overlays/canary")
    path.write_text(edited.replace("configMapGenerator:\n", f"configMapGenerator:\n{canary}"))
    objects = kustomize(own_model)
    served = {each.name: config_files(objects, each)["gateway.yaml"] for each in gateways(objects)}
    assert served == {"guardhouse": "name: fraud\n", "guardhouse-canary": "name: fraud # the next one\n"}
    bundles = {each.name: bundle_names(objects, each) for each in gateways(objects)}
    assert bundles == {"guardhouse": {"sha256-0123456789ab"}, "guardhouse-canary": {"sha256-ba9876543210"}}


def test_the_readme_patches_what_it_says(own_model: Path) -> None:
    """The patches in deploy/README.md, put into that file, give the route its host name."""
    (patches,) = re.findall(r"```yaml\n(patches:.*?)```", (DEPLOY / "README.md").read_text(), flags=re.DOTALL)
    path = own_model / "kustomization.yaml"
    edited = re.sub(r"^# (- .*components/gateway)", r"  \1", path.read_text(), flags=re.MULTILINE)
    path.write_text(f"{edited}\n{patches}")
    assert only(kustomize(own_model), "HTTPRoute")["spec"]["hostnames"] == ["fraud.example.com"]


def test_the_readme_names_every_overlay_and_component() -> None:
    """The page that says what deploys what leaves none out."""
    text = (DEPLOY / "README.md").read_text()
    assert all(f"`overlays/{path.name}`" in text for path in (DEPLOY / "overlays").iterdir())
    assert all(f"| `{path.name}` |" in text for path in (DEPLOY / "components").iterdir())


def test_the_example_deploys_itself() -> None:
    """The kustomization in examples/digits builds in place, serves that folder's files, and needs no operator."""
    folder = ROOT / "examples" / "digits"
    objects = kustomize(folder)
    (workload,) = gateways(objects)
    assert config_files(objects, workload)["gateway.yaml"] == (folder / "gateway.yaml").read_text()
    assert only(objects, "Namespace")["metadata"]["name"] == "digits"
    assert not [each for each in objects if is_custom(each)]
