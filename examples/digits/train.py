"""Write the data files and the trained weights of the digits example, and print the test accuracy."""

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
from torch.nn.functional import cross_entropy, pad

EPOCHS = 30
BATCH = 64


def shift(x: Tensor) -> Tensor:
    """Move each image (n, 1, 8, 8) by -1, 0 or 1 pixels in both directions, at random."""
    image = torch.arange(len(x))[:, None, None]
    row = (torch.arange(8) + torch.randint(3, (len(x), 1)))[:, :, None]
    column = (torch.arange(8) + torch.randint(3, (len(x), 1)))[:, None, :]
    return pad(x[:, 0], (1, 1, 1, 1))[image, row, column][:, None]


def train(x: Tensor, y: Tensor, seed: int = 0) -> nn.Module:
    """Return the network fitted to images `x` and digits `y`, in eval mode."""
    torch.manual_seed(seed)
    model = build().train()
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    steps = EPOCHS * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=5e-3, total_steps=steps)
    for _ in track(range(EPOCHS), "training", console=Console(stderr=True)):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimiser.zero_grad()
            cross_entropy(model(shift(x[rows])), y[rows]).backward()
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
    out = parser.parse_args().out
    torch.set_num_threads(1)
    splits = load()
    write(splits, out)
    x, y = map(torch.from_numpy, splits["train"])
    model = train(x, y)
    save_file(model.state_dict(), out / "model.safetensors")
    sys.stdout.write(f"test accuracy {accuracy(model, *map(torch.from_numpy, splits['test'])):.4f}\n")


if __name__ == "__main__":
    main()
