"""`guardhouse wait`: it takes a bundle when the bundle is complete, and not before."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gateways import ROOT, clean_environment, cli

from guards.bundle.folder import seal
from service.cli.wait import BundleFiles

CONTENT = {"state.safetensors": b"fitted" * 1000, "weights.safetensors": b"weights" * 1000}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Write a bundle's files in a folder that is called by the manifest's hash."""
    folder = tmp_path / "made"
    folder.mkdir()
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
    manifest = seal({"sha256": sha256})
    (folder / "manifest.json").write_bytes(manifest)
    return folder.rename(tmp_path / f"sha256-{hashlib.sha256(manifest).hexdigest()[:12]}")


def damage(bundle: Path, name: str, content: bytes | None) -> None:
    if content is None:
        (bundle / name).unlink()
    else:
        (bundle / name).write_bytes(content)


def test_a_whole_bundle_is_taken_at_once(bundle: Path) -> None:
    """The first look at a whole bundle finds no fault, and the command ends with status 0."""
    assert BundleFiles(bundle).fault() is None
    done = cli("wait", bundle, "--seconds", "0")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{bundle}: the bundle is whole\n", "")


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("manifest.json", None, "the file is not there yet"),
        ("manifest.json", b'{"sha256": {"st', "the folder's name says"),
        ("weights.safetensors", None, "the file is not there yet"),
        ("weights.safetensors", b"", "the file is not whole"),
        ("weights.safetensors", CONTENT["weights.safetensors"][:-1], "the file is not whole"),
        ("state.safetensors", CONTENT["weights.safetensors"], "is not the file that was fitted"),
    ],
)
def test_a_bundle_that_is_not_whole_is_waited_for(bundle: Path, name: str, content: bytes | None, fault: str) -> None:
    """A file that is missing, cut off or another one is named; the command ends with status 1 once its time is up."""
    damage(bundle, name, content)
    done = cli("wait", bundle, "--seconds", "0")
    assert done.returncode == 1
    assert done.stderr.startswith(f"{bundle / name}: ")
    assert fault in done.stderr


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"sha256": 3}', b"\xff", seal({"sha256": 3}), seal({"more": "[" * 9})]
)
def test_a_manifest_that_is_cut_off_is_waited_for(bundle: Path, content: bytes) -> None:
    """In a folder without a hash in its name, too, a manifest that cannot be read is a fault and no traceback."""
    named = bundle.rename(bundle.with_name("digits"))
    assert BundleFiles(named).fault() is None
    damage(named, "manifest.json", content)
    assert "not a whole manifest" in str(BundleFiles(named).fault())


def test_a_manifest_that_was_edited_is_no_whole_manifest(bundle: Path) -> None:
    """A manifest with one byte more is not taken, whatever the byte."""
    named = bundle.rename(bundle.with_name("digits"))
    damage(named, "manifest.json", (named / "manifest.json").read_bytes() + b"\n")
    assert "not a whole manifest" in str(BundleFiles(named).fault())


@pytest.mark.parametrize("name", ["/etc/hostname", "../other/manifest.json", "sub/state.safetensors"])
def test_a_name_out_of_the_folder_is_not_opened(bundle: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest that names anything but the files of a bundle is not taken, and nothing but the manifest is opened."""
    named = bundle.rename(bundle.with_name("digits"))
    damage(named, "manifest.json", seal({"sha256": {name: "0" * 64}}))
    files, hashed = BundleFiles(named), list[str]()
    monkeypatch.setattr(files, "_sha256", lambda file: hashed.append(file) or "0" * 64)
    assert str(files.fault()).endswith(f"it names {name!r}, which is no file of a bundle")
    assert hashed == ["manifest.json"]


def test_links_and_other_files_are_not_taken(bundle: Path) -> None:
    """A link in the place of a file, and a file that the manifest does not name, are faults."""
    other = bundle / "weights.safetensors.part"
    other.touch()
    assert str(BundleFiles(bundle).fault()).startswith(f"{other}: the bundle's manifest does not name it")
    other.unlink()
    file = bundle / "weights.safetensors"
    file.rename(bundle.parent / file.name)
    file.symlink_to(bundle.parent / file.name)
    assert str(BundleFiles(bundle).fault()) == f"{file}: it is a link; put the file itself there"


def test_another_bundle_under_a_hash_is_not_taken(bundle: Path) -> None:
    """A folder that is called by the hash of one bundle does not pass with another bundle in it."""
    other = bundle.rename(bundle.with_name("sha256-0123456789ab"))
    assert "the folder's name says 0123456789ab" in str(BundleFiles(other).fault())


def test_a_file_that_grows_is_not_read(bundle: Path) -> None:
    """While a file grows from look to look it is not read; once it has stopped it is read, and found whole."""
    whole = (bundle / "weights.safetensors").read_bytes()
    damage(bundle, "weights.safetensors", whole[:10])
    files = BundleFiles(bundle)
    assert "is not whole" in str(files.fault())
    damage(bundle, "weights.safetensors", whole)
    assert "is being copied" in str(files.fault())
    assert files.fault() is None


def test_the_command_waits_until_the_copy_is_whole(bundle: Path) -> None:
    """The command says what is missing, goes on waiting while a bundle is half there, and ends when it is whole."""
    staged = bundle.with_name("staged")
    bundle.rename(staged)
    with subprocess.Popen(
        [sys.executable, "-m", "service", "wait", bundle, "--seconds", "180"],
        cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, text=True,
    ) as waiting:  # fmt: skip
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == f"waiting for the bundle: {bundle}: the folder is not there yet\n"
        bundle.mkdir()
        for name in ("manifest.json", "state.safetensors"):
            shutil.copy(staged / name, bundle)
        (bundle / "weights.safetensors").write_bytes(CONTENT["weights.safetensors"][:100])
        time.sleep(2.5)
        assert waiting.poll() is None, "it has taken half of a bundle"
        shutil.copy(staged / "weights.safetensors", bundle)
        assert waiting.wait(timeout=180) == 0
        assert waiting.stdout.readlines()[-1] == f"{bundle}: the bundle is whole\n"


def test_sigterm_ends_the_wait(tmp_path: Path) -> None:
    """SIGTERM ends the command by a handler of its own, since the first process of a container ignores the default."""
    with subprocess.Popen(
        [sys.executable, "-m", "service", "wait", tmp_path / "none"],
        cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, text=True,
    ) as waiting:  # fmt: skip
        assert waiting.stdout is not None
        waiting.stdout.readline()
        waiting.send_signal(signal.SIGTERM)
        assert waiting.wait(timeout=180) == 128 + signal.SIGTERM


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv, which gives a process another user")
@pytest.mark.skipif(
    hasattr(os, "getuid") and os.getuid() != 0, reason="only root can make a file unreadable for itself"
)
def test_an_unreadable_file_is_named(bundle: Path) -> None:
    """A file that this user may not read is named with the reason, and is no traceback."""
    (bundle / "state.safetensors").chmod(0)
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-m", "service", "wait", bundle]
    done = subprocess.run(
        [*command, "--seconds", "0"], cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{bundle / 'state.safetensors'}: the user 0 cannot read it (Permission denied)")


def test_no_bundle_is_named() -> None:
    """Without a bundle, by argument or variable, the command ends with status 2 and says what to name."""
    done = cli("wait")
    assert (done.returncode, done.stderr) == (2, "name the bundle to wait for, or set GUARDHOUSE_BUNDLE\n")


def test_the_command_is_light() -> None:
    """The command imports no torch, and one small module of the library: an init container has little memory."""
    code = (
        "import sys\nfrom service.__main__ import run\nsys.argv = ['guardhouse', 'wait', '/none', '--seconds', '0']\n"
        "try:\n    run()\nexcept SystemExit:\n    pass\n"
        "heavy = ('torch', 'numpy', 'bentoml', 'guards.types', 'guards.config')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]"
