"""Builders, weights and programs: what is loaded, what is refused, and that nothing in a file is ever run."""

import io
import json
import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from safetensors.torch import save_file
from torch import nn

from guards import Mistake
from guards.config import parse
from guards.loading import (
    call_builder,
    load_program,
    load_weights,
    make_model,
    read_weights,
    save_program,
    unflatten,
)

Members = dict[str, bytes]


class Booby:
    """An object that leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (exec, (f"open({str(self.mark)!r}, 'w').close()",))


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "it-was-run"


def pickled(mark: Path) -> bytes:
    stream = io.BytesIO()
    torch.save({"weight": torch.zeros(1), "booby": Booby(mark)}, stream)
    return stream.getvalue()


def test_builder_beside_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder is imported from the config's folder, which goes to the end of the import path."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside_the_config.py").write_text("from torch import nn\ndef build(): return nn.Linear(3, 2)\n")
    (tmp_path / "json.py").write_text("raise RuntimeError('a module of the user shadows an installed one')\n")
    assert isinstance(call_builder("beside_the_config:build", tmp_path), nn.Linear)
    assert sys.path[-1] == str(tmp_path)
    call_builder("beside_the_config:build", tmp_path)
    assert sys.path.count(str(tmp_path)) == 1


@pytest.mark.parametrize(
    ("builder", "sentence"),
    [
        (
            "no_such_module:build",
            "model.builder: cannot import 'no_such_module:build' (No module named 'no_such_module')",
        ),
        ("toys:no_such_function", "model.builder: module 'toys' has no 'no_such_function'"),
        ("toys:not_a_net", "model.builder: toys:not_a_net returned a str, not a torch.nn.Module"),
    ],
)
@pytest.mark.parametrize("folder", [None, Path("somewhere")])
def test_builder_is_refused(builder: str, sentence: str, folder: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder that is not there or gives no module is refused, with where it was looked for."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(Mistake) as refused:
        call_builder(builder, folder)
    said = str(refused.value)
    assert said.startswith(sentence)
    if "no_such_module" in builder:
        assert ("GUARDHOUSE_CONFIG" in said) == (folder is None)
        assert ("looked in somewhere" in said) == (folder is not None)


def test_weights_are_read(tmp_path: Path) -> None:
    """A state dict is read from safetensors, and from a .pt file that holds tensors alone."""
    state = toys.tensor_net().state_dict()
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        read = read_weights(tmp_path / name)
        assert read.keys() == state.keys()
        assert all(torch.equal(read[key], state[key]) for key in state)


def test_pickle_in_weights_is_refused(tmp_path: Path, mark: Path) -> None:
    """A .pt file with anything but tensors is refused, and what it holds is not run."""
    (tmp_path / "w.pt").write_bytes(pickled(mark))
    with pytest.raises(Mistake, match="holds more than tensors; save a state_dict, best as safetensors"):
        read_weights(tmp_path / "w.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Booby(mark)))
    with pytest.raises(Mistake, match=r"model.weights"):
        read_weights(tmp_path / "plain.pt")
    assert not mark.exists()


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"weight": 3}, torch.zeros(2)])
def test_weights_that_are_no_state_dict(tmp_path: Path, content: object) -> None:
    """Tensors that are no state dict are refused."""
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(Mistake, match="holds no state_dict of tensors"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x80\x02K\x01.", bytes(64)])
def test_broken_weights(tmp_path: Path, name: str, content: bytes) -> None:
    """A file that is no state dict at all, or missing, is refused in a sentence."""
    with pytest.raises(Mistake, match=rf"model.weights: no file .*{name}"):
        read_weights(tmp_path / name)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Mistake, match=r"model.weights: "):
        read_weights(tmp_path / name)


def test_weights_that_do_not_fit() -> None:
    """Weights of another module are refused with what is missing and what is too many."""
    with pytest.raises(Mistake, match="do not fit the builder's module") as refused:
        load_weights(nn.Linear(3, 2), {"weight": torch.zeros(2, 4), "extra": torch.zeros(1)})
    assert "extra" in str(refused.value)
    assert "size mismatch" in str(refused.value)
    net = nn.Linear(3, 2)
    load_weights(net, {"weight": torch.ones(2, 3), "bias": torch.zeros(2)})
    assert net(torch.ones(1, 3)).tolist() == [[3, 3]]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the tensor toy as torch does it, sample inputs and all."""
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(toys.program("tensor"), path)
    return path


def members(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(archive: Path, path: Path, change: Callable[[str, Members], Members]) -> Path:
    found = members(archive)
    root = next(iter(found)).split("/")[0]
    with zipfile.ZipFile(path, "w") as copy:
        for name, content in change(root, found).items():
            copy.writestr(name, content)
    return path


@pytest.mark.parametrize("kind", toys.KINDS)
def test_program_is_loaded(kind: str, tmp_path: Path) -> None:
    """A program gives the module's logits for any number of rows, and knows its last linear layer."""
    save_program(toys.program(kind), tmp_path / "m.pt2")
    net, last = unflatten(load_program(tmp_path / "m.pt2"))
    assert last == "head"
    original = {"tabular": toys.tabular_net, "image": toys.image_net, "tensor": toys.tensor_net}[kind]()
    for count in (1, 2, 17):
        x = toys.inputs(kind, count, 0).nan_to_num(1.0)
        assert torch.allclose(net(x), original(x), atol=1e-6)


def test_saved_program_holds_no_pickle(tmp_path: Path) -> None:
    """What the bundle writes has no sample inputs, and nothing in it is a pickle."""
    save_program(toys.program("image"), tmp_path / "m.pt2")
    assert [name for name, content in members(tmp_path / "m.pt2").items() if b"\x80\x02" in content[:2]] == []


def test_sample_inputs_are_left_alone(archive: Path) -> None:
    """An archive of torch.export.save holds a pickle of sample inputs, and is loaded without it."""
    assert any("sample_inputs" in name and content for name, content in members(archive).items())
    assert load_program(archive).example_inputs in (None, {}, ())


def test_program_as_a_model(archive: Path) -> None:
    """A program is wrapped like a builder's module: same logits, same features, a head."""
    config = parse(toys.document("tensor", model={"program": "model.pt2"}))
    program = load_program(archive)
    wrapped = make_model(config, toys.schema("tensor"), outputs=3, folder=None, weights=None, program=program)
    built = toys.model("tensor")
    x = toys.inputs("tensor", 9, 1)
    assert torch.allclose(wrapped(x).logits, built(x).logits, atol=1e-6)
    assert torch.allclose(wrapped(x).features, built(x).features, atol=1e-6)
    assert wrapped.head is not None
    assert built.head is not None
    assert torch.equal(wrapped.head.weight, built.head.weight)


def test_program_for_one_batch_size_is_refused() -> None:
    """A program that was exported without a dynamic batch is refused with how to export it."""
    with pytest.raises(Mistake, match=r"batches of exactly 2 rows: export it with dynamic_shapes"):
        unflatten(toys.program("tensor", dynamic=False))


def sample_inputs(root: str, found: Members, evil: bytes) -> Members:
    return found | {f"{root}/data/sample_inputs/model.pt": evil}


def sample_inputs_in_other_letters(root: str, found: Members, evil: bytes) -> Members:
    del found[f"{root}/data/sample_inputs/model.pt"]
    return found | {f"{root}/data/Sample_Inputs/model.pt": evil}


def legacy_weights(root: str, found: Members, evil: bytes) -> Members:
    return found | {f"{root}/data/weights/model.pt": evil}


def legacy_constants(root: str, found: Members, evil: bytes) -> Members:
    return found | {f"{root}/data/constants/model.pt": evil}


def library(root: str, found: Members, evil: bytes) -> Members:
    return found | {f"{root}/data/aotinductor/model/a.so": evil, f"{root}/data/aotinductor/model/a.json": b"{}"}


@pytest.mark.parametrize(
    "smuggle", [sample_inputs, sample_inputs_in_other_letters, legacy_weights, legacy_constants, library]
)
def test_members_that_torch_would_run_are_left_out(
    archive: Path, tmp_path: Path, mark: Path, smuggle: Callable[[str, Members, bytes], Members]
) -> None:
    """A member that torch would unpickle or load as a library is not shown to it: the program loads without."""
    path = rewritten(archive, tmp_path / "m.pt2", lambda root, found: smuggle(root, found, pickled(mark)))
    x = torch.rand(3, 5)
    assert torch.allclose(unflatten(load_program(path))[0](x), toys.tensor_net()(x), atol=1e-6)
    assert not mark.exists()


def edit(name: str, change: Callable[[Any], None]) -> Callable[[str, Members], Members]:
    def edited(root: str, found: Members) -> Members:
        document = json.loads(found[f"{root}/{name}"])
        change(document)
        return found | {f"{root}/{name}": json.dumps(document).encode()}

    return edited


def without(name: str) -> Callable[[str, Members], Members]:
    return lambda root, found: {key: content for key, content in found.items() if key != f"{root}/{name}"}


WEIGHTS, CONSTANTS, MODEL = (
    "data/weights/model_weights_config.json",
    "data/constants/model_constants_config.json",
    "models/model.json",
)
OPAQUE = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": False, "tensor_meta": None}


def pickled_weight(document: Any) -> None:
    next(iter(document["config"].values()))["use_pickle"] = True


def opaque_constant(document: Any) -> None:
    document["config"]["evil"] = OPAQUE


def other_operator(document: Any) -> None:
    document["graph_module"]["graph"]["nodes"][0]["target"] = "torch.hub.load"


def size(expression: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        text, count = re.subn(r"Symbol\('s\d+', positive=True, integer=True\)", expression, json.dumps(document))
        assert count
        document.clear()
        document.update(json.loads(text))

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (edit(WEIGHTS, pickled_weight), "holds a tensor as a pickle, which is never loaded; export it anew"),
        (edit(CONSTANTS, opaque_constant), "holds a tensor as a pickle, which is never loaded; export it anew"),
        (edit(MODEL, other_operator), "calls 'torch.hub.load', which is no operator of torch"),
        (edit(MODEL, size("open('MARK')")), "has a size computed by 'open', which is no arithmetic"),
        (
            edit(MODEL, size("Symbol.__init__.__globals__")),
            "has a size computed by '__init__', which is no arithmetic",
        ),
        (without(WEIGHTS), "is no archive of torch.export.save"),
        (without(MODEL), "is no archive of torch.export.save"),
        (edit(MODEL, lambda document: document.clear()), "is no archive of torch.export.save"),
        (lambda root, found: found | {f"{root}/{MODEL}": b"{"}, "is no archive of torch.export.save"),
    ],
)
def test_program_is_refused(
    archive: Path, tmp_path: Path, change: Callable[[str, Members], Members], sentence: str
) -> None:
    """A program that would have to be unpickled or evaluated, or is damaged, is refused in a sentence."""
    with pytest.raises(Mistake) as refused:
        load_program(rewritten(archive, tmp_path / "m.pt2", change))
    assert sentence in str(refused.value)


def test_legacy_archive_is_refused(tmp_path: Path, mark: Path) -> None:
    """The archives of old versions of torch hold their weights as pickles, and are refused."""
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("version", "8.2")
        archive.writestr("serialized_exported_program.json", "{}")
        for name in ("state_dict", "constants", "example_inputs"):
            archive.writestr(f"serialized_{name}.pt", pickled(mark))
    with pytest.raises(Mistake, match=r"is no archive of torch.export.save"):
        load_program(tmp_path / "m.pt2")
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x05\x06" + bytes(18)])
def test_file_that_is_no_program(tmp_path: Path, content: bytes) -> None:
    """A file that is no archive, or missing, is refused in a sentence."""
    with pytest.raises(Mistake, match=r"model.program: no file"):
        load_program(tmp_path / "m.pt2")
    (tmp_path / "m.pt2").write_bytes(content)
    with pytest.raises(Mistake, match=r"is no archive of torch.export.save"):
        load_program(tmp_path / "m.pt2")


def test_program_with_computed_sizes_is_loaded(tmp_path: Path) -> None:
    """Arithmetic with the batch size is no code."""

    class Sizes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            doubled = torch.cat([x, x])[: 2 * x.shape[0] - x.shape[0] % 2]
            return self.head(doubled[: x.shape[0]]) * (x.shape[0] // 2 + 1)

    save_program(toys.program("tensor", net=Sizes()), tmp_path / "m.pt2")
    net, _ = unflatten(load_program(tmp_path / "m.pt2"))
    assert net(torch.rand(6, 5)).shape == (6, 3)


def test_program_without_a_linear_layer() -> None:
    """A program whose last product is no module's has no last linear layer to name."""

    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.rand(3, 5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.weight)

    assert unflatten(toys.program("tensor", net=Bare()))[1] is None
