"""Bundles come from a claim, an image or an object store, for the gateway and for a canary."""

import os
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from gateways import cli
from manifests import (
    BUILDS,
    DEPLOY,
    Workload,
    config,
    gateways,
    kustomize,
    of_kind,
    only,
    rendered,
    selects,
)

from service.cli.wait import BundleFiles

if TYPE_CHECKING:
    from conftest import Bundles

CLAIM = "PersistentVolumeClaim"
LOADER = yaml.safe_load((DEPLOY / "loader.yaml").read_text())

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl, which renders the manifests, is absent"
)


def test_a_canary_shares_the_route_and_nothing_else() -> None:
    """Two gateways, each with pods, bundle, state and config of its own, behind one route whose weights add up."""
    objects = rendered("overlays/canary")
    stable, canary = sorted(gateways(objects), key=lambda each: each.name)
    assert (stable.name, canary.name) == ("guardhouse", "guardhouse-canary")
    assert not selects(stable.labels, canary.labels)
    own = [
        {volume["name"]: volume for volume in each.spec["volumes"] if "emptyDir" not in volume}
        for each in (stable, canary)
    ]
    assert all(own[0][name] != own[1][name] for name in ("bundles", "state", "config"))
    assert config(objects, stable)["version"] != config(objects, canary)["version"]
    (rule,) = only(objects, "HTTPRoute")["spec"]["rules"]
    assert {each["name"]: each["port"] for each in rule["backendRefs"]} == {stable.name: 80, canary.name: 80}
    assert sum(each["weight"] for each in rule["backendRefs"]) == 100


@pytest.mark.parametrize("build", [build for build in BUILDS if build.startswith("canary") or "canary" in build])
def test_a_canary_has_a_bundle_of_its_own(build: str) -> None:
    """Whatever the source of bundles is, the canary's bundle comes from another source than the stable one."""
    objects = rendered(build)
    stable, canary = sorted(gateways(objects), key=lambda each: each.name)

    def sources(workload: Workload) -> set[str]:
        (volume,) = (volume for volume in workload.spec["volumes"] if volume["name"] == "bundles")
        if "image" in volume:
            return {volume["image"]["reference"].partition(":")[0]}
        variables = [each for container in workload.containers for each in container.get("env", [])]
        return {each["valueFrom"]["configMapKeyRef"]["name"] for each in variables if each["name"] == "BUNDLE_NAME"}

    assert len(sources(stable)) == len(sources(canary)) == 1, "its containers are told of two bundles"
    assert sources(stable) != sources(canary)


@pytest.mark.parametrize(
    "build", [build for build, names in BUILDS.items() if {*names} & {"bundle-from-image", "bundle-from-object-store"}]
)
def test_another_source_of_the_bundle_replaces_the_claim(build: str) -> None:
    """A bundle from an image or a store leaves no claim for bundles behind, in the pods or in the build."""
    objects = rendered(build)
    assert not [each for each in of_kind(objects, CLAIM) if "bundles" in each["metadata"]["name"]]
    for workload in gateways(objects):
        (bundle,) = (volume for volume in workload.spec["volumes"] if volume["name"] == "bundles")
        assert bundle.keys() & {"image", "emptyDir"}


RCLONE = """#!/bin/sh
# Copies between folders as rclone copies between stores; fails if there is no such folder.
echo "$@" >> "$STORE/calls"
test -d "$3" && mkdir -p "$4" && cp "$3"/* "$4"
"""


def test_the_fetch_goes_on_until_the_named_bundle_is_whole(bundles: "Bundles", tmp_path: Path) -> None:
    """The store's folder of that name is fetched, and fetched again while it is not there or only half of it is."""
    (workload,) = gateways(rendered("base + bundle-from-object-store"))
    fetch, wait = workload.spec["initContainers"]
    assert wait["name"] == "wait"
    (script,) = fetch["args"]
    script = script.replace("/bundles/", f"{tmp_path}/pod/").replace("sleep 10", "sleep 0.2")
    store, served = tmp_path / "store" / "sha256-0123456789ab", tmp_path / "pod" / "sha256-0123456789ab"
    store.parent.mkdir()
    rclone = tmp_path / "bin" / "rclone"
    rclone.parent.mkdir()
    rclone.write_text(RCLONE)
    rclone.chmod(stat.S_IRWXU)
    variables = {"BUNDLE_SOURCE": str(store.parent), "BUNDLE_NAME": store.name, "STORE": str(tmp_path)}
    path = os.pathsep.join([str(rclone.parent), os.environ["PATH"]])
    with subprocess.Popen(
        [*fetch["command"], script], env=os.environ | variables | {"PATH": path}, stdout=subprocess.PIPE, text=True
    ) as fetching:
        assert fetching.stdout is not None
        assert fetching.stdout.readline() == f"{store} is not whole yet: again in 10 s\n"
        store.mkdir()
        whole = bundles.bundle("values")
        for name in ("manifest.json", "state.safetensors"):
            shutil.copy(whole / name, store)
        (store / "weights.safetensors").write_bytes((whole / "weights.safetensors").read_bytes()[:-1])
        time.sleep(1)  # five more looks
        assert fetching.poll() is None, "it has taken half of a bundle"
        for file in whole.iterdir():
            shutil.copy(file, store)
        assert fetching.wait(timeout=180) == 0
    assert BundleFiles(served.rename(tmp_path / "digits")).fault() is None


@pytest.mark.parametrize("kind", ["Deployment", "InferenceService"])
def test_the_bundles_image_is_named_like_any_other(kind: str, tmp_path: Path) -> None:
    """`images:` in the user's file reaches the image that is mounted as a volume, by digest, whatever makes pods."""
    components = ["bundle-from-image", *(["kserve"] if kind == "InferenceService" else [])]
    digest = f"sha256:{64 * 'a'}"
    content = {
        "resources": [os.path.relpath(DEPLOY / "base", tmp_path)],
        "components": [os.path.relpath(DEPLOY / "components" / name, tmp_path) for name in components],
        "images": [
            {"name": "guardhouse-bundle", "newName": "registry.example/digits", "digest": digest},
            {"name": "guardhouse", "newName": "registry.example/guardhouse", "digest": digest},
        ],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(content))
    (workload,) = gateways(kustomize(tmp_path))
    assert workload.owner["kind"] == kind
    (volume,) = (volume for volume in workload.spec["volumes"] if volume["name"] == "bundles")
    assert volume["image"]["reference"] == f"registry.example/digits@{digest}"
    assert {each["image"] for each in workload.containers} == {f"registry.example/guardhouse@{digest}"}


# The loader


@pytest.mark.parametrize(("build", "suffix"), [("base", ""), ("overlays/canary", "-canary")])
def test_the_loader_fills_the_claim_that_the_gateway_reads(build: str, suffix: str) -> None:
    """The loader writes as the gateway's user into the gateway's claim, on the node of the gateway's pod."""
    objects = rendered(build)
    (claim,) = (volume["persistentVolumeClaim"]["claimName"] for volume in LOADER["spec"]["volumes"])
    claims = {each["metadata"]["name"] for each in of_kind(objects, CLAIM)}
    (workload,) = (each for each in gateways(objects) if each.name == f"guardhouse{suffix}")
    assert f"{claim}{suffix}" in claims
    ids = ("runAsUser", "runAsGroup", "fsGroup")
    loader, gateway = LOADER["spec"]["securityContext"], workload.spec["securityContext"]
    assert [loader[key] for key in ids] == [gateway[key] for key in ids] == [10001] * 3
    (term,) = LOADER["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (label, value), *others = term["labelSelector"]["matchLabels"].items()
    assert not others
    assert workload.labels[label] == f"{value}{suffix}"


KUBECTL = """#!/bin/sh
# Does to a folder what kubectl does to a cluster.
echo "$@" >> "$CLUSTER/calls"
test "$1 $2" = "--namespace digits" || exit 1
shift 2
case $1 in
    apply) cat > "$CLUSTER/loader.yaml" ;;
    exec) mkdir -p "$CLUSTER/${6#/}" ;;
    cp) cp -R "$2" "$CLUSTER/${3#guardhouse-loader:/}" ;;
esac
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """Return the folder that stands for a cluster."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(KUBECTL)
    program.chmod(stat.S_IRWXU)
    return folder


def load(cluster: Path, bundle: str | Path, *arguments: str, cwd: Path = DEPLOY) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([str(cluster.with_name("bin")), os.environ["PATH"]])
    return subprocess.run(
        [DEPLOY / "load-bundle.sh", bundle, "digits", *arguments],
        cwd=cwd, env=os.environ | {"PATH": path, "CLUSTER": str(cluster)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(("arguments", "suffix"), [((), ""), (("canary",), "-canary")])
def test_a_bundle_is_loaded_under_its_hash(
    bundles: "Bundles", cluster: Path, arguments: tuple[str, ...], suffix: str
) -> None:
    """The script copies a bundle whole into a folder called by its hash, prints that name, and removes the loader."""
    bundle = bundles.bundle("table")
    done = load(cluster, bundle.name, *arguments, cwd=bundle.parent)
    assert done.returncode == 0, done.stderr
    name = done.stdout.removesuffix("\n")
    assert BundleFiles(cluster / "bundles" / name).fault() is None
    assert name.startswith("sha256-")
    calls = (cluster / "calls").read_text().splitlines()
    assert calls[0] == "--namespace digits apply -f -"
    assert calls[-1] == "--namespace digits delete pod guardhouse-loader --ignore-not-found --wait"
    applied = yaml.safe_load((cluster / "loader.yaml").read_text())
    assert applied["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == f"guardhouse-bundles{suffix}"
    (term,) = applied["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["labelSelector"]["matchLabels"] == {"app.kubernetes.io/instance": f"guardhouse{suffix}"}
    assert cli("wait", cluster / "bundles" / name, "--seconds", "0").returncode == 0


def test_what_is_no_bundle_is_not_loaded(cluster: Path, tmp_path: Path) -> None:
    """A folder without a manifest is refused in a sentence, and nothing is started for it."""
    done = load(cluster, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{tmp_path}: no bundle there; make one with `guardhouse fit`\n"
    assert not (cluster / "calls").exists()


def test_a_loader_that_does_not_start_is_removed(cluster: Path) -> None:
    """If kubectl fails, the script fails with it, prints no name, and takes the loader away."""
    program = cluster.with_name("bin") / "kubectl"
    program.write_text(program.read_text().replace("case $1 in", 'test "$1" = wait && exit 1\ncase $1 in'))
    bundle = cluster / "digits"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    done = load(cluster, bundle)
    assert (done.returncode, done.stdout) == (1, "")
    assert (cluster / "calls").read_text().splitlines()[-1].startswith("--namespace digits delete pod")
