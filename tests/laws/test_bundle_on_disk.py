"""A bundle gives the same gateway before and after the disk, refuses changed files, and holds no pickle."""

import hashlib
import pickletools
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from torch import Tensor

from guards import Batch, Bundle, Mistake
from guards.bundle.fit_rows import fit_rows
from guards.bundle.load_model import make_model
from guards.bundle.manifest import read_manifest
from guards.config.config import parse

CASES = [(kind, source) for kind in tiny_models.KINDS for source in ("builder", "program")]


def fitted(kind: str, source: str) -> Bundle:
    """Fit the toy of a kind, from its builder or from an exported program."""
    if source == "builder":
        return tiny_models.fitted(kind).bundle
    config = parse(
        tiny_models.document(kind, model={"program": "m.pt2", "classes": list(tiny_models.CLASSES), "device": "cpu"})
    )
    program, schema = tiny_models.program(kind), tiny_models.schema(kind)
    model = make_model(config, schema, outputs=3, folder=None, weights=None, program=program)
    train, heldout = tiny_models.rows(kind), tiny_models.rows(kind, 400, 50)
    return fit_rows(
        config, schema=schema, classes=tiny_models.CLASSES, model=model, train=train, heldout=heldout, program=program
    ).bundle


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Bundle, Path]:
    """Write the bundle of a kind and source."""
    kind, source = request.param
    path = tmp_path_factory.mktemp(f"{kind}-{source}") / "bundle"
    bundle = fitted(kind, source)
    bundle.save(path)
    return kind, bundle, path


def batch(kind: str) -> Batch:
    """Make up rows, some missing, unseen or far off."""
    x = tiny_models.inputs(kind, 37, 3)
    if kind == "tabular":
        x[4, 3], x[5] = -1.0, torch.nan
    x[6] *= 9 if kind != "tabular" else 1
    return Batch(x, {"region": torch.arange(37) % 4})


def tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Find every tensor of an outcome, by its place."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from tensors(inner, f"{name}.{key}")
    elif is_dataclass(value):
        for item in fields(value):
            yield from tensors(getattr(value, item.name), f"{name}.{item.name}")


def test_verdicts_are_the_same_to_the_bit(saved: tuple[str, Bundle, Path]) -> None:
    """Loaded, a bundle gives every logit, score, p-value, flag, action, cause and set as it did before."""
    kind, bundle, path = saved
    rows = batch(kind)
    before = dict(tensors(bundle.pipeline()(rows)))
    loaded = Bundle.load(path)
    after = dict(tensors(loaded.pipeline()(rows)))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype, name
        assert torch.equal(tensor.nan_to_num(7.0), after[name].nan_to_num(7.0)), name
        assert torch.equal(tensor.isnan(), after[name].isnan()), name
    assert (bundle.id, loaded.id) == ("", read_manifest(path).id)
    assert loaded.cause_names == bundle.cause_names
    loaded.run_self_test(loaded.pipeline())


def test_monitors_count_the_same(saved: tuple[str, Bundle, Path]) -> None:
    """Loaded, a bundle's monitors give the same series for the same rows."""
    kind, bundle, path = saved
    rows, loaded = batch(kind), Bundle.load(path)
    for before, after in zip(bundle.monitors, loaded.monitors, strict=True):
        known = [series.value for series in before.series()]
        before.observe(rows, bundle.pipeline()(rows))
        after.observe(rows, loaded.pipeline()(rows))
        assert before.series() == after.series()
        assert [series.value for series in after.series()] != known


def test_saved_again_it_is_the_same_bundle(saved: tuple[str, Bundle, Path], tmp_path: Path) -> None:
    """A loaded bundle that is saved anew holds the same tensors, config, schema and labels."""
    _, _, path = saved
    loaded = Bundle.load(path)
    loaded.save(tmp_path / "again")
    manifests = [read_manifest(folder) for folder in (path, tmp_path / "again")]
    one, other = (each.model_dump(exclude={"digest", "sha256"}) for each in manifests)
    assert one == other  # torch.export does not write a program twice to the bit
    for name in ("state.safetensors", "weights.safetensors"):
        if (path / name).is_file():
            assert (tmp_path / "again" / name).read_bytes() == (path / name).read_bytes()


def test_changed_file_is_refused(saved: tuple[str, Bundle, Path]) -> None:
    """One bit changed anywhere, one byte more or less, or no file at all: the bundle is refused by the file's name."""
    _, _, path = saved
    files = [file for file in path.iterdir() if file.name != "manifest.json"]
    assert len(files) == 2
    for file in files:
        content = file.read_bytes()
        places = [0, 7, len(content) // 2, len(content) - 1]
        flipped = [content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :] for i in places]
        for changed in (*flipped, content[:-1], content + b"\0", b""):
            file.write_bytes(changed)
            with pytest.raises(Mistake, match=rf"{file.name}: it is not the file that was fitted"):
                Bundle.load(path)
        file.unlink()
        with pytest.raises(Mistake, match=rf"{file.name}: the file is missing"):
            Bundle.load(path)
        file.write_bytes(content)
    assert Bundle.load(path).id


def test_the_id_is_of_every_byte(saved: tuple[str, Bundle, Path]) -> None:
    """The id is the hash of the manifest, which has the hash of every other file."""
    _, _, path = saved
    manifest = path / "manifest.json"
    content = manifest.read_bytes()
    assert Bundle.load(path).id == f"sha256:{hashlib.sha256(content).hexdigest()}"
    for file in path.iterdir():
        if file != manifest:
            assert hashlib.sha256(file.read_bytes()).hexdigest().encode() in content


def test_every_changed_byte_of_the_manifest_is_refused(tmp_path: Path) -> None:
    """Whichever byte of the manifest is changed, left out or put in, white space too, no command reads the bundle."""
    fitted("tensor", "builder").save(tmp_path / "bundle")
    manifest = tmp_path / "bundle" / "manifest.json"
    content = manifest.read_bytes()
    passed = list[bytes]()
    for place, byte in enumerate(content):
        before, after = content[:place], content[place + 1 :]
        for between in (bytes([byte ^ 1]), b"", bytes([byte]) + b" "):
            manifest.write_bytes(before + between + after)
            with suppress(Mistake):
                read_manifest(manifest.parent, verify=False)
                passed.append(manifest.read_bytes())
    assert passed == []
    manifest.write_bytes(content)
    assert read_manifest(manifest.parent).classes == tiny_models.CLASSES


def test_no_file_holds_a_pickle(saved: tuple[str, Bundle, Path]) -> None:
    """No file of a bundle and no member of an archive in it is a pickle, or named as one unless it is empty."""
    _, _, path = saved
    found = dict(contents(path))
    assert len(found) >= 3
    for name, content in found.items():
        assert not content or not name.endswith((".pkl", ".pickle", ".pt", ".pth", ".so", ".py")), name
        assert not is_pickle(content), name


def contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Give every file, and every member of every archive."""
    for file in path.iterdir():
        yield file.name, file.read_bytes()
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                yield from ((name, archive.read(name)) for name in archive.namelist())


def is_pickle(content: bytes) -> bool:
    """Tell whether bytes are a stream of pickle opcodes to its STOP."""
    try:
        return sum(1 for _ in pickletools.genops(content)) > 1
    except Exception:  # noqa: BLE001 - pickletools raises whatever comes of bytes that are none
        return False


def test_pickles_would_be_found(tmp_path: Path) -> None:
    """The search above finds the pickle in a file of torch.save."""
    torch.save({"x": torch.zeros(2)}, tmp_path / "weights.zip")
    assert any(is_pickle(content) for _, content in contents(tmp_path))
