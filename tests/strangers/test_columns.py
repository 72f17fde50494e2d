"""Columns of numbers that do not look like numbers: money, dates, lists, missing values; and their scale and order."""

import decimal

import numpy as np
import pandas as pd
import pytest
import torch
from newcomers import SIZES, Frame, Newcomer, mlp, numbers, train_input
from torch import nn

TABLE = numbers("length", "mass", "age")


def priced(newcomer: Newcomer, name: str, dress: object, *, suffix: str = ".csv", scale: float = 1000.0) -> nn.Module:
    """Write a column of amounts with two decimals, which the file shows as ``dress`` says of each number."""
    assert callable(dress)

    def clean(count: int, seed: int) -> Frame:
        frame = numbers("length", name, "age")(count, seed)
        return frame.assign(**{name: (frame[name] * scale).round(2)})

    scaler = (
        f"class Scale(nn.Module):\n    def forward(self, x):\n        return x / torch.tensor([1.0, {scale}, 1.0])\n"
    )
    source = (
        mlp(3, 2)
        .replace("\n\n\n", f"\nimport torch\n\n\n{scaler}\n\n", 1)
        .replace("(nn.Linear", "(Scale(), nn.Linear", 1)
    )
    net: nn.Module = newcomer.build(source, train_input(clean))
    newcomer.tables(
        net, clean, dress=lambda frame: frame.assign(**{name: [dress(v) for v in frame[name]]}), suffix=suffix
    )
    newcomer.config(model={"weights": newcomer.weights(net)})
    return net


# Numbers that look like text


def test_decimal_commas_are_named(newcomer: Newcomer) -> None:
    """A field "3,14" from a spreadsheet of another country is a number: read, or named as a decimal comma."""
    priced(newcomer, "price", lambda value: f"{value:.2f}".replace(".", ","), scale=1.0)
    newcomer.expect(read=True, refused=r"price.*comma", warned=r"price.*comma")


def test_thousands_separators_are_named(newcomer: Newcomer) -> None:
    """A field "1,234.50" is a number with a comma between the thousands: read, or named so."""
    priced(newcomer, "price", lambda value: f"{value:,.2f}")
    newcomer.expect(read=True, refused=r"price.*(comma|thousand)", warned=r"price.*(comma|thousand)")


@pytest.mark.parametrize("sign", ["$", "€"])
def test_money_is_named(newcomer: Newcomer, sign: str) -> None:
    """A field "$1,234.50" is named as money, with the column."""
    priced(newcomer, "price", lambda value: f"{sign}{value:,.2f}")
    words = r"price.*(money|currenc|\$|€)"
    newcomer.expect(read=True, refused=words, warned=words)


def test_percent_is_named(newcomer: Newcomer) -> None:
    """A field "12.5%" is named as percent, with the column."""
    priced(newcomer, "rate", lambda value: f"{value:.2f}%", scale=10.0)
    words = r"rate.*(percent|%)"
    newcomer.expect(read=True, refused=words, warned=words)


def test_money_with_many_missing_values_is_named(newcomer: Newcomer) -> None:
    """Money is named, though three quarters of its fields are empty."""
    priced(newcomer, "price", lambda value: f"${value:,.2f}" if value > 700 else "")
    newcomer.expect(refused=r"price.*(money|currenc|\$)", warned=r"price.*(money|currenc|\$)")


def test_units_are_named(newcomer: Newcomer) -> None:
    """A field "12.5 kg" is no category of three hundred values: the column is named."""
    priced(newcomer, "weight", lambda value: f"{value:.2f} kg", scale=10.0)
    newcomer.expect(read=True, refused="weight", warned="weight")


def test_decimals_of_parquet_are_numbers(newcomer: Newcomer) -> None:
    """A decimal column of Parquet is a number."""
    priced(newcomer, "price", lambda value: decimal.Decimal(f"{value:.2f}"), suffix=".parquet")
    newcomer.expect(read=True)


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y %H:%M", "%Y-%m-%dT%H:%M:%SZ"])
def test_dates_are_named(newcomer: Newcomer, form: str) -> None:
    """A column of dates is named as such, and is no category of three hundred values."""
    start = pd.Timestamp("2024-01-01")
    priced(newcomer, "signup", lambda value: (start + pd.Timedelta(hours=float(value))).strftime(form))
    newcomer.expect(refused=r"signup.*(date|time)", warned=r"signup.*(date|time)")


def test_timestamps_of_parquet_are_named(newcomer: Newcomer) -> None:
    """A timestamp column of Parquet is named as dates."""
    start = pd.Timestamp("2024-01-01")
    priced(newcomer, "signup", lambda value: start + pd.Timedelta(hours=float(value)), suffix=".parquet")
    newcomer.expect(refused=r"signup.*(date|time)", warned=r"signup.*(date|time)")


def test_days_of_parquet_are_named(newcomer: Newcomer) -> None:
    """A date32 column of Parquet is named as dates."""
    start = pd.Timestamp("2024-01-01")
    priced(newcomer, "signup", lambda value: (start + pd.Timedelta(days=round(value / 10))).date(), suffix=".parquet")
    newcomer.expect(refused=r"signup.*(date|time)", warned=r"signup.*(date|time)")


def test_structures_of_parquet_are_named(newcomer: Newcomer) -> None:
    """A column of structures is named, and is no category of its printed form."""
    priced(newcomer, "place", lambda value: {"lat": float(value), "lon": 1.0}, suffix=".parquet")
    newcomer.expect(refused=r"place.*(struct|nested|dict|list)", warned=r"place.*(struct|nested|dict|list)")


def test_bytes_of_parquet_are_named(newcomer: Newcomer) -> None:
    """A column of bytes is named, and is no category of its printed form."""
    priced(newcomer, "blob", lambda value: str(value).encode(), suffix=".parquet")
    newcomer.expect(refused=r"blob.*(bytes|binary|nested)", warned=r"blob.*(bytes|binary|nested)")


def test_lists_of_parquet_are_named(newcomer: Newcomer) -> None:
    """A column of lists (an embedding) is named, and is no category of its printed form."""
    priced(newcomer, "vector", lambda value: [float(value), 1.0], suffix=".parquet")
    newcomer.expect(refused=r"vector.*(list|nested)", warned=r"vector.*(list|nested)")


def test_lists_in_text_are_named(newcomer: Newcomer) -> None:
    """A field "[0.5, 1.0]" of a CSV is named as a list."""
    priced(newcomer, "vector", lambda value: f"[{value}, 1.0]")
    newcomer.expect(refused=r"vector.*list", warned=r"vector.*list")


def test_infinity_in_a_column_is_named(newcomer: Newcomer) -> None:
    """A field "inf" among numbers (a division by zero) names the column; it is no category."""
    priced(newcomer, "ratio", lambda value: "inf" if value > 2000 else str(value))
    newcomer.expect(refused="ratio", warned="ratio")


# Missing values


@pytest.mark.parametrize(("text", "share"), [("NA", 0.1), ("?", 0.1), ("-", 0.3), ("NULL", 0.7), ("n/a", 0.9)])
def test_texts_that_mean_missing_are_offered(newcomer: Newcomer, text: str, share: float) -> None:
    """Numbers among "NA" or "?" are numbers, however many are missing: the text is named with reference.missing."""
    net = newcomer.build(mlp(3, 2), train_input(TABLE))

    def hide(frame: Frame) -> Frame:
        hidden = np.random.default_rng(len(frame)).random(len(frame)) < share
        return frame.assign(mass=frame["mass"].astype(object).mask(hidden, text))

    newcomer.tables(net, TABLE, dress=hide)
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(refused="mass.*missing", warned="mass.*missing")


def test_missing_of_one_column_is_read(newcomer: Newcomer) -> None:
    """`missing: ["-"]` of one column makes its dashes missing, and the median fills them; the rest is inferred."""
    train = TABLE(SIZES["train"], 1)
    median = train["mass"][train["length"] < 1].median()

    def filled(count: int, seed: int) -> Frame:
        frame = TABLE(count, seed)
        return frame.assign(mass=frame["mass"].where(frame["length"] < 1, median))

    def dress(frame: Frame) -> Frame:
        return frame.assign(mass=frame["mass"].astype(object).where(frame["length"] < 1, "-"))

    net = newcomer.build(mlp(3, 2), train_input(TABLE))
    newcomer.tables(net, filled, dress=dress)
    columns = [{"name": "mass", "missing": ["-"]}]
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"columns": columns})
    newcomer.expect(read=True)


def test_empty_column_waits_for_its_kind(newcomer: Newcomer) -> None:
    """A column without a value is neither numeric nor categorical: refused or warned of, by name."""
    net = newcomer.build(mlp(3, 2), train_input(TABLE))
    newcomer.tables(net, TABLE, dress=lambda frame: frame.assign(mass=""))
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(refused=r"mass.*(empty|no value|kind|missing)", warned=r"mass.*(empty|no value|kind|missing)")


def test_empty_column_of_a_parquet_file_waits_for_its_kind(newcomer: Newcomer) -> None:
    """A column of Parquet without a value (type null) is refused or warned of, by name."""
    net = newcomer.build(mlp(3, 2), train_input(TABLE))
    newcomer.tables(
        net, TABLE, dress=lambda frame: frame.assign(mass=pd.Series([None] * len(frame))), suffix=".parquet"
    )
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(refused=r"mass.*(empty|no value|kind|missing)", warned=r"mass.*(empty|no value|kind|missing)")


def test_nullable_integers_of_a_parquet_file_are_read(newcomer: Newcomer) -> None:
    """Int64 with missing values is a number; the median fills what is missing."""

    def whole(count: int, seed: int) -> Frame:
        frame = TABLE(count, seed)
        return frame.assign(age=(frame["age"] * 10).round())

    train = whole(SIZES["train"], 1)
    median = train["age"][train["length"] < 1].median()

    def filled(count: int, seed: int) -> Frame:
        frame = whole(count, seed)
        return frame.assign(age=frame["age"].where(frame["length"] < 1, median))

    def dress(frame: Frame) -> Frame:
        return frame.assign(age=frame["age"].round().astype("Int64").where(frame["length"] < 1))

    net = newcomer.build(mlp(3, 2), train_input(whole))
    newcomer.tables(net, filled, dress=dress, suffix=".parquet")
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(read=True)


# Scales and orders


def test_scaling_outside_of_the_model_is_warned_of(newcomer: Newcomer) -> None:
    """A model trained behind a StandardScaler gets raw numbers: the accuracy shows it, and the scale is named."""

    def raw(frame: Frame) -> Frame:
        return frame.assign(length=frame["length"] * 30 + 170, mass=frame["mass"] * 15 + 70, age=frame["age"] * 12 + 40)

    net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(net, TABLE, dress=raw, classes=("ant", "bee", "cat"))
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(refused=r"scale|standardi|normali", warned=r"scale|standardi|normali")


def test_scale_of_a_column_is_read(newcomer: Newcomer) -> None:
    """`scale: 0.001` of one column gives the model kilograms if the file has grams; the rest is inferred."""
    net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(
        net, TABLE, dress=lambda frame: frame.assign(mass=(frame["mass"] * 1000).round()), classes=("a", "b", "c")
    )
    columns = [{"name": "mass", "scale": 0.001}]
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"columns": columns})
    newcomer.expect(read=True)


def test_columns_in_another_order_are_warned_of(newcomer: Newcomer) -> None:
    """A model whose columns had another order than the file's is worse than the majority, and a notice says so."""
    wide = numbers("alpha", "beta", "gamma", "delta", "epsilon")
    net = newcomer.build(mlp(5, 3), train_input(wide), seed=11)
    with torch.no_grad():  # as far from symmetric as it gets: misread, its answers are worse than any guess
        net[0].weight.mul_(torch.tensor([3.0, 2.0, 0.0, -2.0, -3.0]))
    newcomer.tables(net, wide, classes=("a", "b", "c"), dress=lambda frame: frame[list(frame)[::-1]])
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(refused=r"column|order|accuracy", warned=r"column|order|accuracy")


def test_columns_of_the_test_file_in_another_order_are_read(newcomer: Newcomer) -> None:
    """Columns go by name: a test file with its columns in another order is read rightly."""
    net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=("a", "b", "c"), dress_test=lambda frame: frame[["age", "length", "mass"]])
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(read=True)


def test_declared_columns_drop_the_rest(newcomer: Newcomer) -> None:
    """A config that lists the model's columns leaves the file's other columns out, as it always did."""
    net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(
        net, TABLE, classes=("a", "b", "c"), dress=lambda frame: frame.assign(note="x", id=range(len(frame)))
    )
    columns = [{"name": name, "kind": "numeric"} for name in ("length", "mass", "age")]
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"columns": columns})
    newcomer.expect(read=True)


def test_rest_is_dropped_if_asked(newcomer: Newcomer) -> None:
    """`input.rest: drop` leaves out every column that the list does not name; kinds are inferred."""
    net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=("a", "b", "c"), dress=lambda frame: frame.assign(id=range(len(frame))))
    columns = [{"name": name} for name in ("length", "mass", "age")]
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"columns": columns, "rest": "drop"})
    newcomer.expect(read=True)


def test_dropped_column_is_read(newcomer: Newcomer) -> None:
    """`drop: true` leaves one column out, and the rest is inferred."""
    net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=("a", "b", "c"), dress=lambda frame: frame.assign(id=range(len(frame))))
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"columns": [{"name": "id", "drop": True}]})
    newcomer.expect(read=True)
