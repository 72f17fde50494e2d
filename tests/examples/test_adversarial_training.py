"""The examples train on attacked images, and measure how many images withstand an attack."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from example_training import train
from safetensors.torch import load_file
from torch import Tensor, nn

EXAMPLES = Path(__file__).parents[2] / "examples"
NUMBER = r"\d\.\d+"
PRINTED = rf"test accuracy {NUMBER}, robust accuracy {NUMBER} \[{NUMBER}, {NUMBER}\] \(.*\), trained in \d+ s\n"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"digits_{name}", EXAMPLES / "digits" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PGD = load("pgd")


@pytest.fixture(scope="module")
def digits(trained_digits: tuple[Path, str]) -> tuple[nn.Module, Tensor, Tensor]:
    """Give the network that was trained on images as they are, and 100 test images with their digits."""
    out, _ = trained_digits
    model = load("model").build().eval()
    model.load_state_dict(load_file(out / "model.safetensors"))
    test = np.load(out / "test.npz")
    return model, torch.from_numpy(test["x"][:100]), torch.from_numpy(test["y"][:100])


def test_digits_train_on_attacked_images(tmp_path: Path) -> None:
    """With --adversarial the script prints both accuracies in one line, and writes weights."""
    done = train("digits", tmp_path, "--adversarial", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(PRINTED, done.stdout)
    assert (tmp_path / "model.safetensors").is_file()


@pytest.mark.slow
def test_adversarial_training_moves_robustness(trained_digits: tuple[Path, str], tmp_path: Path) -> None:
    """The intervals of the robust accuracy lie apart, and the README shows what the script prints."""
    done = train("digits", tmp_path, "--adversarial")
    assert done.returncode == 0, done.stderr
    plain, adversarial = (
        [float(number) for number in re.findall(NUMBER, line)] for line in (trained_digits[1], done.stdout)
    )
    assert plain[3] < adversarial[2]
    shown = re.findall(r"^test .*$", (EXAMPLES / "digits" / "README.md").read_text(), re.MULTILINE)[1]
    assert adversarial == pytest.approx([float(number) for number in re.findall(NUMBER, shown)], abs=0.02)


@pytest.mark.parametrize("training", [True, False])
def test_images_stay_near(digits: tuple[nn.Module, Tensor, Tensor], training: bool) -> None:
    """Attacked images lie in [0, 1] and within eps, have a larger loss, and leave the network as they found it."""
    model, x, y = digits
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train(training)
    images = PGD.perturb(model, x, y, eps=0.1, steps=5)
    assert model.training == training
    model.eval()
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert images.min() >= 0
    assert images.max() <= 1
    assert (images - x).abs().max() <= 0.1 + 1e-6
    loss = nn.functional.cross_entropy
    assert loss(model(images), y) > loss(model(x), y) + 1


def test_eps_decides(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    """No attack succeeds if eps is 0, every attack succeeds if eps is large, and some attacks succeed between."""
    model, x, y = digits
    none, little, large = (PGD.withstands(model, x, y, eps=eps) for eps in (0, 0.05, 0.5))
    assert none.equal(model(x).argmax(1) == y)
    assert large.sum() == 0
    assert large.sum() < little.sum() < none.sum()


def test_withstanding_is_worked_out_by_hand() -> None:
    """A linear model's image withstands if, and only if, its lead is above eps times the weights' absolute sum."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    gaps = torch.tensor([0.15, 0.19, 0.21, 0.3])  # of the two pixels: an attacker changes a gap by at most 2 eps
    x = torch.stack([0.5 + gaps / 2, 0.5 - gaps / 2], 1)[:, None, None]
    standing = PGD.withstands(model, x, torch.zeros(4, dtype=torch.int64), eps=0.1)
    assert standing.tolist() == [False, False, True, True]


def test_no_epoch(tmp_path: Path) -> None:
    """Training for no epoch is refused with status 2, and nothing is written."""
    done = train("digits", tmp_path, "--epochs", "0")
    assert done.returncode == 2
    assert "--epochs must be at least 1" in done.stderr
    assert not list(tmp_path.iterdir())


def test_one_way_at_a_time(tmp_path: Path) -> None:
    """The fashion example refuses --logitnorm beside --adversarial."""
    done = train("fashion", tmp_path, "--logitnorm", "--adversarial")
    assert done.returncode == 2
    assert "not allowed with argument" in done.stderr


def test_the_same_attack() -> None:
    """Both examples measure with the same attack."""
    copies = [(EXAMPLES / name / "pgd.py").read_bytes() for name in ("digits", "fashion")]
    assert copies[0] == copies[1]
