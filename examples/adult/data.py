"""The census table of UCI Adult, its own training part split in two, written as .csv files."""

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from sklearn.model_selection import train_test_split

LABEL = "income"
HELDOUT = 6000
ROWS_A_FAULT = 400
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


def suspect(test: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Return 400 test rows with each fault of `FAULTS`, one fault a row, in the order of the faults."""
    rows = test.sample(ROWS_A_FAULT * len(FAULTS), random_state=seed)
    parts = [rows[start : start + ROWS_A_FAULT].copy() for start in range(0, len(rows), ROWS_A_FAULT)]
    for part, fault in zip(parts, FAULTS.values(), strict=True):
        fault(part)
    return pd.concat(parts)


def _months(rows: pd.DataFrame) -> None:
    rows["age"] = (rows["age"].astype(int) * 12).astype(str)


def _hours_a_day(rows: pd.DataFrame) -> None:
    rows["hours-per-week"] = (rows["hours-per-week"].astype(int) // 5).clip(lower=1).astype(str)


def _swap(rows: pd.DataFrame) -> None:
    rows[["age", "hours-per-week"]] = rows[["hours-per-week", "age"]].to_numpy()


def _empty(rows: pd.DataFrame) -> None:
    rows[["age", "education", "occupation"]] = ""


def _shout(rows: pd.DataFrame) -> None:
    rows["marital-status"] = rows["marital-status"].str.upper()


FAULTS: dict[str, Callable[[pd.DataFrame], None]] = {
    "age in months": _months,
    "hours a day in hours-per-week": _hours_a_day,
    "age and hours-per-week swapped": _swap,
    "three empty fields": _empty,
    "marital-status in capitals": _shout,
}
"""What goes wrong on the way of a row into a table, and how to do it to rows."""


def write(splits: dict[str, pd.DataFrame], folder: Path) -> None:
    """Write a file for each split, and `suspect.csv` made from the test rows, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (splits | {"suspect": suspect(splits["test"])}).items():
        table.to_csv(folder / f"{name}.csv", index=False)
