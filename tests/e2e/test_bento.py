"""A bento is built without a network, and served from another folder."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from bentos import bento_environment
from fresh_client import FRESH
from waiting import until

ROOT = Path(__file__).parents[2]

if TYPE_CHECKING:
    Bundles = Any


def test_bento_holds_the_gateway_alone(bento: Path) -> None:
    """The bento carries the library and the service, and neither tests, data nor a model."""
    source = bento / "src"
    assert {path.name for path in source.iterdir()} >= {"guards", "service"}
    assert (source / "guards" / "pipeline.py").is_file()
    assert (source / "guards" / "cli" / "report" / "page.html").is_file()
    page = Path("service", "front", "console", "page")
    files = {path.relative_to(ROOT / page) for path in (ROOT / page).rglob("*") if path.is_file()}
    assert {path.relative_to(source / page) for path in (source / page).rglob("*") if path.is_file()} == files
    assert not any(path.suffix in {".npz", ".safetensors"} for path in source.rglob("*"))
    assert not (source / "tests").exists()


def test_bento_pins_what_the_project_pins(bento: Path) -> None:
    """Every requirement of the bento is a pin of constraints.txt."""
    pins = set((ROOT / "constraints.txt").read_text().splitlines())
    wanted = [line for line in (bento / "env/python/requirements.txt").read_text().splitlines() if "==" in line]
    assert len(wanted) > 50
    assert set(wanted) <= pins
    assert yaml.safe_load((bento / "bento.yaml").read_text())["service"] == "service.app:Gateway"


def test_bento_serves_from_another_folder(bento: Path, bundles: "Bundles", tmp_path: Path) -> None:
    """A bento answers like the checkout, even if a folder called `service` lies beside it."""
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "__init__.py").write_text("raise RuntimeError('the wrong service')\n")
    with _served(bento, bundles, tmp_path) as url:
        answer = FRESH.post(f"{url}/predict", json={"instances": [{"a": 2.5, "b": 1, "c": 0.5}]})
        assert answer.json()["predictions"][0]["value"] == pytest.approx(3 * 2.5 - 2 + 0.5, abs=0.5)
        assert FRESH.get(f"{url}/v1/models").json() == {"models": ["value"]}


@contextmanager
def _served(bento: Path, bundles: "Bundles", folder: Path) -> Iterator[str]:
    from gateways import free_port

    url = f"http://127.0.0.1:{(port := free_port())}"
    log = (folder / "log").open("w")
    places = {
        "GUARDHOUSE_BUNDLE": str(bundles.bundle("values")),
        "GUARDHOUSE_CONFIG": str(bundles.config("values")),
        "PYTHONPATH": bundles.python_path,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "bentoml", "serve", str(bento), "--host", "127.0.0.1", "--port", str(port)],
        cwd=folder, env=bento_environment(folder / "home") | places, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        until(lambda: process.poll() is not None or _ready(url), 400, pause=0.1)
        assert process.poll() is None, (folder / "log").read_text()
        yield url
    finally:
        process.terminate()
        process.wait(timeout=120)
        log.close()


def _ready(url: str) -> bool:
    try:
        return FRESH.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_requirements_are_current(tmp_path: Path) -> None:
    """requirements.txt is what `make requirements` writes."""
    for name in ("constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "requirements.py", tmp_path / "tools")
    subprocess.run([sys.executable, "tools/requirements.py"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "requirements.txt").read_text() == (ROOT / "requirements.txt").read_text()
