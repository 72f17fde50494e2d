"""Fashion-MNIST, its own training part split in two, and foreign images to evaluate with, written as .npz files."""

import gzip
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

Bytes = NDArray[np.uint8]
Rows = tuple[NDArray[np.float32], NDArray[np.int64]]

HELDOUT = 10_000
DEFAULT_FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data"


def _read(path: Path) -> Bytes:
    """Read a gzipped idx file of bytes.

    Raises:
        FileNotFoundError: the file is not there; the message says where to put it.
    """
    if not path.is_file():
        part = f"{path.parent.name}/{path.name}"
        raise FileNotFoundError(f"no file {path}: set GUARDHOUSE_DATA to the folder that holds {part}")
    content = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(content, ">i4", content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def _rows(folder: Path, part: str) -> Rows:
    images, labels = (_read(folder / f"{part}-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1"))
    return (images[:, None] / 255).astype(np.float32), labels.astype(np.int64)


def load(seed: int = 0) -> dict[str, Rows]:
    """Return disjoint `train` and `heldout`, stratified, the source's own `test`, and the test images of `mnist`.

    Raises:
        FileNotFoundError: the data folder does not hold them.
    """
    folder = Path(os.environ.get("GUARDHOUSE_DATA", DEFAULT_FOLDER))
    x, y = _rows(folder / "fashion-mnist", "train")
    x, x_heldout, y, y_heldout = train_test_split(x, y, test_size=HELDOUT, stratify=y, random_state=seed)
    test, mnist = _rows(folder / "fashion-mnist", "t10k"), _rows(folder / "mnist", "t10k")
    return {"train": (x, y), "heldout": (x_heldout, y_heldout), "test": test, "mnist": mnist}


def write(splits: dict[str, Rows], folder: Path) -> None:
    """Write a file for each split into `folder`; the labels of the digits are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (x, y) in splits.items():
        labels = {} if name == "mnist" else {"y": y}
        np.savez_compressed(folder / f"{name}.npz", x=x, **labels)
