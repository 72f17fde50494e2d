"""The diabetes table of scikit-learn, 442 patients in unscaled units, split three ways and written as .csv files."""

from pathlib import Path

import pandas as pd
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

LABEL = "progression"
HELDOUT = 110
TEST = 110


def load(seed: int = 0) -> dict[str, pd.DataFrame]:
    """Return disjoint `train`, `heldout` and `test`, stratified by fifths of the label; `sex` is "1" or "2"."""
    table = load_diabetes(as_frame=True, scaled=False).frame.rename(columns={"target": LABEL})
    table = table.astype({"age": int, "sex": int}).astype({"sex": str})
    fifth = pd.qcut(table[LABEL], 5, labels=False)
    rest, test = train_test_split(table, test_size=TEST, stratify=fifth, random_state=seed)
    train, heldout = train_test_split(rest, test_size=HELDOUT, stratify=fifth[rest.index], random_state=seed)
    return {"train": train, "heldout": heldout, "test": test}


def write(splits: dict[str, pd.DataFrame], folder: Path) -> None:
    """Write a file for each split into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in splits.items():
        table.to_csv(folder / f"{name}.csv", index=False)
