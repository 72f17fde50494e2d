"""What the manifests under deploy/ promise to Kubernetes, to Prometheus and to whoever edits them."""

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from guards.config import differences, parse

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FOLDERS = ("base", "overlays/cpu", "overlays/gpu")
CRDS = Path(os.environ.get("GUARDHOUSE_CRDS", ROOT.parent / "shared" / "crds"))
KUBERNETES_VALIDATE = Path(sys.executable).parent / "kubernetes-validate"
KUBERNETES = "1.33.0"
MARGIN_SECONDS = 10
GROUP_OF_CUSTOM_RESOURCES = "monitoring.coreos.com/"

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl, which renders the manifests, is absent"
)


def kustomize(folder: Path) -> list[Object]:
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, f"a warning, such as of a deprecated field: {done.stderr}"
    return list(yaml.safe_load_all(done.stdout))


rendered = cache(kustomize)


def only(objects: list[Object], kind: str) -> Object:
    (found,) = (each for each in objects if each["kind"] == kind)
    return found


def pod(objects: list[Object]) -> Object:
    return only(objects, "Deployment")["spec"]["template"]["spec"]


def gateway(objects: list[Object]) -> Object:
    (container,) = pod(objects)["containers"]
    return container


def config_files(objects: list[Object]) -> dict[str, str]:
    """Return the files of the ConfigMap that the pod mounts."""
    (name,) = (volume["configMap"]["name"] for volume in pod(objects)["volumes"] if "configMap" in volume)
    generated = only(objects, "ConfigMap")
    assert generated["metadata"]["name"] == name
    return generated["data"]


def config(objects: list[Object]) -> Object:
    return yaml.safe_load(config_files(objects)["gateway.yaml"])


def kubernetes_accepts(path: Path) -> None:
    command = [KUBERNETES_VALIDATE, "--strict", "-k", KUBERNETES, path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "WARN" not in said, said


@pytest.fixture(params=FOLDERS)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return rendered(DEPLOY / request.param)


@pytest.fixture
def own_model(tmp_path: Path) -> Path:
    """Return the folder of a user's model, beside a copy of deploy/, with the kustomization that the README gives."""
    (example,) = re.findall(r"```yaml\n(.*?)```", (DEPLOY / "README.md").read_text(), flags=re.DOTALL)
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    folder = tmp_path / "models" / "fraud"
    folder.mkdir(parents=True)
    (folder / "kustomization.yaml").write_text(example)
    (folder / "gateway.yaml").write_text("name: fraud\n")
    (folder / "model.py").write_text("# theirs\n")
    return folder


def test_every_overlay_is_tested() -> None:
    """An overlay that is not among the ones rendered here would be checked by nobody."""
    assert {str(path.parent.relative_to(DEPLOY)) for path in DEPLOY.rglob("kustomization.yaml")} == set(FOLDERS)


def test_kubernetes_knows_every_field(objects: list[Object], tmp_path: Path) -> None:
    """Every core object passes the strict schema of its kind, where a misspelt field is an error."""
    core = [each for each in objects if not each["apiVersion"].startswith(GROUP_OF_CUSTOM_RESOURCES)]
    path = tmp_path / "core.yaml"
    path.write_text(yaml.safe_dump_all(core))
    kubernetes_accepts(path)


def test_kubernetes_knows_every_field_of_the_loader() -> None:
    """The pod that is applied by hand passes the strict schema too."""
    kubernetes_accepts(DEPLOY / "loader.yaml")


def test_prometheus_operator_knows_every_field(objects: list[Object]) -> None:
    """The PodMonitor passes the schema of the operator's custom resource."""
    path = CRDS / "podmonitor_v1.json"
    if not path.is_file():
        pytest.skip("no podmonitor_v1.json: name the folder of custom resource schemas in GUARDHOUSE_CRDS")
    jsonschema.validate(only(objects, "PodMonitor"), json.loads(path.read_text()))


def test_namespace_enforces_the_restricted_profile(objects: list[Object]) -> None:
    """Everything lives in one namespace, which admits restricted pods alone."""
    namespace = only(objects, "Namespace")["metadata"]
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [each for each in objects if each["kind"] != "Namespace"]
    assert {each["metadata"]["namespace"] for each in others} == {namespace["name"]} == {"guardhouse"}


def test_selectors_match_the_pods(objects: list[Object]) -> None:
    """Deployment, Service and PodMonitor select exactly the pods of the template."""
    deployment = only(objects, "Deployment")["spec"]
    selectors = [
        deployment["selector"]["matchLabels"],
        only(objects, "Service")["spec"]["selector"],
        only(objects, "PodMonitor")["spec"]["selector"]["matchLabels"],
    ]
    assert all(selector == deployment["template"]["metadata"]["labels"] for selector in selectors)


def test_every_port_is_the_containers(objects: list[Object]) -> None:
    """Probes, Service and PodMonitor name the one port that the container declares and the command listens on."""
    container = gateway(objects)
    (declared,) = container["ports"]
    (served,) = only(objects, "Service")["spec"]["ports"]
    (scraped,) = only(objects, "PodMonitor")["spec"]["podMetricsEndpoints"]
    probes = [container[f"{probe}Probe"]["httpGet"]["port"] for probe in ("startup", "readiness", "liveness")]
    assert {*probes, served["targetPort"], scraped["port"]} == {declared["name"]} == {"http"}
    assert container["command"] == ["guardhouse", "serve", "/bundle", "--port", str(declared["containerPort"])]
    assert (served["port"], scraped["path"]) == (80, "/metrics")


def test_probes_ask_the_right_question(objects: list[Object]) -> None:
    """Loading and draining are questions of readiness, and only a dead process is restarted."""
    container = gateway(objects)
    paths = {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"}
    startup = container["startupProbe"]
    budget = startup["periodSeconds"] * startup["failureThreshold"]
    assert 300 <= budget < only(objects, "Deployment")["spec"]["progressDeadlineSeconds"]


def test_requests_in_flight_outlive_a_rollout(objects: list[Object]) -> None:
    """The grace period covers the preStop pause, the longest request the config admits, and a margin."""
    pause = gateway(objects)["lifecycle"]["preStop"]["sleep"]["seconds"]
    longest = parse(config(objects)).server.timeout_seconds
    assert pod(objects)["terminationGracePeriodSeconds"] >= pause + longest + MARGIN_SECONDS


def test_a_rollout_keeps_serving(objects: list[Object]) -> None:
    """With a node's room to spare no replica is missing; on scarce GPUs one of several is, and none is added."""
    deployment = only(objects, "Deployment")["spec"]
    on_gpu = "nvidia.com/gpu" in gateway(objects)["resources"]["limits"]
    wanted = {"maxSurge": 0, "maxUnavailable": 1} if on_gpu else {"maxSurge": 1, "maxUnavailable": 0}
    assert deployment["strategy"]["rollingUpdate"] == wanted
    assert deployment["replicas"] > wanted["maxUnavailable"]


def test_the_process_owns_nothing(objects: list[Object]) -> None:
    """The container is an unprivileged number on a read-only disk, without capabilities and without a token."""
    spec, container = pod(objects), gateway(objects)
    identity = spec["securityContext"]
    assert [identity[key] for key in ("runAsUser", "runAsGroup", "fsGroup")] == [10001] * 3
    assert identity["runAsNonRoot"] is True
    assert identity["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    account = only(objects, "ServiceAccount")
    assert spec["serviceAccountName"] == account["metadata"]["name"]
    assert spec["automountServiceAccountToken"] is account["automountServiceAccountToken"] is False


def test_only_scratch_and_state_are_writable(objects: list[Object]) -> None:
    """The bundle and the config are mounted to read; the homes and the server's own files are in an emptyDir each."""
    container = gateway(objects)
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(objects)["volumes"]}
    writable = {path for path, mount in mounts.items() if not mount.get("readOnly")}
    assert (
        writable
        == {path for path, mount in mounts.items() if "emptyDir" in volumes[mount["name"]]}
        == {
            "/state",
            "/tmp",  # noqa: S108
        }
    )
    variables = {each["name"]: each.get("value") for each in container["env"]}
    for home in ("HOME", "BENTOML_HOME"):
        assert Path(variables[home]).is_relative_to("/tmp")  # noqa: S108
    assert variables["GUARDHOUSE_STATE"] == "/state"
    assert mounts.keys() >= {variables["GUARDHOUSE_BUNDLE"], str(Path(variables["GUARDHOUSE_CONFIG"]).parent)}
    claim = volumes[mounts["/bundle"]["name"]]["persistentVolumeClaim"]
    assert claim == {"claimName": only(objects, "PersistentVolumeClaim")["metadata"]["name"], "readOnly": True}


def test_kubernetes_adds_no_variables_of_ours(objects: list[Object]) -> None:
    """Service links would set GUARDHOUSE_PORT and others like it, which the gateway might take for settings."""
    assert pod(objects)["enableServiceLinks"] is False


def test_memory_is_capped_and_cpu_is_not(objects: list[Object]) -> None:
    """Memory asked for is memory had, no CPU limit throttles, and the thread count is the CPU request."""
    container = gateway(objects)
    asked, limits = container["resources"]["requests"], container["resources"]["limits"]
    assert asked["memory"] == limits["memory"]
    assert "cpu" in asked
    assert "cpu" not in limits
    (threads,) = (each for each in container["env"] if each["name"] == "OMP_NUM_THREADS")
    assert threads["valueFrom"] == {"resourceFieldRef": {"resource": "requests.cpu"}}


def test_the_builder_travels_with_the_config(objects: list[Object]) -> None:
    """The module that model.builder names lies in the config's own folder, where the gateway can import it."""
    module, _, function = config(objects)["model"]["builder"].partition(":")
    assert f"def {function}(" in config_files(objects)[f"{module}.py"]


@pytest.mark.parametrize("name", ["gateway.yaml", "model.py"])
def test_the_base_serves_the_digits_example(name: str) -> None:
    """The base holds unchanged copies of the example's files, because kustomize reads nothing outside its root."""
    example, base = ROOT / "examples" / "digits" / name, DEPLOY / "base" / name
    assert base.read_text() == example.read_text(), f"cp examples/digits/{name} deploy/base/{name}"


def test_the_gpu_overlay_insists_on_its_gpu() -> None:
    """One GPU a pod, a toleration for its taint, and the base's config, `device: cuda` apart."""
    base, gpu = rendered(DEPLOY / "base"), rendered(DEPLOY / "overlays" / "gpu")
    assert gateway(gpu)["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod(gpu)["tolerations"]
    wanted = config(base)
    wanted["model"]["device"] = "cuda"
    assert config(gpu) == wanted
    assert not differences(parse(config(base)), parse(config(gpu))), "the digits bundle would be refused"


def test_an_overlay_brings_its_own_model(own_model: Path) -> None:
    """The kustomization in the README, put beside a user's model, deploys that model and no file of the example."""
    objects = kustomize(own_model)
    assert config_files(objects) == {"gateway.yaml": "name: fraud\n", "model.py": "# theirs\n"}
    assert only(objects, "Namespace")["metadata"]["name"] == "fraud"
    assert {each["metadata"]["namespace"] for each in objects if each["kind"] != "Namespace"} == {"fraud"}
    assert only(objects, "Deployment")["spec"]["replicas"] == 3


def test_the_loader_fills_the_claim_that_the_gateway_reads(objects: list[Object]) -> None:
    """The loader writes as the gateway's user into the gateway's claim."""
    loader = yaml.safe_load((DEPLOY / "loader.yaml").read_text())["spec"]
    (claim,) = (volume["persistentVolumeClaim"]["claimName"] for volume in loader["volumes"])
    assert claim == only(objects, "PersistentVolumeClaim")["metadata"]["name"]
    ids = ("runAsUser", "runAsGroup", "fsGroup")
    assert [loader["securityContext"][key] for key in ids] == [pod(objects)["securityContext"][key] for key in ids]
