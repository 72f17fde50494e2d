"""The manifest: what it names and describes, and everything that is refused when it is read."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from forged_bundles import forge

from guards import Bundle, Mistake
from guards.bundle.manifest import read_manifest
from guards.config.config import parse


@pytest.mark.parametrize("name", ["state.safetensors", "weights.safetensors"])
def test_changed_or_missing_file_is_refused(copy: Path, name: str) -> None:
    """A file that was changed or is missing is refused by its name."""
    content = bytearray((copy / name).read_bytes())
    content[-1] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(Mistake, match=rf"{name}: it is not the file that was fitted \(sha256 differs\)"):
        Bundle.load(copy)
    (copy / name).unlink()
    with pytest.raises(Mistake, match=f"{name}: the file is missing"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m["config"].update(surprise=1), "manifest.json: surprise: unknown key"),
        (
            lambda m: m["config"]["guards"][0]["detector"].update(kind="gone"),
            "manifest.json: guards.0.detector: 'gone' is not known; there are",
        ),
        (lambda m: m.pop("config"), "manifest.json: it cannot be read; fit the bundle anew"),
        (lambda m: m.update(config=[]), "manifest.json: a config is a mapping"),
        (lambda m: m.update(format=1), "manifest.json: it was written by another version of Guardhouse (format 1, and"),
        (lambda m: m.update(format="3" * 99), "version of Guardhouse (format '3333333333333333333, and this version"),
        (lambda m: m.pop("sha256"), "manifest.json: sha256: Field required; fit the bundle anew"),
        (lambda m: m.pop("schema"), "manifest.json: schema: Field required; fit the bundle anew"),
        (lambda m: m.update(more=1), "manifest.json: more: Extra inputs are not permitted; fit the bundle anew"),
        (lambda m: m.update(temperature="1"), "manifest.json: temperature: Input should be a valid number"),
        (lambda m: m.update(temperature=0), "manifest.json: temperature: Input should be greater than 0"),
        (lambda m: m.update(classes=["a", "b", "c"]), "manifest.json: classes: the labels differ from model.classes"),
        (
            lambda m: m["sha256"].pop("weights.safetensors"),
            "sha256: it must name state.safetensors and weights.safet",
        ),
    ],
)
def test_manifest_is_refused(copy: Path, change: Callable[[dict[str, Any]], Any], sentence: str) -> None:
    """A manifest that is not whole, or of another version, is refused in a sentence, whoever has sealed it."""
    forge(copy, change)
    with pytest.raises(Mistake) as refused:
        Bundle.load(copy)
    assert sentence in str(refused.value)


def test_manifest_that_was_edited_is_refused(copy: Path) -> None:
    """A manifest that somebody has edited is refused, though the manifest would make sense."""
    manifest = copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"temperature": ', '"temperature": 1'))
    with pytest.raises(Mistake, match=r"manifest.json: it is not the manifest that was fitted \(its digest differs\)"):
        Bundle.load(copy)


def test_digest_can_be_checked_without_guardhouse(copy: Path) -> None:
    """The digest is the hash of all lines but the second, so that two commands of a shell print the digest."""
    lines = (copy / "manifest.json").read_bytes().splitlines(keepends=True)
    assert hashlib.sha256(b"".join([lines[0], *lines[2:]])).hexdigest() in lines[1].decode()


def test_only_the_bundle_that_was_asked_for_is_loaded(copy: Path) -> None:
    """With an id any other bundle is refused, also one that somebody has changed and sealed; both ids are named."""
    wanted = Bundle.load(copy).id
    assert Bundle.load(copy, bundle_id=wanted).id == wanted
    forge(copy, lambda manifest: manifest.update(temperature=9.7))
    assert Bundle.load(copy).calibrated.temperature == 9.7
    found = Bundle.load(copy).id
    with pytest.raises(Mistake, match=rf"{copy}: the id of this bundle is {found}, and .* asked for is {wanted}; name"):
        Bundle.load(copy, bundle_id=wanted)


@pytest.mark.parametrize("name", ["/etc/hostname", "../other/manifest.json", "..", "", "sub/state.safetensors", "a\0b"])
def test_names_out_of_the_folder_are_never_opened(copy: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest that names anything but the files of a bundle is refused before a file is opened."""
    forge(copy, lambda manifest: manifest["sha256"].update({name: "0" * 64}))
    opened = list[str]()
    way = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *rest, **more: opened.append(path.name) or way(path, *rest, **more))
    with pytest.raises(Mistake, match=r"manifest.json: sha256: .* is no file of a bundle; fit the bundle anew"):
        read_manifest(copy)
    assert set(opened) <= {"manifest.json"}


@pytest.mark.parametrize("name", ["manifest.json", "weights.safetensors"])
def test_links_are_refused(copy: Path, name: str, tmp_path: Path) -> None:
    """A file of the bundle that is a link is refused, though the link leads to the very file."""
    (copy / name).rename(tmp_path / name)
    (copy / name).symlink_to(tmp_path / name)
    with pytest.raises(Mistake, match=rf"{name}: it is a link or no file; put the file itself there"):
        Bundle.load(copy)


@pytest.mark.parametrize("name", ["gateway.yaml", "model.py", ".hidden", "folder/"])
def test_files_that_are_not_named_are_refused(copy: Path, name: str) -> None:
    """What lies in the folder and is not named by the manifest is refused."""
    (copy / name).mkdir() if name.endswith("/") else (copy / name).touch()
    with pytest.raises(Mistake, match=rf"{copy / name}: the bundle's manifest does not name it; remove it, or copy"):
        Bundle.load(copy)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null", '{"sha256": 3}', "\x00", "[" * 9999])
def test_manifest_that_is_no_manifest(copy: Path, content: str) -> None:
    """Anything else in its place is refused in a sentence."""
    (copy / "manifest.json").write_text(content)
    with pytest.raises(Mistake, match=r"manifest.json: "):
        Bundle.load(copy)


def test_no_bundle(tmp_path: Path) -> None:
    """A folder without a manifest is refused with how to make a bundle."""
    with pytest.raises(Mistake, match="no bundle there; make one with `guardhouse fit CONFIG --out"):
        Bundle.load(tmp_path)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv, which takes root's rights away")
@pytest.mark.parametrize("name", ["manifest.json", "weights.safetensors"])
def test_an_unreadable_file_is_refused_in_a_sentence(copy: Path, name: str) -> None:
    """A file of the bundle that this user may not read is named; there is no traceback."""
    (copy / name).chmod(0)
    code = (
        "import sys; from pathlib import Path; from guards import Bundle, Mistake\n"
        "try:\n    Bundle.load(Path(sys.argv[1]))\nexcept Mistake as refused:\n    print(refused)\n"
    )
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", code, copy]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith(f"{copy / name}: it cannot be read (Permission denied); "), done.stderr


def test_the_manifest_describes_without_tensors(copy: Path) -> None:
    """A bundle's config, schema and labels are read without its tensors."""
    (copy / "weights.safetensors").write_bytes(b"")
    manifest = read_manifest(copy, verify=False)
    assert manifest.config == parse(tiny_models.document("tensor"))
    assert manifest.row_schema == tiny_models.schema("tensor")
    assert manifest.classes == tiny_models.CLASSES
