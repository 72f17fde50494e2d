"""UCI Adult, and the errors that are put into its rows."""

import csv
import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from guards.input.column import Column
from guards.input.schema import InputSchema

__all__ = ["ERRORS", "LIVE_ERRORS", "Adult", "Errors"]

NUMERIC = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
WIDE = "fnlwgt"
"""A sampling weight from 12 thousand to 1.5 million: any unit leaves most values ordinary."""
RICH = ">50K"
SLIPS = {
    "1000 times too large": (1000.0, 0.0),
    "1000 times too small": (0.001, 0.0),
    "feet to metres": (0.3048, 0.0),
    "metres to feet": (1 / 0.3048, 0.0),
    "inches to centimetres": (2.54, 0.0),
    "centimetres to inches": (1 / 2.54, 0.0),
    "pounds to kilograms": (0.4536, 0.0),
    "kilograms to pounds": (1 / 0.4536, 0.0),
    "Celsius to Fahrenheit": (1.8, 32.0),
    "Fahrenheit to Celsius": (1 / 1.8, -32 / 1.8),
}
Errors = Callable[["Adult", Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""Gives rows with an error in each, and marks the rows (n,) whose values the error changed."""


@dataclass(frozen=True, slots=True, eq=False)
class Adult:
    """The rows of the source's own train and test part, without the label: (n, 14); ``labels`` are the train part's."""

    schema: InputSchema
    train: Tensor
    test: Tensor
    labels: Tensor

    @classmethod
    def load(cls, folder: Path) -> "Adult":
        """Read both files, with ``?`` as the missing value."""
        parts = {part: _read(folder / "adult" / f"adult_{part}.csv.gz") for part in ("train", "test")}
        names = [name for name in parts["train"] if name != "income"]
        columns = tuple(
            Column(name=name, kind="numeric")
            if name in NUMERIC
            else Column(name=name, kind="categorical", categories=tuple(sorted({*parts["train"][name]} - {None})))
            for name in names
        )
        schema = InputSchema(kind="tabular", shape=(len(columns),), columns=columns)

        def rows(part: str) -> Tensor:
            return _shuffled(torch.from_numpy(schema.encode({name: parts[part][name] for name in names})[0]))

        labels = torch.tensor([label == RICH for label in parts["train"]["income"]]).long()
        return cls(schema, rows("train"), rows("test"), _shuffled(labels))

    def places(self, kind: str) -> list[int]:
        """Give the places of the columns of a kind."""
        return [place for place, column in enumerate(self.schema.columns) if column.kind == kind]


def _shuffled(rows: Tensor) -> Tensor:
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]


def _read(path: Path) -> dict[str, list[str | float | None]]:
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        name: [None if row[name] == "?" else float(row[name]) if name in NUMERIC else row[name] for row in rows]
        for name in rows[0]
    }


def _slip(factor: float, offset: float, *, rounded: bool, wide: bool) -> Errors:
    """Put one number of each row into another unit: of the wide column, or of another column that is not zero."""

    def slip(adult: Adult, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        names = adult.schema.names
        places = torch.tensor([names.index(name) for name in NUMERIC if (name == WIDE) == wide])
        chances = (x[:, places].nan_to_num(0.0) != 0).float() + 1e-9
        chosen = places[torch.multinomial(chances, 1, generator=generator)]
        value = x.gather(1, chosen) * factor + offset
        changed = x.scatter(1, chosen, value.round() if rounded else value)
        return changed, _differs(x, changed)

    return slip


def _swap(kind: str) -> Errors:
    """Swap two columns of a kind in each row; a category under another column's name is unseen there."""

    def swap(adult: Adult, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        places = torch.tensor(adult.places(kind))
        chosen = torch.rand((len(x), len(places)), generator=generator).topk(2).indices
        first, second = places[chosen[:, :1]], places[chosen[:, 1:]]
        if kind == "categorical":
            changed = x.scatter(1, first, -1.0).scatter(1, second, -1.0)
        else:
            changed = x.scatter(1, first, x.gather(1, second)).scatter(1, second, x.gather(1, first))
        return changed, _differs(x, changed)

    return swap


def _swap_pair(one: str, other: str) -> Errors:
    def swap(adult: Adult, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:  # noqa: ARG001
        pair = [adult.schema.names.index(one), adult.schema.names.index(other)]
        changed = x.clone()
        changed[:, pair] = x[:, pair[::-1]]
        return changed, _differs(x, changed)

    return swap


def _other_row(*columns: str) -> Errors:
    """Take one of the columns of each row, or any column, from another row."""

    def take(adult: Adult, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        names = columns or adult.schema.names
        places = torch.tensor([adult.schema.names.index(name) for name in names])
        chosen = places[torch.randint(len(places), (len(x), 1), generator=generator)]
        donors = x[torch.randint(len(x), (len(x),), generator=generator)]
        changed = x.scatter(1, chosen, donors.gather(1, chosen))
        return changed, _differs(x, changed)

    return take


def _lose(*columns: str) -> Errors:
    def lose(adult: Adult, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        places = torch.tensor([adult.schema.names.index(name) for name in columns])
        chosen = places[torch.randint(len(places), (len(x), 1), generator=generator)]
        changed = x.scatter(1, chosen, torch.nan)
        return changed, _differs(x, changed)

    return lose


def _unseen(adult: Adult, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Give one of the categories of each row a name that the column does not have."""
    places = torch.tensor(adult.places("categorical"))
    chosen = places[torch.randint(len(places), (len(x), 1), generator=generator)]
    changed = x.scatter(1, chosen, -1.0)
    return changed, _differs(x, changed)


def _differs(x: Tensor, changed: Tensor) -> Tensor:
    return (x.nan_to_num(-9.0) != changed.nan_to_num(-9.0)).any(1)


ERRORS: dict[str, Errors] = {
    **{name: _slip(*unit, rounded=False, wide=False) for name, unit in SLIPS.items()},
    **{f"{name}, rounded": _slip(*unit, rounded=True, wide=False) for name, unit in SLIPS.items()},
    **{f"{name}, of {WIDE}": _slip(*unit, rounded=True, wide=True) for name, unit in SLIPS.items()},
    "two numeric columns swapped": _swap("numeric"),
    "age and hours swapped": _swap_pair("age", "hours-per-week"),
    "gain and loss swapped": _swap_pair("capital-gain", "capital-loss"),
    "two categorical columns swapped": _swap("categorical"),
    "any column from another row": _other_row(),
    "education from another row": _other_row("education"),
    "marital status from another row": _other_row("marital-status"),
    "sex from another row": _other_row("sex"),
    "a column missing that never is": _lose("age", "education", "hours-per-week"),
    "occupation or workclass missing": _lose("occupation", "workclass"),
}

LIVE_ERRORS: dict[str, tuple[Errors, ...]] = {
    "unit slip": tuple(
        _slip(*unit, rounded=rounded, wide=False) for unit in SLIPS.values() for rounded in (False, True)
    ),
    "swapped columns": (_swap("numeric"), _swap("categorical")),
    "unseen category": (_unseen,),
    "missing values": (_lose("age", "education", "hours-per-week"), _lose("occupation", "workclass")),
    "odd combination": (_other_row("education"), _other_row("marital-status"), _other_row("sex")),
}
"""The errors of live rows: of each kind, one of these."""
