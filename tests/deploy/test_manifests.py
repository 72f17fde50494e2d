"""The promises of the manifests under deploy/, to Kubernetes and to their editors, in every build."""

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
    BY_HAND,
    DEPLOY,
    LAYERS,
    ROOT,
    RUNTIME,
    Object,
    Workload,
    config,
    config_files,
    gateways,
    is_custom,
    kustomize,
    of_kind,
    only,
    refusal,
    rendered,
    selects,
    workloads,
)

from guards.config.config import differences, parse

DATA = Path(os.environ.get("GUARDHOUSE_DATA", ROOT.parent / "shared" / "data"))
CRDS = Path(os.environ.get("GUARDHOUSE_CRDS", DATA.parent / "crds"))
KUBERNETES = "1.33.0"
MARGIN_SECONDS = 20  # until the preStop command is heard on a busy node, and to close connections
CLAIM, PVC = "PersistentVolumeClaim", "persistentVolumeClaim"
LABELS = {f"app.kubernetes.io/{name}" for name in ("name", "instance", "component", "part-of")}
STANDARD_VARIABLES = {
    "BUNDLE_NAME",
    "HOME",
    "OMP_NUM_THREADS",
    "BENTOML_HOME",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_SERVICE_NAME",
}
LOADER = yaml.safe_load((DEPLOY / "loader.yaml").read_text())

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl, which renders the manifests, is absent"
)


@pytest.fixture(params=BUILDS)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return rendered(request.param)


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
    """An overlay or component that is not rendered here would be checked by no test."""
    used = {DEPLOY / folder for folder in (*LAYERS, *(folder for folder, *_ in BUILDS.values()))}
    used |= {DEPLOY / "components" / name for _, *names in BUILDS.values() for name in names}
    assert {path.parent for path in DEPLOY.rglob("kustomization.yaml")} == used


def test_kubernetes_knows_every_field(objects: list[Object]) -> None:
    """Every core object passes the strict schema of its kind; a misspelt field would be an error."""
    assert all(accepted(json.dumps(each)) for each in [*objects, LOADER] if not is_custom(each))


def test_operators_know_every_field(objects: list[Object]) -> None:
    """Every custom object passes the schema of its resource."""
    example = yaml.safe_load((DEPLOY / "kserve" / "inferenceservice.yaml").read_text())
    assert all(accepted(json.dumps(each)) for each in [*objects, example] if is_custom(each))


def test_one_namespace_enforces_the_restricted_profile(objects: list[Object]) -> None:
    """Everything lives in one namespace, which admits restricted pods alone."""
    others = [each for each in objects if each["kind"] != "Namespace"]
    assert {each["metadata"]["namespace"] for each in others} == {"guardhouse"}
    for namespace in of_kind(objects, "Namespace"):
        assert namespace["metadata"]["name"] == "guardhouse"
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize(
    "overlay", ["base", *(f"overlays/{name}" for name in ("cpu", "gpu", "canary", "kserve", "dev"))]
)
def test_an_overlay_leaves_the_namespace_to_its_user(overlay: str) -> None:
    """Base and overlays name no namespace and make none, so `kubectl delete -k` removes nobody's namespace."""
    objects = kustomize(DEPLOY / overlay)
    assert not of_kind(objects, "Namespace")
    assert not [each for each in objects if "namespace" in each["metadata"]]


def test_every_object_has_the_common_labels(objects: list[Object]) -> None:
    """Every object says its name, instance, component and what it is part of; every pod says what its owner does."""
    for each in objects:
        assert each["metadata"]["labels"].keys() >= LABELS, (each["kind"], each["metadata"]["name"])
    for workload in workloads(objects):
        assert workload.labels == workload.owner["metadata"]["labels"]


def test_objects_by_hand_have_the_common_labels() -> None:
    """Objects that are applied by hand have them, too; a runtime of a whole cluster has no instance."""
    for path in BY_HAND:
        found = yaml.safe_load(path.read_text())["metadata"]["labels"].keys()
        assert found >= (LABELS - {"app.kubernetes.io/instance"} if path == RUNTIME else LABELS)


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
    """Memory asked for is memory had, and no CPU limit throttles; for KServe, which sets one, it is the request."""
    for workload in workloads([*objects, LOADER]):
        for container in workload.containers:
            asked, limits = container["resources"]["requests"], container["resources"]["limits"]
            assert asked["memory"] == limits["memory"]
            assert "cpu" in asked
            limit = str(limits.get("cpu"))
            assert limit == (asked["cpu"] if container["name"] == "kserve-container" else "None")


def gibibytes(quantity: str) -> float:
    return int(quantity[:-2]) * {"Gi": 1, "Mi": 1 / 1024}[quantity[-2:]]


def test_what_a_pod_may_write_on_its_node_is_bounded(objects: list[Object]) -> None:
    """Every container asks for ephemeral storage, and a pod's limits hold all that its emptyDirs may hold."""
    for workload in workloads([*objects, LOADER]):
        resources = [container["resources"] for container in workload.containers]
        assert all(gibibytes(each["requests"]["ephemeral-storage"]) > 0 for each in resources)
        emptied = [volume["emptyDir"]["sizeLimit"] for volume in workload.spec["volumes"] if "emptyDir" in volume]
        limit = gibibytes(workload.container["resources"]["limits"]["ephemeral-storage"])
        assert limit >= sum(map(gibibytes, emptied))


def test_cluster_autoscaler_is_told_what_may_move(objects: list[Object]) -> None:
    """Every pod with an emptyDir says whether it may be evicted: the gateway may, the only PostgreSQL may not."""
    for workload in workloads(objects):
        spec = workload.owner["spec"]
        annotations = (spec.get("template", {}).get("metadata") or spec.get("predictor"))["annotations"]
        moves = "false" if workload.name == "guardhouse-postgres" else "true"
        assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == moves


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
            assert selects(workload.owner["spec"]["selector"]["matchLabels"], workload.labels)
    for each in [*of_kind(objects, "Service"), *of_kind(objects, "PodDisruptionBudget")]:
        selector = each["spec"]["selector"]
        (owner,) = (workload for workload in found if selects(selector.get("matchLabels", selector), workload.labels))
        if each["kind"] == "Service":
            assert owner.name == each["metadata"]["name"]
            for port in each["spec"]["ports"]:
                assert port["targetPort"] in {known["name"] for known in owner.container["ports"]}


def test_a_budget_lets_nodes_be_drained(objects: list[Object]) -> None:
    """One replica at a time may be evicted, whether there are two or one."""
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
        wanted = {key: workload.labels[key] for key in ("app.kubernetes.io/name", "app.kubernetes.io/instance")}
        assert all(each["labelSelector"]["matchLabels"] == wanted for each in constraints)


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
        """Probes name the container's first port, which the command listens on; clients reach all ports but metrics."""
        for workload in found:
            container = workload.container
            declared, *_ = container["ports"]
            probes = {container[f"{probe}Probe"]["httpGet"]["port"] for probe in ("startup", "readiness", "liveness")}
            assert probes == {declared["name"]} == {"http"}
            port = str(declared["containerPort"])
            assert container["command"] == [
                *("guardhouse", "serve", "$(GUARDHOUSE_BUNDLE)"),
                *("--host", "0.0.0.0", "--port", port, "--open"),  # noqa: S104
            ]
            for policy in of_kind(all_objects, "NetworkPolicy"):
                if policy["metadata"]["name"] == "guardhouse":
                    assert selects(policy["spec"]["podSelector"]["matchLabels"], workload.labels)
                    (rule,) = policy["spec"]["ingress"]
                    assert rule["ports"] == [
                        {"protocol": "TCP", "port": port["containerPort"]}
                        for port in container["ports"]
                        if port["name"] != "metrics"
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

    def test_a_rollout_fits_the_volumes(self, found: list[Workload]) -> None:
        """A pod on a claim ends before the next starts; several roll by percentages, and on GPUs none is added."""
        for workload in found:
            spec = workload.owner["spec"].get("predictor", workload.owner["spec"])
            strategy = spec.get("strategy", spec.get("deploymentStrategy"))
            replicas = spec.get("replicas", spec.get("minReplicas"))
            if strategy["type"] == "Recreate":
                assert replicas == 1
                continue
            on_gpu = "nvidia.com/gpu" in workload.container["resources"]["limits"]
            wanted = {"maxSurge": 0, "maxUnavailable": "25%"} if on_gpu else {"maxSurge": "25%", "maxUnavailable": 0}
            assert strategy["rollingUpdate"] == wanted

    def test_several_replicas_share_what_a_label_needs(self, all_objects: list[Object], found: list[Workload]) -> None:
        """More than one replica, or a rolling update, goes with one database for all and no volume of one node."""
        claims = {each["metadata"]["name"]: each["spec"]["accessModes"] for each in of_kind(all_objects, CLAIM)}
        for workload in found:
            spec = workload.owner["spec"].get("predictor", workload.owner["spec"])
            strategy = spec.get("strategy", spec.get("deploymentStrategy"))
            volumes = {volume["name"]: volume for volume in workload.spec["volumes"]}
            variables = {each["name"] for each in workload.container["env"]}
            if strategy["type"] == "Recreate":
                assert "emptyDir" not in volumes["state"] or "GUARDHOUSE_DATABASE_URL" in variables
                continue
            assert "GUARDHOUSE_DATABASE_URL" in variables
            assert "emptyDir" in volumes["state"]
            claimed = [volume["persistentVolumeClaim"]["claimName"] for volume in volumes.values() if PVC in volume]
            assert all(claims[name] == ["ReadWriteMany"] for name in claimed)

    def test_the_pod_waits_for_its_bundle(self, found: list[Workload]) -> None:
        """The last container before the gateway's is of its image and waits for the bundle that the gateway serves."""
        for workload in found:
            *_, waiting = workload.spec["initContainers"]
            assert waiting["command"] == ["guardhouse", "wait", "$(GUARDHOUSE_BUNDLE)"]
            assert waiting["image"] == workload.container["image"]
            assert waiting["env"] == [each for each in workload.container["env"] if "BUNDLE" in each["name"]]
            (mount,) = waiting["volumeMounts"]
            assert mount in workload.container["volumeMounts"]

    def test_the_bundle_has_a_name(self, all_objects: list[Object], found: list[Workload]) -> None:
        """The pod template names the bundle, by a ConfigMap whose name is a hash of it, or by an image."""
        for workload in found:
            variables = {each["name"]: each for each in workload.container["env"]}
            volumes = {volume["name"]: volume for volume in workload.spec["volumes"]}
            if "image" in volumes["bundles"]:
                assert variables["GUARDHOUSE_BUNDLE"]["value"] == "/bundles"
                continue
            assert variables["GUARDHOUSE_BUNDLE"]["value"] == "/bundles/$(BUNDLE_NAME)"
            assert list(variables).index("BUNDLE_NAME") < list(variables).index("GUARDHOUSE_BUNDLE")
            name = variables["BUNDLE_NAME"]["valueFrom"]["configMapKeyRef"]["name"]
            (found_map,) = (each for each in of_kind(all_objects, "ConfigMap") if each["metadata"]["name"] == name)
            assert re.fullmatch(r"guardhouse-(canary-)?bundle-[a-z0-9]{10}", name)
            assert found_map["data"]["name"].startswith("sha256-")

    def test_only_scratch_and_state_are_writable(self, found: list[Workload]) -> None:
        """Bundle and config are mounted to read; a claim is not read-only itself: a new disk could not be formatted."""
        for workload in found:
            container = workload.container
            mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
            writable = {path for path, mount in mounts.items() if not mount.get("readOnly")}
            assert writable == {"/state", "/tmp"}  # noqa: S108 - the container's
            assert not [volume for volume in workload.spec["volumes"] if volume.get(PVC, {}).get("readOnly")]
            variables = {each["name"]: each.get("value") for each in container["env"]}
            for home in ("HOME", "BENTOML_HOME"):
                assert Path(variables[home]).is_relative_to("/tmp")  # noqa: S108 - the container's
            assert variables["GUARDHOUSE_STATE"] == "/state"
            assert Path(variables["GUARDHOUSE_BUNDLE"]).is_relative_to("/bundles")
            assert mounts.keys() >= {"/bundles", str(Path(variables["GUARDHOUSE_CONFIG"]).parent)}

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
    """A pod has one GPU and a toleration for its taint; the config is the base's, except for `device: cuda`."""
    base, gpu = rendered("base"), rendered("overlays/gpu")
    (plain,), (workload,) = gateways(base), gateways(gpu)
    assert workload.container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in workload.spec["tolerations"]
    wanted = config(base, plain)
    wanted["model"]["device"] = "cuda"
    assert config(gpu, workload) == wanted
    differing = differences(parse(config(base, plain)), parse(config(gpu, workload)))
    assert not differing, "the digits bundle would be refused"


@pytest.mark.parametrize(
    ("components", "fault"),
    [
        (("replicas",), "guardhouse~1state"),
        (("bundle-from-object-store", "replicas"), "guardhouse~1state"),
        (("database", "replicas"), "guardhouse~1bundle"),
        (("replicas", "database", "bundle-from-image"), "guardhouse~1state"),
        (("autoscaling-hpa",), "guardhouse~1state"),
        (("bundle-from-image", "bundle-from-shared-claim"), "guardhouse~1bundle"),
    ],
)
def test_replicas_that_would_not_work_are_refused(components: tuple[str, ...], fault: str) -> None:
    """Several replicas without one database for all, or without a bundle for each, fail to build."""
    assert f"testing value /metadata/annotations/{fault} failed" in refusal("base", *components)


def test_the_base_starts_anywhere() -> None:
    """The base and the overlay for a laptop need no operator, no volume of several nodes and no second replica."""
    for build in ("base", "overlays/dev"):
        objects = rendered(build)
        assert not [each for each in objects if is_custom(each)]
        assert only(objects, "Deployment")["spec"]["replicas"] == 1
        claims = {each["metadata"]["name"]: each["spec"] for each in of_kind(objects, CLAIM)}
        assert claims.keys() == {"guardhouse-bundles", "guardhouse-state"}
        assert all(claim["accessModes"] == ["ReadWriteOnce"] for claim in claims.values())
        assert not any("storageClassName" in claim for claim in claims.values())
