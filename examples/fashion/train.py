"""Write the data files and the trained weights of the fashion example, and print the test accuracy."""

import argparse
import sys
from pathlib import Path

import torch
from data import load, write
from model import build
from rich.console import Console
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

EPOCHS = 8
BATCH = 128
LENGTH = 25.0
"""With --logitnorm: the length to which all logits are scaled in training, the inverse of the paper's 0.04."""


def train(x: Tensor, y: Tensor, *, logitnorm: bool, seed: int = 0) -> nn.Module:
    """Return the network fitted to images `x` and classes `y`, in eval mode.

    With `logitnorm` the loss sees logits of one length (Wei et al. 2022, "Mitigating neural network overconfidence with
    logit normalization").
    """
    torch.manual_seed(seed)
    model = build().train()
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    steps = EPOCHS * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=steps)
    for _ in track(range(EPOCHS), "training", console=Console(stderr=True)):
        for rows in torch.randperm(len(x)).split(BATCH):
            logits = model(x[rows])
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
    parser.add_argument("--logitnorm", action="store_true", help="train with logits of one length")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        splits = load()
    except FileNotFoundError as absent:
        sys.stderr.write(f"{absent}\n")
        return 2
    write(splits, arguments.out)
    model = train(*map(torch.from_numpy, splits["train"]), logitnorm=arguments.logitnorm)
    save_file(model.state_dict(), arguments.out / "model.safetensors")
    sys.stdout.write(f"test accuracy {accuracy(model, *map(torch.from_numpy, splits['test'])):.4f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
