"""KServe: the Deployment as an InferenceService, and a runtime for bundles that KServe fetches."""

import os
import shutil
from pathlib import Path

import pytest
import yaml
from kubernetes_validate import validate
from manifests import DEPLOY, RUNTIME, SEVERAL, SHARED, gateways, kustomize, of_kind, only, refusal, rendered

from guards.config.config import parse

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl, which renders the manifests, is absent"
)


@pytest.mark.parametrize(
    ("build", "like"),
    [("overlays/kserve", ("base",)), ("kserve + all", ("overlays/cpu", *SHARED, *SEVERAL))],
)
def test_kserve_gets_the_deployments_pod(build: str, like: tuple[str, ...], tmp_path: Path) -> None:
    """The predictor is the Deployment as every component before has left it, and nothing makes pods beside it."""
    objects = rendered(build)
    components = [os.path.relpath(DEPLOY / "components" / name, tmp_path) for name in like[1:]]
    content = {"namespace": "guardhouse", "resources": [os.path.relpath(DEPLOY / like[0], tmp_path)]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(content | {"components": components}))
    ((plain,), (predictor,)) = gateways(kustomize(tmp_path)), gateways(objects)
    assert predictor.owner["kind"] == "InferenceService"
    container = {key: value for key, value in predictor.container.items() if key != "resources"}
    wanted = {key: value for key, value in plain.container.items() if key != "resources"}
    assert container == wanted | {"name": "kserve-container"}
    assert predictor.container["resources"]["requests"] == plain.container["resources"]["requests"]
    assert predictor.spec.items() >= {key: plain.spec[key] for key in plain.spec if key != "containers"}.items()
    spec, deployment = predictor.owner["spec"]["predictor"], plain.owner["spec"]
    assert spec["minReplicas"] == spec["maxReplicas"] == deployment["replicas"]
    assert spec["deploymentStrategy"] == deployment["strategy"]
    assert spec["labels"] == plain.labels
    # With another class KServe makes an autoscaler of its own, or leaves minReplicas alone.
    assert predictor.owner["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "none"
    assert not [each for each in of_kind(objects, "Deployment") if each["metadata"]["name"] == "guardhouse"]
    assert not [each for each in of_kind(objects, "Service") if each["metadata"]["name"] == "guardhouse"]


def test_a_route_leads_to_kserves_service() -> None:
    """With KServe the public route leads to the Service that KServe makes of the InferenceService."""
    (rule,) = only(rendered("kserve + all"), "HTTPRoute")["spec"]["rules"]
    name = only(rendered("kserve + all"), "InferenceService")["metadata"]["name"]
    assert [each["name"] for each in rule["backendRefs"]] == [f"{name}-predictor"]


COMPONENTS = {path.name for path in (DEPLOY / "components").iterdir()}
BESIDE_THE_POD = {"namespace", "monitoring"}
"""Components that change no pod, and so may stand anywhere."""


@pytest.mark.parametrize("name", sorted(COMPONENTS - BESIDE_THE_POD - {"kserve"}))
def test_a_component_that_reaches_no_pod_is_refused(name: str) -> None:
    """After KServe has removed the Deployment, a component that patches it fails to build, with the way out."""
    assert "this-component-goes-before-kserve" in refusal("overlays/kserve", name)


@pytest.mark.parametrize("name", ["autoscaling-hpa", "autoscaling-keda"])
def test_an_autoscaler_of_a_deployment_does_not_fit_kserve(name: str) -> None:
    """An autoscaler whose Deployment KServe's component then takes away fails to build."""
    assert "spec.replicas" in refusal("base", "database", "bundle-from-image", name, "kserve")


# The runtime


def test_the_runtime_serves_what_the_storage_initializer_has_put_there() -> None:
    """The runtime serves KServe's folder for models on its own port, as the pods of the base do."""
    spec = yaml.safe_load(RUNTIME.read_text())["spec"]
    ((plain,),) = (gateways(rendered("base")),)
    (container,) = spec["containers"]
    assert container["name"] == "kserve-container"
    variables = {each["name"]: each for each in container["env"]}
    assert variables["GUARDHOUSE_BUNDLE"]["value"] == "/mnt/models"
    port = container["ports"][0]["containerPort"]
    assert container["command"] == [
        *("guardhouse", "serve", "$(GUARDHOUSE_BUNDLE)"),
        *("--host", "0.0.0.0", "--port", str(port), "--open"),  # noqa: S104
    ]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == port
        assert container[probe]["httpGet"]["path"] == plain.container[probe]["httpGet"]["path"]
    assert container["lifecycle"] == plain.container["lifecycle"]
    shared = {"GUARDHOUSE_STATE", "HOME", "BENTOML_HOME", "OMP_NUM_THREADS"}
    assert variables.keys() == shared | {"GUARDHOUSE_BUNDLE"}
    assert [variables[each["name"]] for each in plain.container["env"] if each["name"] in shared] == [
        each for each in plain.container["env"] if each["name"] in shared
    ]
    writable = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert writable == {"/state", "/tmp"}  # noqa: S108 - the container's
    assert spec["annotations"]["prometheus.kserve.io/port"] == str(port)


def test_the_runtimes_pod_is_admitted() -> None:
    """The pod that KServe makes of the runtime passes the strict schema, and is unprivileged by its container alone.

    A runtime has no security context for the pod; KServe gives the container's to the storage initializer too.
    """
    spec = yaml.safe_load(RUNTIME.read_text())["spec"]
    pod = {key: spec[key] for key in ("containers", "volumes")}
    metadata = {"name": "pod", "annotations": spec["annotations"]}
    assert validate({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}, "1.33.0", strict=True)
    ((plain,),) = (gateways(rendered("base")),)
    identity = {key: value for key, value in plain.spec["securityContext"].items() if not key.startswith("fsGroup")}
    assert spec["containers"][0]["securityContext"] == identity | plain.container["securityContext"]


def test_the_example_finds_the_runtime() -> None:
    """The example asks for a format and a protocol that the runtime has, keeps its replicas, has its model's name."""
    spec = yaml.safe_load(RUNTIME.read_text())["spec"]
    example = yaml.safe_load((RUNTIME.parent / "inferenceservice.yaml").read_text())
    predictor = example["spec"]["predictor"]
    formats = {each["name"]: each for each in spec["supportedModelFormats"]}
    assert formats[predictor["model"]["modelFormat"]["name"]]["autoSelect"] is True
    assert spec["protocolVersions"] == ["v1", "v2"]
    assert predictor["model"]["protocolVersion"] in spec["protocolVersions"]
    assert example["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "none"
    config = yaml.safe_load((DEPLOY / "base" / "gateway.yaml").read_text())
    assert example["metadata"]["name"] == parse(config).name
    *_, seconds = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    longest = parse(config).server.timeout_seconds
    assert predictor["terminationGracePeriodSeconds"] >= float(seconds) + longest + 20
    assert predictor["enableServiceLinks"] is False
