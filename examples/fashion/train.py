"""Write the data files and trained weights of the fashion example, and print its test accuracy and robust accuracy."""

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
from torch.nn.functional import cross_entropy

EPOCHS = 8
BATCH = 128
LENGTH = 25.0
"""With --logitnorm: the length to which all logits are scaled in training, the inverse of the paper's 0.04."""
EPS = 0.1
"""How far an attacker may move each pixel of an image in [0, 1]."""
STEPS = 3
"""With --adversarial: the steps to the worst image that are made for each image of a batch."""
ATTACKED = 1000
"""Robust accuracy is measured on so many test images: the whole test would take longer than training."""


def train(x: Tensor, y: Tensor, *, logitnorm: bool, adversarial: bool, epochs: int, seed: int = 0) -> nn.Module:
    """Return the network fitted to images `x` and classes `y`, in eval mode.

    With `logitnorm` the loss sees logits of one length (Wei et al. 2022, "Mitigating neural network overconfidence with
    logit normalization"). With `adversarial` the network learns from the worst images near `x` alone (Madry et al.
    2018).
    """
    torch.manual_seed(seed)
    model = build().train()
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    steps = epochs * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=steps)
    for _ in track(range(epochs), "training", console=Console(stderr=True)):
        for rows in torch.randperm(len(x)).split(BATCH):
            images = x[rows]
            if adversarial:
                images = perturb(model, images, y[rows], eps=EPS, steps=STEPS)
            logits = model(images)
            if logitnorm:
                logits = LENGTH * torch.nn.functional.normalize(logits)
            optimiser.zero_grad()
            cross_entropy(logits, y[rows]).backward()
            optimiser.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of images whose largest logit is their class's."""
    answers = torch.cat([model(part).argmax(1) for part in x.split(1000)])
    return (answers == y).double().mean().item()


def main() -> int:
    """Fill the folder that --out names; return 2 if the data are absent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "build", help="default: build/ beside me")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--logitnorm", action="store_true", help="train with logits of one length")
    ways.add_argument("--adversarial", action="store_true", help="train on attacked images, which takes longer")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the images; default: %(default)s")
    arguments = parser.parse_args()
    if arguments.epochs < 1:
        parser.error("--epochs must be at least 1")
    torch.set_num_threads(1)
    try:
        splits = load()
    except FileNotFoundError as absent:
        sys.stderr.write(f"{absent}\n")
        return 2
    write(splits, arguments.out)
    begin = time.monotonic()
    x, y = map(torch.from_numpy, splits["train"])
    model = train(x, y, logitnorm=arguments.logitnorm, adversarial=arguments.adversarial, epochs=arguments.epochs)
    seconds = time.monotonic() - begin
    save_file(model.state_dict(), arguments.out / "model.safetensors")
    x, y = map(torch.from_numpy, splits["test"])
    robust = robust_accuracy(model, x[:ATTACKED], y[:ATTACKED], eps=EPS)
    sys.stdout.write(f"test accuracy {accuracy(model, x, y):.4f}, {robust}, trained in {seconds:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
