"""Exported programs: what is loaded, what is refused, and that no code of a file is ever run."""

import json
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from marking_pickle import pickled
from torch import nn

from guards import Mistake
from guards.model.program import load_program, save_program, unflatten

Members = dict[str, bytes]


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "it-was-run"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the tensor toy as torch does it, sample inputs and all."""
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(tiny_models.program("tensor"), path)
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


@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_program_is_loaded(kind: str, tmp_path: Path) -> None:
    """A program gives the module's logits for any number of rows, and knows its last linear layer."""
    save_program(tiny_models.program(kind), tmp_path / "m.pt2")
    net, last = unflatten(load_program(tmp_path / "m.pt2"))
    assert last == "head"
    original = {"tabular": tiny_models.tabular_net, "image": tiny_models.image_net, "tensor": tiny_models.tensor_net}[
        kind
    ]()
    for count in (1, 2, 17):
        x = tiny_models.inputs(kind, count, 0).nan_to_num(1.0)
        assert torch.allclose(net(x), original(x), atol=1e-6)


def test_saved_program_holds_no_pickle(tmp_path: Path) -> None:
    """The written program has no sample inputs, and holds no pickle."""
    save_program(tiny_models.program("image"), tmp_path / "m.pt2")
    assert [name for name, content in members(tmp_path / "m.pt2").items() if b"\x80\x02" in content[:2]] == []


def test_sample_inputs_are_left_alone(archive: Path) -> None:
    """An archive of torch.export.save holds a pickle of sample inputs, and is loaded without it."""
    assert any("sample_inputs" in name and content for name, content in members(archive).items())
    assert load_program(archive).example_inputs in (None, {}, ())


def test_program_for_one_batch_size_is_refused() -> None:
    """A program that was exported without a dynamic batch is refused with how to export it."""
    with pytest.raises(Mistake, match=r"batches of exactly 2 rows: export it with dynamic_shapes"):
        unflatten(tiny_models.program("tensor", dynamic=False))


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
    assert torch.allclose(unflatten(load_program(path))[0](x), tiny_models.tensor_net()(x), atol=1e-6)
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
        (edit(MODEL, other_operator), "calls 'torch.hub.load', which is not an operator of torch"),
        (edit(MODEL, size("open('MARK')")), "has a size computed by 'open', which is not arithmetic"),
        (
            edit(MODEL, size("Symbol.__init__.__globals__")),
            "has a size computed by '__init__', which is not arithmetic",
        ),
        (without(WEIGHTS), "is not an archive of torch.export.save"),
        (without(MODEL), "is not an archive of torch.export.save"),
        (edit(MODEL, lambda document: document.clear()), "is not an archive of torch.export.save"),
        (lambda root, found: found | {f"{root}/{MODEL}": b"{"}, "is not an archive of torch.export.save"),
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
    with pytest.raises(Mistake, match=r"is not an archive of torch.export.save"):
        load_program(tmp_path / "m.pt2")
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x05\x06" + bytes(18)])
def test_file_that_is_no_program(tmp_path: Path, content: bytes) -> None:
    """A file that is no archive, or missing, is refused in a sentence."""
    with pytest.raises(Mistake, match=r"model.program: no file"):
        load_program(tmp_path / "m.pt2")
    (tmp_path / "m.pt2").write_bytes(content)
    with pytest.raises(Mistake, match=r"is not an archive of torch.export.save"):
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

    save_program(tiny_models.program("tensor", net=Sizes()), tmp_path / "m.pt2")
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

    assert unflatten(tiny_models.program("tensor", net=Bare()))[1] is None


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of run_decompositions, which is the user's
def test_the_last_linear_layer_of_a_decomposed_program() -> None:
    """Behind run_decompositions() the last linear layer is still found, and its input tapped."""
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    module, last_linear = unflatten(tiny_models.program("tensor", net=net).run_decompositions())
    assert last_linear == "2"
    taken: list[torch.Tensor] = []
    module.get_submodule("2").register_forward_pre_hook(lambda _m, args: taken.append(args[0]))
    x = torch.rand(6, 5)
    assert torch.allclose(module(x), net(x), atol=1e-6)
    assert torch.allclose(taken[0], net[:2](x), atol=1e-6)


def test_a_program_that_takes_its_input_by_name() -> None:
    """A program that was exported with a named argument is refused with how to export it."""
    dims = {"input": {0: torch.export.Dim("batch")}}
    program = torch.export.export(nn.Linear(5, 3), (), {"input": torch.rand(4, 5)}, dynamic_shapes=dims)
    with pytest.raises(Mistake, match=r"takes its input by the name 'input', .* by its place: export it with torch"):
        unflatten(program)
