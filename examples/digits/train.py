"""Write the data files and trained weights of the digits example, and print its test accuracy and robust accuracy."""

import argparse
import sys
import time
from pathlib import Path

import torch
from data import load, write
from model import build
from pgd import perturb, robust_accuracy
from rich.console import Console
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

EPOCHS = 30
BATCH = 64
EPS = 0.15
"""How far an attacker may move each pixel of an image in [0, 1]."""
STEPS = 7
"""With --adversarial: the steps to the worst image that are made for each image of a batch."""


def shift(x: Tensor) -> Tensor:
    """Move each image (n, 1, 8, 8) by -1, 0 or 1 pixels in both directions, at random."""
    image = torch.arange(len(x))[:, None, None]
    row = (torch.arange(8) + torch.randint(3, (len(x), 1)))[:, :, None]
    column = (torch.arange(8) + torch.randint(3, (len(x), 1)))[:, None, :]
    return pad(x[:, 0], (1, 1, 1, 1))[image, row, column][:, None]


def train(x: Tensor, y: Tensor, *, adversarial: bool, epochs: int, seed: int = 0) -> nn.Module:
    """Return the network fitted to images `x` and digits `y`, in eval mode.

    With `adversarial` the network learns from the worst images near `x` alone (Madry et al. 2018).
    """
    torch.manual_seed(seed)
    model = build().train()
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    steps = epochs * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=5e-3, total_steps=steps)
    for _ in track(range(epochs), "training", console=Console(stderr=True)):
        for rows in torch.randperm(len(x)).split(BATCH):
            images = shift(x[rows])
            if adversarial:
                images = perturb(model, images, y[rows], eps=EPS, steps=STEPS)
            optimiser.zero_grad()
            cross_entropy(model(images), y[rows]).backward()
            optimiser.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of images whose largest logit is their digit's."""
    return (model(x).argmax(1) == y).double().mean().item()


def main() -> None:
    """Fill the folder that --out names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "build", help="default: build/ beside me")
    parser.add_argument("--adversarial", action="store_true", help="train on attacked images, which takes longer")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the images; default: %(default)s")
    arguments = parser.parse_args()
    if arguments.epochs < 1:
        parser.error("--epochs must be at least 1")
    torch.set_num_threads(1)
    splits = load()
    write(splits, arguments.out)
    begin = time.monotonic()
    x, y = map(torch.from_numpy, splits["train"])
    model = train(x, y, adversarial=arguments.adversarial, epochs=arguments.epochs)
    seconds = time.monotonic() - begin
    save_file(model.state_dict(), arguments.out / "model.safetensors")
    x, y = map(torch.from_numpy, splits["test"])
    robust = robust_accuracy(model, x, y, eps=EPS)
    sys.stdout.write(f"test accuracy {accuracy(model, x, y):.4f}, {robust}, trained in {seconds:.0f} s\n")


if __name__ == "__main__":
    main()
