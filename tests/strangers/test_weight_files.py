"""Builders and weight files of users: prefixes, checkpoints, scripts, arguments, printed output."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from newcomers import Newcomer, mlp, numbers, train_input, with_codes
from torch import Tensor, nn

TABLE = numbers("length", "mass", "age")
CLASSES = ("ant", "bee", "cat")
State = dict[str, Tensor]
SCRIPTED = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of its old way to export


def net_and_tables(newcomer: Newcomer) -> Any:
    """Write the perceptron's code and the tables that it labelled."""
    net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=CLASSES)
    return net


def prefixed(prefix: str) -> Callable[[State], State]:
    """Rename every weight."""
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


CHECKPOINTS: dict[str, tuple[Callable[[State], Any], str, str]] = {
    "DataParallel": (prefixed("module."), r"module\.", ""),
    "torch.compile": (prefixed("_orig_mod."), r"_orig_mod\.", ""),
    "both": (prefixed("_orig_mod.module."), r"module\.", ""),
    "state_dict": (lambda state: {"epoch": 3, "arch": "mlp", "state_dict": state, "best": 93.5}, "state_dict", ""),
    "DataParallel in a checkpoint": (
        lambda state: {"epoch": 3, "state_dict": prefixed("module.")(state)},
        r"state_dict.*module\.|module\..*state_dict",
        "",
    ),
    "tutorial": (
        lambda state: {"epoch": 3, "model_state_dict": state, "optimizer_state_dict": {"lr": 0.1}, "loss": 0.2},
        "model_state_dict",
        "model_state_dict",
    ),
    "Lightning": (
        lambda state: {
            "epoch": 3, "global_step": 99, "pytorch-lightning_version": "2.4.0", "hyper_parameters": {"lr": 0.1},
            "state_dict": prefixed("model.")(state), "optimizer_states": [], "lr_schedulers": [],
        },
        "state_dict",
        r"model\.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoint_is_taken_and_said(newcomer: Newcomer, kind: str) -> None:
    """Weights under a prefix or inside a checkpoint are found, with a notice."""
    make, said, refused = CHECKPOINTS[kind]
    net = net_and_tables(newcomer)
    torch.save(make(net.state_dict()), newcomer.folder / "model.pt")
    newcomer.config(model={"weights": "model.pt"})
    newcomer.expect(read=True, said=said, refused=refused)


def test_whole_model_as_a_pickle_is_refused(newcomer: Newcomer) -> None:
    """torch.save(model) is never unpickled, and a state_dict is asked for."""
    torch.save(net_and_tables(newcomer), newcomer.folder / "model.pt")
    newcomer.config(model={"weights": "model.pt"})
    newcomer.expect(refused="state_dict")


@SCRIPTED
def test_scripted_archive_as_weights_is_refused(newcomer: Newcomer) -> None:
    """A file of torch.jit.save is named as such, and a state_dict (or an export) is asked for."""
    net = net_and_tables(newcomer)
    torch.jit.save(torch.jit.trace(net, torch.zeros(2, 3)), newcomer.folder / "model.pt")
    newcomer.config(model={"weights": "model.pt"})
    newcomer.expect(refused=r"script|jit|state_dict")


def test_optimizer_state_as_weights_is_refused(newcomer: Newcomer) -> None:
    """A file of the optimiser's state holds no weights: a state_dict of the model is asked for."""
    net = net_and_tables(newcomer)
    torch.save(torch.optim.Adam(net.parameters()).state_dict(), newcomer.folder / "model.pt")
    newcomer.config(model={"weights": "model.pt"})
    newcomer.expect(refused=r"state_dict|optimi[sz]er")


def test_weights_of_another_width_are_refused(newcomer: Newcomer) -> None:
    """Weights of a layer of another width name the layer, and both sizes."""
    net_and_tables(newcomer)
    other = newcomer.build(mlp(4, 3))
    newcomer.code(mlp(3, 3))
    newcomer.config(model={"weights": newcomer.weights(other)})
    newcomer.expect(refused=r"0\.weight.*4")


def test_weights_that_lack_a_layer_are_refused(newcomer: Newcomer) -> None:
    """Weights saved before a layer was added name the missing layer, and are not loaded in part."""
    net = net_and_tables(newcomer)
    newcomer.code(mlp(3, 3).replace("nn.Linear(8, 3)", "nn.Linear(8, 3), nn.Linear(3, 3)"))
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(refused=r"3\.weight")


@SCRIPTED
def test_scripted_module_is_taken_or_refused(newcomer: Newcomer) -> None:
    """A builder that returns torch.jit.trace(net) or a script is served, or refused with that reason."""
    net = net_and_tables(newcomer)
    weights = newcomer.weights(net)
    newcomer.code(
        "import pathlib\n\nimport torch\nfrom safetensors.torch import load_file\nfrom torch import nn\n\n\n"
        "def build():\n"
        "    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))\n"
        f"    net.load_state_dict(load_file(pathlib.Path(__file__).parent / '{weights}'))\n"
        "    return torch.jit.trace(net.eval(), torch.zeros(2, 3))\n"
    )
    newcomer.config()
    newcomer.expect(read=True, refused=r"script|jit|trace")


def test_builder_with_arguments_is_refused(newcomer: Newcomer) -> None:
    """A builder that needs `num_classes` is refused, and the argument is named."""
    net = net_and_tables(newcomer)
    newcomer.code(mlp(3, 3).replace("def build():", "def build(num_classes):"))
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(refused=r"argument.*num_classes|num_classes.*argument")


def test_builder_that_raises_is_refused(newcomer: Newcomer) -> None:
    """A builder that opens a file of another folder is refused with what it raised, and no traceback."""
    net_and_tables(newcomer)
    newcomer.code(mlp(3, 3).replace("    return", "    open('runs/best.ckpt')\n    return"))
    newcomer.config()
    newcomer.expect(refused=r"build.*runs/best\.ckpt")


def test_code_that_raises_when_imported_is_refused(newcomer: Newcomer) -> None:
    """A module that raises at import (a script without a main guard) is refused with what it raised."""
    net_and_tables(newcomer)
    path = newcomer.folder / f"{newcomer.module}.py"
    path.write_text(path.read_text() + "\n\nargs = {}['--data-dir']\n")
    newcomer.config()
    newcomer.expect(refused=r"strange_.*--data-dir")


def test_code_with_a_syntax_error_is_refused(newcomer: Newcomer) -> None:
    """A module that is no Python names the file and the line."""
    net_and_tables(newcomer)
    path = newcomer.folder / f"{newcomer.module}.py"
    path.write_text(path.read_text() + "\n\ndef train(:\n")
    newcomer.config()
    newcomer.expect(refused=r"strange_.*line|line.*strange_")


def test_builder_that_exits_is_refused(newcomer: Newcomer) -> None:
    """A builder that parses the command line's arguments (argparse) and exits is refused, and not taken for success."""
    net_and_tables(newcomer)
    newcomer.code(mlp(3, 3).replace("    return", "    import sys\n    sys.exit(0)\n    return"))
    newcomer.config()
    newcomer.expect(refused=r"exit")
    assert not (newcomer.folder / "bundle").exists()


def test_builder_that_prints_leaves_standard_output_alone(newcomer: Newcomer) -> None:
    """A builder's prints go to standard error: `evaluate --json` prints one document and nothing else."""
    net = net_and_tables(newcomer)
    newcomer.code(mlp(3, 3).replace("    return", "    print('Loading model...')\n    return"))
    newcomer.config(model={"weights": newcomer.weights(net)})
    told = newcomer.fit()
    assert told.status == 0, told.text
    assert "Loading model" not in told.out
    told, _ = newcomer.evaluate()
    assert json.loads(told.out)["accuracy"] == newcomer.truth


def test_forward_that_prints_leaves_standard_output_alone(newcomer: Newcomer) -> None:
    """A forgotten print in forward() goes to standard error, too."""
    net = net_and_tables(newcomer)
    noisy = "class Noisy(nn.Module):\n    def forward(self, x):\n        print(x.shape)\n        return x\n\n\n"
    newcomer.code(
        mlp(3, 3).replace("def build", f"{noisy}def build").replace("nn.Tanh()", "nn.Sequential(nn.Tanh(), Noisy())")
    )
    newcomer.config(model={"weights": newcomer.weights(net)})
    assert newcomer.fit().status == 0
    told, _ = newcomer.evaluate()
    assert json.loads(told.out)["accuracy"] == newcomer.truth


def test_class_as_a_builder_is_read(newcomer: Newcomer) -> None:
    """A class whose constructor needs no argument is as good as a function."""
    source = (
        "from torch import nn\n\n\nclass Net(nn.Sequential):\n    def __init__(self):\n"
        "        super().__init__(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))\n\n\ndef build():\n    return Net()\n"
    )
    net = newcomer.build(source, train_input(TABLE))
    newcomer.tables(net, TABLE, classes=CLASSES)
    newcomer.config(model={"weights": newcomer.weights(net), "builder": f"{newcomer.module}:Net"})
    newcomer.expect(read=True)


def test_model_as_a_builder_is_refused(newcomer: Newcomer) -> None:
    """If `builder: mymodel:net` names the model itself, it is refused with what a builder is, or taken."""
    net = net_and_tables(newcomer)
    path = newcomer.folder / f"{newcomer.module}.py"
    path.write_text(path.read_text() + "\n\nnet = build()\n")
    newcomer.config(model={"weights": newcomer.weights(net), "builder": f"{newcomer.module}:net"})
    newcomer.expect(read=True, refused=r"function|argument|module itself|Sequential")


@pytest.mark.parametrize("dtype", ["double", "half"])
def test_model_of_another_precision_is_taken_or_refused(newcomer: Newcomer, dtype: str) -> None:
    """A model in float64 or float16 is given rows that it takes, or refused with its type."""
    net = net_and_tables(newcomer)
    newcomer.code(mlp(3, 3).replace("nn.Linear(8, 3))", f"nn.Linear(8, 3)).{dtype}()"))
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(read=True, refused={"double": r"float64|double", "half": r"float16|half"}[dtype])


def test_embedding_that_is_too_small_names_the_column(newcomer: Newcomer) -> None:
    """An embedding of 3 entries beside a column of 5 categories is refused with the column and both numbers."""
    clean = with_codes(TABLE, town=5)
    source = (
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.town, self.head = nn.Embedding({size}, 3), nn.Linear(6, 2)\n\n"
        "    def forward(self, x):\n"
        "        return self.head(torch.cat([x[:, :3], self.town(x[:, 3].long())], 1))\n\n\n"
        "def build():\n    return Net()\n"
    )
    net = newcomer.build(source.format(size=5), train_input(clean))
    towns = ["Bonn", "Graz", "Lyon", "Oslo", "Rome"]
    newcomer.tables(net, clean, dress=lambda frame: frame.assign(town=[towns[code] for code in frame["town"]]))
    small = newcomer.build(source.format(size=3))
    newcomer.config(model={"weights": newcomer.weights(small)})
    newcomer.expect(refused=r"town.*\b5\b|\b5\b.*town")


def test_id_column_too_many_is_named(newcomer: Newcomer) -> None:
    """A file with an id column too many is refused, and the columns are listed or the id is named."""
    net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(
        net, TABLE, classes=CLASSES, dress=lambda frame: frame.assign(customer_id=range(1000, 1000 + len(frame)))
    )
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(refused="customer_id", warned="customer_id")


def test_in_place_layer_behind_the_feature_changes_nothing(newcomer: Newcomer) -> None:
    """ReLU(inplace=True) behind the tapped layer leaves the detector what it is without inplace."""
    source = (
        "from torch import nn\n\n\ndef build():\n"
        "    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(inplace={inplace}), nn.Linear(8, 3))\n"
    )
    found = []
    for inplace in ("False", "True"):
        newcomer.module += inplace
        net = newcomer.build(source.format(inplace=inplace), train_input(TABLE))
        newcomer.tables(net, TABLE, classes=CLASSES)
        far = (newcomer.folder / "test.csv").read_text().splitlines()
        suspect = newcomer.folder / "suspect.csv"
        suspect.write_text("\n".join([far[0], *("-" + line.lstrip("-") for line in far[1:])]) + "\n")
        newcomer.config(model={"weights": newcomer.weights(net), "features": "0"})
        told = newcomer.fit()
        assert told.status == 0, told.text
        found.append(newcomer.evaluate("--suspect", suspect)[1]["guards"]["ood"])
    assert found[0] == found[1], f"SILENT, MISREAD: the detector sees other features: {found}"


def test_forward_with_two_arguments_is_refused(newcomer: Newcomer) -> None:
    """A forward(x, mask) that needs both is refused, and the second argument is named."""
    net_and_tables(newcomer)
    newcomer.code(
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.head = nn.Linear(3, 3)\n\n    def forward(self, x, attention_mask):\n"
        "        return self.head(x * attention_mask)\n\n\ndef build():\n    return Net()\n"
    )
    newcomer.config()
    newcomer.expect(refused=r"attention_mask")


SOUND = {
    "tied weights": "net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))\n"
    "    net[2].weight = net[0].weight\n    return net",
    "weight norm": "return nn.Sequential(\n"
    "        nn.utils.parametrizations.weight_norm(nn.Linear(3, 8)), nn.Tanh(), nn.Linear(8, 3)\n    )",
    "spectral norm": "return nn.Sequential(\n"
    "        nn.utils.parametrizations.spectral_norm(nn.Linear(3, 8)), nn.Tanh(), nn.Linear(8, 3)\n    )",
    "layer norm": "return nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))",
    "group norm": "return nn.Sequential(nn.Linear(3, 8), nn.GroupNorm(2, 8), nn.SiLU(), nn.Linear(8, 3))",
    "no bias": "return nn.Sequential(nn.Linear(3, 8, bias=False), nn.ReLU(), nn.Linear(8, 3))",
}


@pytest.mark.parametrize("kind", SOUND)
def test_sound_module_is_read(newcomer: Newcomer, kind: str) -> None:
    """Tied weights, norms of one row and parametrised weights are read rightly and silently."""
    spreading = None if kind == "tied weights" else train_input(TABLE)
    net = newcomer.build(f"from torch import nn\n\n\ndef build():\n    {SOUND[kind]}\n", spreading)
    if spreading is None:
        with torch.no_grad():
            net[2].bias -= net(train_input(TABLE)).mean(0)
    newcomer.tables(net, TABLE, classes=CLASSES)
    torch.save(net.state_dict(), newcomer.folder / "model.pt")
    newcomer.config(model={"weights": "model.pt"})
    newcomer.expect(read=True)


def test_sound_builder_of_a_module_list_is_read(newcomer: Newcomer) -> None:
    """An ensemble that averages its members' logits is read rightly and silently."""
    source = (
        "import torch\nfrom torch import nn\n\n\nclass Ensemble(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.members = nn.ModuleList(nn.Sequential(nn.Linear(3, 8), nn.Tanh()) for _ in range(3))\n"
        "        self.head = nn.Linear(8, 3)\n\n    def forward(self, x):\n"
        "        return self.head(torch.stack([member(x) for member in self.members]).mean(0))\n\n\n"
        "def build():\n    return Ensemble()\n"
    )
    net: nn.Module = newcomer.build(source, train_input(TABLE))
    newcomer.tables(net, TABLE, classes=CLASSES)
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(read=True)
