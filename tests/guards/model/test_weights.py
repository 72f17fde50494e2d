"""Weights: what is read, which names are matched, what is refused, and that no code of a file is ever run."""

import pickle
from pathlib import Path

import pytest
import tiny_models
import torch
from marking_pickle import Booby, pickled
from safetensors.torch import save_file
from torch import nn

from guards import Mistake
from guards.model.program import load_program, save_program
from guards.model.weights import load_weights, read_weights
from guards.notices import Notices


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "it-was-run"


def test_weights_are_read(tmp_path: Path) -> None:
    """A state dict is read from safetensors, and from a .pt file that holds tensors alone."""
    state = tiny_models.tensor_net().state_dict()
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        read = read_weights(tmp_path / name)
        assert read.keys() == state.keys()
        assert all(torch.equal(read[key], state[key]) for key in state)


def test_pickle_in_weights_is_refused(tmp_path: Path, mark: Path) -> None:
    """A .pt file with anything but tensors is refused, and what it holds is not run."""
    (tmp_path / "w.pt").write_bytes(pickled(mark))
    with pytest.raises(
        Mistake, match=r"holds more than tensors \(a exec\), which is never loaded .*; save a state_dict"
    ):
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
    assert "'weight' has shape (2, 4) in the file and (2, 3) in the module" in str(refused.value)
    net = nn.Linear(3, 2)
    load_weights(net, {"weight": torch.ones(2, 3), "bias": torch.zeros(2)})
    assert net(torch.ones(1, 3)).tolist() == [[3, 3]]


def loaded(state: dict[str, torch.Tensor], net: nn.Module | None = None) -> list[str]:
    """Load a toy's weights under other names, see that they are the toy's, and give the notes."""
    known, net, notices = tiny_models.tensor_net(), net or tiny_models.Flat(5, 3), Notices()
    load_weights(net, state, notices)
    x = torch.rand(3, 5)
    assert torch.equal(net(x), known(x))
    return notices.notes


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "_orig_mod.module.", "model.net."])
def test_prefixes_are_stripped(prefix: str) -> None:
    """Prefixes that training wrappers put before the names are stripped, with a note."""
    state = tiny_models.tensor_net().state_dict()
    notes = loaded({f"{prefix}{name}": tensor for name, tensor in state.items()})
    assert notes == [f"model.weights: {prefix!r} was stripped from the names of the weights"]
    assert loaded(state) == []


def test_other_weights_beside_a_prefix() -> None:
    """Weights of a loss beside the model's weights are left out, and a note says so."""
    state = {f"model.{name}": tensor for name, tensor in tiny_models.tensor_net().state_dict().items()}
    notes = loaded(state | {"loss.weight": torch.ones(3)})
    assert notes[1] == "model.weights: 'loss.weight' of the file were left out, because the module does not have them"


@pytest.mark.parametrize("name", ["state_dict", "model_state_dict", "model", "net"])
def test_checkpoints_are_taken(name: str, tmp_path: Path) -> None:
    """The state dict in a checkpoint is taken, with a note."""
    state, notices = tiny_models.tensor_net().state_dict(), Notices()
    torch.save({"epoch": 3, name: state, "optimizer": {"lr": 0.1}}, tmp_path / "last.pt")
    read = read_weights(tmp_path / "last.pt", notices)
    assert loaded(read) == []
    assert notices.notes == [f"model.weights: last.pt is a checkpoint; the weights under {name!r} were taken"]


def test_two_state_dicts_are_refused(tmp_path: Path) -> None:
    """A checkpoint that holds two models is refused with their names."""
    state = tiny_models.tensor_net().state_dict()
    torch.save({"model": state, "net": state}, tmp_path / "w.pt")
    with pytest.raises(Mistake, match=r"a checkpoint with several state dicts \(model, net\)"):
        read_weights(tmp_path / "w.pt")


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    """A whole module in a .pt file is refused with its class and how to save its weights."""
    torch.save(tiny_models.tensor_net(), tmp_path / "w.pt")
    with pytest.raises(Mistake, match=r"holds more than tensors \(a .*Flat\), .* save a state_dict: safetensors"):
        read_weights(tmp_path / "w.pt")


def test_the_content_decides(tmp_path: Path) -> None:
    """A file is read by its content, whatever its name ends with."""
    state = tiny_models.tensor_net().state_dict()
    save_file(state, tmp_path / "w.pt")
    torch.save(state, tmp_path / "w.safetensors")
    for name in ("w.pt", "w.safetensors"):
        assert loaded(read_weights(tmp_path / name)) == []


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_files_of_another_kind(tmp_path: Path) -> None:
    """A program or a scripted module given as weights, and weights given as a program, each have their own error."""
    state = tiny_models.tensor_net().state_dict()
    save_program(tiny_models.program("tensor"), tmp_path / "program")
    torch.jit.save(torch.jit.script(tiny_models.tensor_net()), tmp_path / "scripted")
    torch.save(state, tmp_path / "torch")
    save_file(state, tmp_path / "safetensors")
    with pytest.raises(Mistake, match=r"is a program of torch.export: give it as model.program"):
        read_weights(tmp_path / "program")
    with pytest.raises(Mistake, match=r"is a module of torch.jit.save, which is code: save its weights"):
        read_weights(tmp_path / "scripted")
    for name, sentence in (
        ("torch", "holds weights or a pickled module, not a program: give weights as model.weights"),
        ("safetensors", "holds weights, not a program: give it as model.weights, with a builder"),
        ("scripted", r"holds a module of torch.jit.save, not a program: save torch.export.export"),
    ):
        with pytest.raises(Mistake, match=sentence):
            load_program(tmp_path / name)


def test_names_that_do_not_fit_are_few() -> None:
    """Of a hundred names that do not fit, the error lists the first three and the number of the rest."""
    many = {f"layer{index}.weight": torch.zeros(1) for index in range(100)}
    with pytest.raises(Mistake) as refused:
        load_weights(tiny_models.tensor_net(), many)
    missing, unexpected = refused.value.sentences
    assert "4 of its 4 names are not in the file ('body.1.weight', 'body.1.bias', 'head.weight' and 1 more)" in missing
    assert "100 names of the file are not in the module ('layer0.weight'," in unexpected
    assert "and 97 more" in unexpected


def test_another_number_of_classes() -> None:
    """A shape that does not fit is reported with both shapes and the likely reason."""
    state = tiny_models.tensor_net().state_dict() | {"head.weight": torch.zeros(10, 8), "head.bias": torch.zeros(10)}
    with pytest.raises(Mistake) as refused:
        load_weights(tiny_models.tensor_net(), state)
    assert refused.value.sentences[0] == (
        "model.weights: they do not fit the builder's module: 'head.weight' has shape (10, 8) in the file and (3, 8) "
        "in the module: has the number of classes or of categories changed?"
    )


def test_tied_weights() -> None:
    """A file of safetensors that leaves out the second name of one tensor is taken, since the module ties them."""
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    net[1].weight = net[0].weight
    load_weights(net, {"0.weight": torch.eye(3)})
    x = torch.rand(2, 3)
    assert torch.equal(net(x), x)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("old_file", [True, False])
def test_names_of_weight_norm(prefix: str, old_file: bool) -> None:
    """The parts of weight_norm are taken by their old and by their new names, with a note."""
    makers = [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm]
    saved, builder = makers if old_file else makers[::-1]
    torch.manual_seed(0)
    trained, fresh = nn.Sequential(saved(nn.Linear(3, 2))), nn.Sequential(builder(nn.Linear(3, 2)))
    notices, x = Notices(), torch.rand(4, 3)
    load_weights(fresh, {f"{prefix}{name}": value for name, value in trained.state_dict().items()}, notices)
    assert torch.allclose(fresh(x), trained(x), atol=1e-6)
    assert "different names for the parts of weight_norm" in notices.notes[0]


def test_other_state_dicts_of_a_checkpoint_are_named(tmp_path: Path) -> None:
    """If a checkpoint holds averaged weights beside the model's, the note says that they were not taken."""
    state, notices = tiny_models.tensor_net().state_dict(), Notices()
    torch.save({"model": state, "model_ema": state, "epoch": 3}, tmp_path / "last.pt")
    read_weights(tmp_path / "last.pt", notices)
    assert notices.notes[0].endswith("the weights under 'model' were taken, and not those under 'model_ema'")


def test_a_state_dict_under_a_name_of_ones_own(tmp_path: Path) -> None:
    """The only state dict of a checkpoint is taken, whatever its name; of two, neither is."""
    state, notices = tiny_models.tensor_net().state_dict(), Notices()
    torch.save({"classifier": state, "optimizer": {"state": {}, "param_groups": []}}, tmp_path / "w.pt")
    assert loaded(read_weights(tmp_path / "w.pt", notices)) == []
    assert notices.notes == ["model.weights: w.pt is a checkpoint; the weights under 'classifier' were taken"]
    torch.save({"teacher": state, "student": state}, tmp_path / "w.pt")
    with pytest.raises(Mistake, match=r"a checkpoint with several state dicts \(teacher, student\)"):
        read_weights(tmp_path / "w.pt")


def test_a_pointer_of_git_lfs(tmp_path: Path) -> None:
    """A pointer file of Git LFS is named as such, as weights and as a program."""
    path = tmp_path / "w.pt"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n")
    with pytest.raises(Mistake, match=r"is a pointer of Git LFS, .*: run `git lfs pull`"):
        read_weights(path)
    with pytest.raises(Mistake, match=r"holds a pointer of Git LFS, .*: run `git lfs pull`"):
        load_program(path)
