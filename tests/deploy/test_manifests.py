"""What the manifests under deploy/ promise to Kubernetes, and to whoever edits them, in every build."""

import json
import os
import re
import shutil
from functools import cache
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from manifests import (
    BUILDS,
    DEPLOY,
    LAYERS,
    ROOT,
    Object,
    Workload,
    config,
    config_files,
    gateways,
    kustomize,
    of_kind,
    only,
    rendered,
    selects,
    workloads,
)

from guards.config import differences, parse

DATA = Path(os.environ.get("GUARDHOUSE_DATA", ROOT.parent / "shared" / "data"))
CRDS = Path(os.environ.get("GUARDHOUSE_CRDS", DATA.parent / "crds"))
KUBERNETES = "1.33.0"
MARGIN_SECONDS = 20  # until the preStop command is heard on a busy node, and to close connections
CUSTOM = ("monitoring.coreos.com/", "keda.sh/", "gateway.networking.k8s.io/", "serving.kserve.io/")
STANDARD_VARIABLES = {"HOME", "OMP_NUM_THREADS", "BENTOML_HOME", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SERVICE_NAME"}
LOADER = yaml.safe_load((DEPLOY / "loader.yaml").read_text())

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl, which renders the manifests, is absent"
)


@pytest.fixture(params=BUILDS)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return rendered(request.param)


def is_custom(each: Object) -> bool:
    return each["apiVersion"].startswith(CUSTOM)


@cache
def accepted(text: str) -> bool:
    """Validate an object against its kind's schema, once however many builds have it."""
    each = json.loads(text)
    if not is_custom(each):
        return kubernetes_validate.validate(each, KUBERNETES, strict=True) == "1.33"
    path = CRDS / f"{each['kind'].lower()}_{each['apiVersion'].rpartition('/')[2]}.json"
    if not path.is_file():
        pytest.skip(f"no {path.name}: name the folder of schemas in GUARDHOUSE_CRDS")
    # Not jsonschema.validate: one of the schemas has a pattern in Go's syntax, for a key that is not used here.
    jsonschema.Draft202012Validator(json.loads(path.read_text())).validate(each)
    return True


def test_every_folder_is_tested() -> None:
    """An overlay or component that is not among what is rendered here would be checked by nobody."""
    used = {DEPLOY / folder for folder in (*LAYERS, *(folder for folder, *_ in BUILDS.values()))}
    used |= {DEPLOY / "components" / name for _, *names in BUILDS.values() for name in names}
    assert {path.parent for path in DEPLOY.rglob("kustomization.yaml")} == used


def test_kubernetes_knows_every_field(objects: list[Object]) -> None:
    """Every core object passes the strict schema of its kind, where a misspelt field is an error."""
    assert all(accepted(json.dumps(each)) for each in [*objects, LOADER] if not is_custom(each))


def test_operators_know_every_field(objects: list[Object]) -> None:
    """Every custom object passes the schema of its resource."""
    assert all(accepted(json.dumps(each)) for each in objects if is_custom(each))


def test_one_namespace_enforces_the_restricted_profile(objects: list[Object]) -> None:
    """Everything lives in one namespace, which admits restricted pods alone."""
    others = [each for each in objects if each["kind"] != "Namespace"]
    assert {each["metadata"]["namespace"] for each in others} == {"guardhouse"}
    for namespace in of_kind(objects, "Namespace"):
        assert namespace["metadata"]["name"] == "guardhouse"
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_no_object_is_there_twice(objects: list[Object]) -> None:
    """Kind and name are an object's identity: of two the last would win in silence."""
    identities = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(set(identities)) == len(identities)


def test_every_pod_is_unprivileged(objects: list[Object]) -> None:
    """Each container is a number above 0 on a read-only disk, without capabilities, and without a token."""
    for workload in workloads([*objects, LOADER]):
        identity = workload.spec["securityContext"]
        assert identity["runAsNonRoot"] is True
        assert identity["runAsUser"] == identity["runAsGroup"] > 0
        assert identity["seccompProfile"] == {"type": "RuntimeDefault"}
        assert workload.spec["automountServiceAccountToken"] is False
        for container in workload.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_every_image_has_a_version(objects: list[Object]) -> None:
    """No image is `latest`, in words or by having no tag."""
    for workload in workloads([*objects, LOADER]):
        images = [container["image"] for container in workload.containers]
        images += [volume["image"]["reference"] for volume in workload.spec.get("volumes", []) if "image" in volume]
        for image in images:
            _, _, tag = image.rpartition("/")[2].partition(":")
            assert tag
            assert tag != "latest"


def test_memory_is_capped_and_cpu_is_not(objects: list[Object]) -> None:
    """Memory asked for is memory had, and no CPU limit throttles."""
    for workload in workloads([*objects, LOADER]):
        for container in workload.containers:
            asked, limits = container["resources"]["requests"], container["resources"]["limits"]
            assert asked["memory"] == limits["memory"]
            assert "cpu" in asked
            assert "cpu" not in limits


def test_what_a_pod_names_is_there(objects: list[Object]) -> None:
    """Every config, claim and account that a pod names is in the build, and a comment says how to make its Secrets."""
    names = {(each["kind"], each["metadata"]["name"]) for each in objects}
    made_by_hand = "".join(path.read_text() for path in DEPLOY.glob("components/*/kustomization.yaml"))
    for workload in workloads(objects):
        assert ("ServiceAccount", workload.spec["serviceAccountName"]) in names
        secrets = []
        for volume in workload.spec["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in names
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in names
            secrets += [volume["secret"]["secretName"]] if "secret" in volume else []
        for container in workload.containers:
            secrets += [source["secretRef"]["name"] for source in container.get("envFrom", [])]
            for source in (each.get("valueFrom", {}) for each in container.get("env", [])):
                if "configMapKeyRef" in source:
                    assert ("ConfigMap", source["configMapKeyRef"]["name"]) in names
                secrets += [source["secretKeyRef"]["name"]] if "secretKeyRef" in source else []
        for secret in secrets:
            assert f"create secret generic {secret} " in made_by_hand
        mounts = {mount["name"] for container in workload.containers for mount in container["volumeMounts"]}
        assert mounts == {
            *(volume["name"] for volume in workload.spec["volumes"]),
            *(claim["metadata"]["name"] for claim in workload.owner["spec"].get("volumeClaimTemplates", [])),
        }


def test_selectors_match_one_kind_of_pod(objects: list[Object]) -> None:
    """Workloads own their pods, and a Service or a budget selects the pods of exactly one workload."""
    found = list(workloads(objects))
    for workload in found:
        if workload.owner["kind"] != "InferenceService":
            assert workload.owner["spec"]["selector"]["matchLabels"] == workload.labels
    for each in [*of_kind(objects, "Service"), *of_kind(objects, "PodDisruptionBudget")]:
        selector = each["spec"]["selector"]
        (owner,) = (workload for workload in found if selects(selector.get("matchLabels", selector), workload.labels))
        if each["kind"] == "Service":
            assert owner.name == each["metadata"]["name"]
            for port in each["spec"]["ports"]:
                assert port["targetPort"] in {known["name"] for known in owner.container["ports"]}


def test_a_budget_lets_nodes_be_drained(objects: list[Object]) -> None:
    """One replica at a time may be evicted, be there two or one."""
    for budget in of_kind(objects, "PodDisruptionBudget"):
        assert budget["spec"]["maxUnavailable"] == 1
        assert "minAvailable" not in budget["spec"]


def test_replicas_are_spread(objects: list[Object]) -> None:
    """Pods of one workload keep apart, over nodes and zones, but rather run together than not at all."""
    for workload in gateways(objects):
        constraints = workload.spec["topologySpreadConstraints"]
        keys = {each["topologyKey"] for each in constraints}
        assert keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        assert {each["whenUnsatisfiable"] for each in constraints} == {"ScheduleAnyway"}
        assert all(each["labelSelector"]["matchLabels"] == workload.labels for each in constraints)


@pytest.mark.parametrize("build", BUILDS)
class TestGateway:
    """What holds for the gateway's own pods, by whatever they are made."""

    @pytest.fixture
    def all_objects(self, build: str) -> list[Object]:
        return rendered(build)

    @pytest.fixture
    def found(self, all_objects: list[Object]) -> list[Workload]:
        return gateways(all_objects)

    def test_every_port_is_the_containers(self, all_objects: list[Object], found: list[Workload]) -> None:
        """Probes name the container's first port, which the command listens on; the policy admits all of its ports."""
        for workload in found:
            container = workload.container
            declared, *_ = container["ports"]
            probes = {container[f"{probe}Probe"]["httpGet"]["port"] for probe in ("startup", "readiness", "liveness")}
            assert probes == {declared["name"]} == {"http"}
            assert container["command"] == ["guardhouse", "serve", "/bundle", "--port", str(declared["containerPort"])]
            for policy in of_kind(all_objects, "NetworkPolicy"):
                if policy["metadata"]["name"] == "guardhouse":
                    assert selects(policy["spec"]["podSelector"]["matchLabels"], workload.labels)
                    (rule,) = policy["spec"]["ingress"]
                    assert rule["ports"] == [
                        {"protocol": "TCP", "port": port["containerPort"]} for port in container["ports"]
                    ]

    def test_probes_ask_the_right_question(self, found: list[Workload]) -> None:
        """Loading and draining are questions of readiness, and only a dead process is restarted."""
        for workload in found:
            container = workload.container
            probes = ("startup", "readiness", "liveness")
            paths = {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in probes}
            assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"}
            startup = container["startupProbe"]
            budget = startup["periodSeconds"] * startup["failureThreshold"]
            deadline = workload.owner["spec"].get("progressDeadlineSeconds", budget + 1)  # KServe's is its own
            assert 300 <= budget < deadline

    def test_requests_in_flight_outlive_a_rollout(self, all_objects: list[Object], found: list[Workload]) -> None:
        """The grace period covers the drain, the longest request the config admits, and a margin."""
        for workload in found:
            *command, seconds = workload.container["lifecycle"]["preStop"]["exec"]["command"]
            assert command == ["guardhouse", "drain", "--seconds"]
            longest = parse(config(all_objects, workload)).server.timeout_seconds
            assert workload.spec["terminationGracePeriodSeconds"] >= float(seconds) + longest + MARGIN_SECONDS

    def test_a_rollout_keeps_serving(self, found: list[Workload]) -> None:
        """With a node's room to spare no replica is missing; on scarce GPUs one of several is, and none is added."""
        for workload in found:
            spec = workload.owner["spec"].get("predictor", workload.owner["spec"])
            on_gpu = "nvidia.com/gpu" in workload.container["resources"]["limits"]
            wanted = {"maxSurge": 0, "maxUnavailable": 1} if on_gpu else {"maxSurge": 1, "maxUnavailable": 0}
            assert spec.get("strategy", spec.get("deploymentStrategy"))["rollingUpdate"] == wanted
            assert spec.get("replicas", spec.get("minReplicas", 2)) > wanted["maxUnavailable"]

    def test_only_scratch_and_state_are_writable(self, found: list[Workload]) -> None:
        """The bundle and the config are mounted to read; homes and the server's own files are in an emptyDir each."""
        for workload in found:
            container = workload.container
            mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
            volumes = {volume["name"]: volume for volume in workload.spec["volumes"]}
            writable = {path for path, mount in mounts.items() if not mount.get("readOnly")}
            assert writable == {"/state", "/tmp"}  # noqa: S108 - the container's
            assert all("emptyDir" in volumes[mounts[path]["name"]] for path in writable)
            variables = {each["name"]: each.get("value") for each in container["env"]}
            for home in ("HOME", "BENTOML_HOME"):
                assert Path(variables[home]).is_relative_to("/tmp")  # noqa: S108 - the container's
            assert variables["GUARDHOUSE_STATE"] == "/state"
            assert mounts.keys() >= {variables["GUARDHOUSE_BUNDLE"], str(Path(variables["GUARDHOUSE_CONFIG"]).parent)}

    def test_every_variable_is_known(self, found: list[Workload]) -> None:
        """Each variable is one that the gateway reads, or a standard one; service links would add GUARDHOUSE_PORT."""
        known = set(re.findall(r"GUARDHOUSE_[A-Z_]+", (ROOT / "service" / "settings.py").read_text()))
        for workload in found:
            assert {each["name"] for each in workload.container["env"]} <= known | STANDARD_VARIABLES
            assert workload.spec["enableServiceLinks"] is False

    def test_threads_are_the_cores_asked_for(self, found: list[Workload]) -> None:
        """The number of threads is the CPU request, whatever an overlay makes of that."""
        for workload in found:
            (threads,) = (each for each in workload.container["env"] if each["name"] == "OMP_NUM_THREADS")
            assert threads["valueFrom"] == {"resourceFieldRef": {"resource": "requests.cpu"}}

    def test_the_config_is_one(self, all_objects: list[Object], found: list[Workload]) -> None:
        """The config passes its own checks, and the module that model.builder names lies beside it."""
        for workload in found:
            files = config_files(all_objects, workload)
            builder = parse(config(all_objects, workload)).model.builder
            assert builder is not None
            module, _, function = builder.partition(":")
            assert f"def {function}(" in files[f"{module}.py"]


@pytest.mark.parametrize("copy", ["base/gateway.yaml", "base/model.py", "overlays/canary/candidate/model.py"])
def test_the_base_serves_the_digits_example(copy: str) -> None:
    """The base holds unchanged copies of the example's files, because kustomize reads nothing outside its root."""
    path = DEPLOY / copy
    example = ROOT / "examples" / "digits" / path.name
    assert path.read_text() == example.read_text(), f"cp examples/digits/{path.name} deploy/{copy}"


def test_the_gpu_overlay_insists_on_its_gpu() -> None:
    """One GPU a pod, a toleration for its taint, and the base's config, `device: cuda` apart."""
    base, gpu = rendered("base"), rendered("overlays/gpu")
    (plain,), (workload,) = gateways(base), gateways(gpu)
    assert workload.container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in workload.spec["tolerations"]
    wanted = config(base, plain)
    wanted["model"]["device"] = "cuda"
    assert config(gpu, workload) == wanted
    differing = differences(parse(config(base, plain)), parse(config(gpu, workload)))
    assert not differing, "the digits bundle would be refused"


def test_a_canary_shares_the_route_and_nothing_else() -> None:
    """Two gateways, each with pods, bundle and config of its own, behind one route whose weights are all of it."""
    objects = rendered("overlays/canary")
    stable, canary = sorted(gateways(objects), key=lambda each: each.name)
    assert (stable.name, canary.name) == ("guardhouse", "guardhouse-canary")
    assert not selects(stable.labels, canary.labels)
    own = [
        {volume["name"]: volume for volume in each.spec["volumes"] if "emptyDir" not in volume}
        for each in (stable, canary)
    ]
    assert all(own[0][name] != own[1][name] for name in ("bundle", "config"))
    assert config(objects, stable)["version"] != config(objects, canary)["version"]
    (rule,) = only(objects, "HTTPRoute")["spec"]["rules"]
    assert {each["name"]: each["port"] for each in rule["backendRefs"]} == {stable.name: 80, canary.name: 80}
    assert sum(each["weight"] for each in rule["backendRefs"]) == 100


def test_kserve_gets_the_bases_pod() -> None:
    """The predictor is the Deployment's pod under the name that KServe looks for, and nothing makes pods beside it."""
    objects = rendered("overlays/kserve")
    ((plain,), (predictor,)) = gateways(rendered("base")), gateways(objects)
    assert predictor.owner["kind"] == "InferenceService"
    assert predictor.container == plain.container | {"name": "kserve-container"}
    assert predictor.spec.items() >= {key: plain.spec[key] for key in plain.spec if key != "containers"}.items()
    assert not of_kind(objects, "Deployment")
    assert not of_kind(objects, "Service")


def test_dev_needs_no_operator_and_one_node() -> None:
    """The overlay for a laptop has no custom resource, one replica, and a claim for one node."""
    objects = rendered("overlays/dev")
    assert not [each for each in objects if is_custom(each)]
    assert only(objects, "Deployment")["spec"]["replicas"] == 1
    assert only(objects, "PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteOnce"]


@pytest.mark.parametrize("build", [build for build in BUILDS if "bundle-from" in str(BUILDS[build])])
def test_another_source_of_the_bundle_replaces_the_claim(build: str) -> None:
    """A bundle from an image or a store leaves no claim behind, in the pods or in the build."""
    objects = rendered(build)
    assert not of_kind(objects, "PersistentVolumeClaim")
    for workload in gateways(objects):
        (bundle,) = (volume for volume in workload.spec["volumes"] if volume["name"] == "bundle")
        assert bundle.keys() & {"image", "emptyDir"}


@pytest.fixture
def own_model(tmp_path: Path) -> Path:
    """Return the folder of a user's model, beside a copy of deploy/, with the kustomization of the example."""
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    folder = tmp_path / "models" / "fraud"
    folder.mkdir(parents=True)
    example = (ROOT / "examples" / "digits" / "kustomization.yaml").read_text()
    edited = example.replace("namespace: digits", "namespace: fraud").replace("newTag: 0.1.0", "newTag: 1.2.3")
    edited = re.sub(r"^# (- .*autoscaling)-hpa", r"  \1-keda", edited, flags=re.MULTILINE)
    (folder / "kustomization.yaml").write_text(edited)
    (folder / "gateway.yaml").write_text("name: fraud\n")
    (folder / "model.py").write_text("# theirs\n")
    return folder


def test_one_edited_file_deploys_a_model(own_model: Path) -> None:
    """The example's kustomization, edited beside a user's model, deploys that model and nothing of the example's."""
    objects = kustomize(own_model)
    (workload,) = gateways(objects)
    assert config_files(objects, workload) == {"gateway.yaml": "name: fraud\n", "model.py": "# theirs\n"}
    assert workload.container["image"] == "guardhouse:1.2.3"
    assert only(objects, "Namespace")["metadata"]["name"] == "fraud"
    assert {each["metadata"]["namespace"] for each in objects if each["kind"] != "Namespace"} == {"fraud"}
    for trigger in only(objects, "ScaledObject")["spec"]["triggers"]:
        assert 'namespace="fraud"' in trigger["metadata"]["query"]


@pytest.mark.parametrize("overlay", ["base", "overlays/gpu", "overlays/dev", "overlays/kserve"])
def test_any_overlay_takes_a_model(own_model: Path, overlay: str) -> None:
    """The same file on another overlay gives every pod the user's image and config, whatever makes the pods."""
    path = own_model / "kustomization.yaml"
    edited = path.read_text().replace("deploy/overlays/cpu", f"deploy/{overlay}")
    path.write_text(re.sub(r"^  - .*autoscaling.*$", "", edited, flags=re.MULTILINE))
    objects = kustomize(own_model)
    (workload,) = gateways(objects)
    assert config_files(objects, workload)["gateway.yaml"] == "name: fraud\n"
    assert workload.container["image"] == "guardhouse:1.2.3"
    assert {each["metadata"]["namespace"] for each in objects if each["kind"] != "Namespace"} == {"fraud"}


def test_a_canary_of_a_model(own_model: Path) -> None:
    """On the overlay with a canary the file gives either Deployment a config of the user's."""
    (own_model / "next.yaml").write_text("name: fraud # the next one\n")
    path = own_model / "kustomization.yaml"
    canary = "  - {name: guardhouse-canary-config, behavior: replace, files: [gateway.yaml=next.yaml]}\n"
    edited = path.read_text().replace("deploy/overlays/cpu", "deploy/overlays/canary")
    edited = edited.replace("configMapGenerator:\n", f"configMapGenerator:\n{canary}")
    path.write_text(re.sub(r"^  - .*autoscaling.*$", "", edited, flags=re.MULTILINE))
    objects = kustomize(own_model)
    served = {each.name: config_files(objects, each)["gateway.yaml"] for each in gateways(objects)}
    assert served == {"guardhouse": "name: fraud\n", "guardhouse-canary": "name: fraud # the next one\n"}


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
    """The kustomization in examples/digits builds where it stands, and serves that folder's files."""
    folder = ROOT / "examples" / "digits"
    objects = kustomize(folder)
    (workload,) = gateways(objects)
    assert config_files(objects, workload)["gateway.yaml"] == (folder / "gateway.yaml").read_text()
    assert only(objects, "Namespace")["metadata"]["name"] == "digits"


def test_the_loader_fills_the_claim_that_the_gateway_reads() -> None:
    """The loader writes as the gateway's user into the gateway's claim."""
    objects = rendered("base")
    (claim,) = (volume["persistentVolumeClaim"]["claimName"] for volume in LOADER["spec"]["volumes"])
    assert claim == only(objects, "PersistentVolumeClaim")["metadata"]["name"]
    (workload,) = gateways(objects)
    ids = ("runAsUser", "runAsGroup", "fsGroup")
    loader, gateway = LOADER["spec"]["securityContext"], workload.spec["securityContext"]
    assert [loader[key] for key in ids] == [gateway[key] for key in ids] == [10001] * 3
