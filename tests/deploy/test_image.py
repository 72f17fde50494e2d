"""The image: the Dockerfile that `bentoml build` writes, and the bill of materials."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from manifests import DEPLOY, ROOT, gateways, rendered

HADOLINT = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
BUNDLE = DEPLOY / "image" / "bundle.Dockerfile"
SBOM_TOOL = Path(os.environ.get("GUARDHOUSE_CYCLONEDX", ROOT / ".venv-sbom" / "bin" / "cyclonedx-py"))


@pytest.fixture(scope="module")
def dockerfile(bento: Path) -> Path:
    return bento / "env" / "docker" / "Dockerfile"


@pytest.fixture(scope="module")
def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return what the file says: each instruction with its arguments, comments apart and lines joined."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = (line.strip().partition(" ") for line in text.splitlines() if line.strip())
    return [(name.upper(), " ".join(rest.split())) for name, _, rest in lines]


def arguments(instructions: list[tuple[str, str]], name: str) -> list[str]:
    return [rest for found, rest in instructions if found == name]


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed")
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    """Hadolint has nothing to say of the file, or of the one for a bundle, styles and notes included."""
    done = subprocess.run([str(HADOLINT), dockerfile, BUNDLE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_bundles_image_is_readable_for_the_gateway() -> None:
    """The image's user may read the bundle, whichever user fitted it under whatever umask."""
    copy = re.findall(r"^COPY --chown=(\d+):(\d+) --chmod=(\d+) \. /$", BUNDLE.read_text(), flags=re.MULTILINE)
    ((uid, gid, mode),) = copy
    (workload,) = gateways(rendered("base + bundle-from-image"))
    identity = workload.spec["securityContext"]
    assert (int(uid), int(gid)) == (identity["runAsUser"], identity["runAsGroup"])
    assert int(mode, 8) & 0o555 == 0o555, "COPY gives folders the same mode, and a folder is entered by its x"


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed")
def test_hadolint_would_find_something(dockerfile: Path, tmp_path: Path) -> None:
    """The same file on a base without a version is not clean."""
    floating = re.sub(r"python:[\w.-]+", "python:latest", dockerfile.read_text())
    (tmp_path / "Dockerfile").write_text(floating)
    done = subprocess.run([str(HADOLINT), tmp_path / "Dockerfile"], capture_output=True, text=True, check=False)
    assert "DL3007" in done.stdout


def test_the_user_is_a_number(instructions: list[tuple[str, str]]) -> None:
    """The last word on the user is a number, the manifests' own, and nothing before it says root."""
    (workload,) = gateways(rendered("base")) if shutil.which("kubectl") else (None,)
    uid = 10001 if workload is None else workload.spec["securityContext"]["runAsUser"]
    assert arguments(instructions, "USER") == [f"{uid}:{uid}"]
    (made,) = (each for each in arguments(instructions, "RUN") if "useradd" in each)
    assert f"useradd --uid {uid} " in made


def test_the_base_is_slim_and_has_a_version(instructions: list[tuple[str, str]]) -> None:
    """Both stages start from a slim Python with a version, and the last one installs nothing."""
    bases = [each.split()[0] for each in arguments(instructions, "FROM")]
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.\d+-slim-\w+", base) for base in bases)
    last = instructions[max(i for i, (name, _) in enumerate(instructions) if name == "FROM") :]
    assert not any(tool in rest for name, rest in last if name == "RUN" for tool in ("apt", "pip", "curl"))


def test_torch_comes_from_where_the_builder_says(instructions: list[tuple[str, str]]) -> None:
    """One argument, the index for torch, which is installed first, makes a CPU image or a CUDA image."""
    assert arguments(instructions, "ARG") == ['TORCH_INDEX=""']
    (installing,) = (each for each in arguments(instructions, "RUN") if "TORCH_INDEX" in each)
    _, pinned, torch, rest = installing.split(" && ")
    assert pinned == "grep '^torch==' /tmp/requirements.txt > /tmp/torch.txt"
    assert torch.endswith('${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r /tmp/torch.txt')
    assert rest.endswith("-r /tmp/requirements.txt")


def test_the_command_is_there(instructions: list[tuple[str, str]], bento: Path) -> None:
    """The bento has the command `guardhouse` on its path and the entry point, and its image exposes one port."""
    project = tomllib.loads((bento / "src" / "pyproject.toml").read_text())["project"]
    assert "guardhouse" in project["scripts"]
    assert all((bento / "src" / name).is_file() for name in (project["readme"], *project["license-files"]))
    assert "--editable /app/src" in " ".join(arguments(instructions, "RUN"))
    assert "PATH=/app/.venv/bin:$PATH" in arguments(instructions, "ENV")[0].split()
    assert json.loads(arguments(instructions, "ENTRYPOINT")[0]) == ["guardhouse"]
    assert json.loads(arguments(instructions, "CMD")[0]) == ["serve", "/bundle", "--host", "0.0.0.0"]  # noqa: S104 - a container's own
    assert arguments(instructions, "EXPOSE") == ["3000"]


def test_a_read_only_disk_is_enough(instructions: list[tuple[str, str]]) -> None:
    """Homes and state are in the two folders that the manifests mount to write to, and no bytecode is written."""
    variables = dict(each.split("=", 1) for each in arguments(instructions, "ENV")[0].split())
    places = {Path(variables[name]).parts[1] for name in ("HOME", "BENTOML_HOME", "GUARDHOUSE_STATE")}
    assert places == {"tmp", "state"}
    assert variables["PYTHONDONTWRITEBYTECODE"] == "1"
    assert "BENTOML_CONTAINERIZED" not in variables, "a worker that died would not be started again"


@pytest.mark.skipif(not SBOM_TOOL.is_file(), reason="no cyclonedx-py: `make sbom`, or name one in GUARDHOUSE_CYCLONEDX")
def test_the_bill_of_materials_names_every_pin(tmp_path: Path) -> None:
    """`make sbom` writes a CycloneDX document with each package of the image, and its version."""
    out = tmp_path / "sbom.json"
    command = ["make", "--no-print-directory", "sbom", f"SBOM={out}", f"CYCLONEDX={SBOM_TOOL}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(out.read_text())
    assert document["bomFormat"] == "CycloneDX"
    assert document["metadata"]["component"]["name"] == "guardhouse"
    found = {f"{each['name']}=={each['version']}" for each in document["components"]}
    pins = {line for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line}
    assert found == pins
    assert {name.partition("==")[0] for name in found} >= {"torch", "bentoml"}
