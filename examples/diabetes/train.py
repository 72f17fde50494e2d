"""Write the data files and the trained weights of the diabetes example, and print the test R2."""

import argparse
import statistics
import sys
from pathlib import Path

import pandas as pd
import torch
from data import LABEL, load, write
from model import COLUMNS, SEXES, build
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import mse_loss

STEPS = 200
SPLITS = 10


def encode(table: pd.DataFrame) -> tuple[Tensor, Tensor]:
    """Return the model's input (n, 10) and the label (n, 1)."""
    x = table[list(COLUMNS)].assign(sex=table["sex"].map(SEXES.index)).to_numpy("float32")
    return torch.tensor(x), torch.tensor(table[[LABEL]].to_numpy("float32"))


def train(x: Tensor, y: Tensor, seed: int = 0) -> nn.Module:
    """Return the network fitted to rows `x` and labels `y`, in eval mode."""
    torch.manual_seed(seed)
    model = build()
    model.mean.copy_(x.mean(0))
    model.scale.copy_(x.std(0))
    mean, scale = y.mean(), y.std()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=3.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        optimiser.zero_grad()
        mse_loss(model(x), (y - mean) / scale).backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():  # the label's units, folded into the last layer
        model.head.weight.mul_(scale)
        model.head.bias.mul_(scale).add_(mean)
    return model.eval()


@torch.no_grad()
def r2(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of the label's variance that the model explains."""
    return 1 - (mse_loss(model(x), y) / y.var(correction=0)).item()


def main() -> None:
    """Fill the folder that --out names from split 0, and measure how much the choice of the split matters."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "build", help="default: build/ beside me")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    scores = []
    for seed in range(SPLITS):
        splits = load(seed)
        model = train(*encode(splits["train"]))
        scores.append(r2(model, *encode(splits["test"])))
        if seed == 0:
            write(splits, out)
            save_file(model.state_dict(), out / "model.safetensors")
    mean, deviation = statistics.mean(scores), statistics.stdev(scores)
    sys.stdout.write(f"test R2 {scores[0]:.3f}; over {SPLITS} splits {mean:.3f} +- {deviation:.3f}\n")


if __name__ == "__main__":
    main()
