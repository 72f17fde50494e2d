"""Write the data files and the trained weights of the adult example, and print the test accuracy."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from data import LABEL, load, write
from model import CLASSES, COLUMNS, build
from rich.console import Console
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

EPOCHS = 20
BATCH = 128


def check(table: pd.DataFrame) -> None:
    """Compare the columns and categories that the network is built for with those of its training rows.

    Raises:
        ValueError: they differ, so the gateway would number the categories differently.
    """
    if list(table.columns) != [*COLUMNS, LABEL]:
        raise ValueError(f"the columns are {list(table.columns)}, and model.COLUMNS says {list(COLUMNS)}")
    for name, categories in COLUMNS.items():
        seen = tuple(sorted(set(table[name]) - {""}))
        if categories and seen != categories:
            raise ValueError(f"{name}: the training rows hold {seen}, and model.COLUMNS says {categories}")


def encode(table: pd.DataFrame, frequent: pd.Series) -> tuple[Tensor, Tensor]:
    """Return the model's input (n, 14), the `frequent` category in place of a missing one, and the class (n,)."""
    columns = [
        table[name].replace("", frequent[name]).map(categories.index) if categories else table[name].astype(float)
        for name, categories in COLUMNS.items()
    ]
    x = np.stack(columns, axis=1, dtype=np.float32, casting="same_kind")
    return torch.from_numpy(x), torch.tensor(table[LABEL].map(CLASSES.index).to_numpy())


def train(x: Tensor, y: Tensor, seed: int = 0) -> nn.Module:
    """Return the network fitted to rows `x` and classes `y`, in eval mode."""
    torch.manual_seed(seed)
    model = build().train()
    model.fit_edges(x)
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    steps = EPOCHS * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1e-3, total_steps=steps)
    for _ in track(range(EPOCHS), "training", console=Console(stderr=True)):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimiser.zero_grad()
            cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of rows whose larger logit is their class's."""
    return (model(x).argmax(1) == y).double().mean().item()


def main() -> int:
    """Fill the folder that --out names; return 2 where the data are absent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "build", help="default: build/ beside me")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    try:
        splits = load()
    except FileNotFoundError as absent:
        sys.stderr.write(f"{absent}\n")
        return 2
    check(splits["train"])
    write(splits, out)
    frequent = splits["train"].replace("", np.nan).mode().iloc[0]
    model = train(*encode(splits["train"], frequent))
    save_file(model.state_dict(), out / "model.safetensors")
    sys.stdout.write(f"test accuracy {accuracy(model, *encode(splits['test'], frequent)):.4f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
