"""The census table of UCI Adult, its own training part split in two, written as .csv files."""

import os
from pathlib import Path

import pandas as pd
from sklearn.model_selection import train_test_split

LABEL = "income"
HELDOUT = 6000
DEFAULT_FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data"


def _read(path: Path) -> pd.DataFrame:
    """Read every field as a string, `?` as the empty one.

    Raises:
        FileNotFoundError: the file is not there; the message says where to put it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: set GUARDHOUSE_DATA to the folder that holds adult/{path.name}")
    return pd.read_csv(path, dtype=str, keep_default_na=False).replace("?", "")


def load(seed: int = 0) -> dict[str, pd.DataFrame]:
    """Return disjoint `train` and `heldout`, stratified by the label, and the source's own `test`, all of strings.

    Raises:
        FileNotFoundError: the data folder does not hold them.
    """
    folder = Path(os.environ.get("GUARDHOUSE_DATA", DEFAULT_FOLDER)) / "adult"
    rows, test = _read(folder / "adult_train.csv.gz"), _read(folder / "adult_test.csv.gz")
    train, heldout = train_test_split(rows, test_size=HELDOUT, stratify=rows[LABEL], random_state=seed)
    return {"train": train, "heldout": heldout, "test": test}


def write(splits: dict[str, pd.DataFrame], folder: Path) -> None:
    """Write a file for each split into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in splits.items():
        table.to_csv(folder / f"{name}.csv", index=False)
