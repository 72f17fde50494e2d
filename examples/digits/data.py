"""The 1,797 handwritten digits of scikit-learn, split three ways and written as .npz files."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

Rows = tuple[NDArray[np.float32], NDArray[np.int64]]

HELDOUT = 400
TEST = 397


def load(seed: int = 0) -> dict[str, Rows]:
    """Return disjoint `train`, `heldout` and `test`, stratified: images (n, 1, 8, 8) in [0, 1] and digits (n,)."""
    digits = load_digits()
    x = (digits.images[:, None] / 16).astype(np.float32)
    y = digits.target.astype(np.int64)
    x, x_test, y, y_test = train_test_split(x, y, test_size=TEST, stratify=y, random_state=seed)
    x, x_heldout, y, y_heldout = train_test_split(x, y, test_size=HELDOUT, stratify=y, random_state=seed)
    return {"train": (x, y), "heldout": (x_heldout, y_heldout), "test": (x_test, y_test)}


def suspect(x: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """Return images that the model was not made for: every one of `x` inverted, then as many of uniform noise."""
    noise = np.random.default_rng(seed).random(x.shape, dtype=np.float32)
    return np.concatenate([1 - x, noise])


def write(splits: dict[str, Rows], folder: Path) -> None:
    """Write a file for each split, and `suspect.npz` made from the test images, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (x, y) in splits.items():
        np.savez_compressed(folder / f"{name}.npz", x=x, y=y)
    np.savez_compressed(folder / "suspect.npz", x=suspect(splits["test"][0]))
