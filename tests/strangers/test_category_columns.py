"""Columns of categories: text that looks like numbers, numbers that are codes, booleans, unusual spellings."""

import pandas as pd
import pyarrow as pa
import pytest
from newcomers import Frame, Newcomer, numbers, train_input, with_codes

TABLE = numbers("length", "mass", "age")
CODED = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.codes = nn.Embedding({categories}, 3)
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, x):
        x = torch.cat([x[:, :3], 2 * self.codes(x[:, 3].long())], 1)
        return self.head(torch.tanh(self.body(x)))


def build():
    return Net()
"""


def coded(
    newcomer: Newcomer,
    name: str,
    shown: list[object],
    *,
    suffix: str = ".csv",
    dtype: object = None,
    spare: int = 0,
    **config: object,
) -> None:
    """Write three numbers and a column of categories, of which ``shown`` is what the file has for each code.

    ``spare`` are entries of the embedding that no category needs, so that a wrong index crashes nothing.
    """
    clean = with_codes(TABLE, **{name: len(shown)})
    net = newcomer.build(CODED.format(categories=len(shown) + spare), train_input(clean))

    def dress(frame: Frame) -> Frame:
        return frame.assign(**{name: pd.Series([shown[code] for code in frame[name]], dtype=dtype or object)})

    newcomer.tables(net, clean, dress=dress, suffix=suffix)
    newcomer.config(model={"weights": newcomer.weights(net)}, **config)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_digits_with_leading_zeros_are_text(newcomer: Newcomer, suffix: str) -> None:
    """Postal codes such as 02139 are categories, and not the number 2139."""
    coded(newcomer, "zip", ["02139", "10115", "75001", "94103"], suffix=suffix)
    newcomer.expect(read=True, said="zip", refused="zip", warned="zip")


def test_leading_zeros_of_small_codes_are_text(newcomer: Newcomer) -> None:
    """Product codes 001 to 003 are categories, though the numbers 1 to 3 would crash no embedding of five."""
    coded(newcomer, "product", ["001", "002", "003"], spare=2)
    newcomer.expect(read=True, said="product", refused="product", warned="product")


def test_text_of_digits_in_parquet_is_text(newcomer: Newcomer) -> None:
    """A string column of Parquet that holds digits stays a string column: its categories are sorted, and no numbers."""
    coded(newcomer, "rating", ["1", "2", "3", "5"], suffix=".parquet")
    newcomer.expect(read=True, refused="rating", warned="rating")


def test_codes_that_are_numbers_are_declared(newcomer: Newcomer) -> None:
    """One entry of `input.columns` makes 10, 20, 30 categories, and leaves the other columns inferred."""
    coded(
        newcomer,
        "branch",
        [10, 20, 30, 90],
        input={"columns": [{"name": "branch", "kind": "categorical", "categories": ["10", "20", "30", "90"]}]},
    )
    newcomer.expect(read=True)


def test_codes_that_are_numbers_are_noticed(newcomer: Newcomer) -> None:
    """Codes 10, 20, 30 that are taken as numbers crash an embedding: the column is named."""
    coded(newcomer, "branch", [10, 20, 30, 90])
    newcomer.expect(read=True, refused="branch", warned="branch")


def test_whole_numbers_beyond_doubles_stay_exact(newcomer: Newcomer) -> None:
    """int64 ids beyond 2**53, declared categorical, stay different, although as doubles they are one number."""
    ids = [2**53 + offset for offset in (1, 2, 3, 4)]
    coded(
        newcomer,
        "account",
        list(ids),
        suffix=".parquet",
        dtype="int64",
        input={"columns": [{"name": "account", "kind": "categorical"}]},
    )
    newcomer.expect(read=True)


def test_categories_of_a_frame_keep_their_order(newcomer: Newcomer) -> None:
    """A model of cat.codes has the order of the category type (low, mid, high) and not the alphabet's."""
    order = ["low", "mid", "high"]
    coded(newcomer, "level", list(order), suffix=".parquet", dtype=pd.CategoricalDtype(order, ordered=True))
    newcomer.expect(read=True, refused=r"level.*order|order.*level", warned=r"level.*order|order.*level|accuracy")


def test_dictionary_of_parquet_is_text(newcomer: Newcomer) -> None:
    """A dictionary-encoded column of Parquet is its strings."""
    coded(
        newcomer,
        "town",
        ["Bonn", "Graz", "Lyon"],
        suffix=".parquet",
        dtype=pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string())),
    )
    newcomer.expect(read=True)


def test_category_named_na_is_a_category(newcomer: Newcomer) -> None:
    """NA is Namibia, and None a kind of roof: they stay categories, whatever pandas takes them for."""
    coded(newcomer, "country", ["DE", "FR", "NA", "None"])
    newcomer.expect(read=True, warned="country")


def test_blanks_around_categories_do_not_make_them_unseen(newcomer: Newcomer) -> None:
    """A file with ", " between its fields has " red" for the declared "red": the same, or named."""
    colours = ["blue", "green", "red"]
    column = {"name": "colour", "kind": "categorical", "categories": colours}
    coded(newcomer, "colour", [f" {name}" for name in colours], input={"columns": [column]})
    newcomer.expect(read=True, refused="colour", warned="colour")


def test_categories_in_other_letters_do_not_go_unseen(newcomer: Newcomer) -> None:
    """Values "Red" beside a declared "red" are unseen in every row, and a notice says so."""
    colours = ["blue", "green", "red"]
    column = {"name": "colour", "kind": "categorical", "categories": colours}
    coded(newcomer, "colour", [name.title() for name in colours], input={"columns": [column]})
    newcomer.expect(read=True, refused="colour", warned="colour")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_booleans_are_read(newcomer: Newcomer, suffix: str) -> None:
    """A column of True and False gives the model 0 and 1."""
    coded(newcomer, "member", [False, True], suffix=suffix, dtype=bool)
    newcomer.expect(read=True)


def test_booleans_in_lower_case_are_the_same(newcomer: Newcomer) -> None:
    """A training file from pandas says True, a test file from a database says true: both are true."""
    clean = with_codes(TABLE, member=2)
    net = newcomer.build(CODED.format(categories=2), train_input(clean))
    newcomer.tables(
        net,
        clean,
        dress=lambda frame: frame.assign(member=frame["member"] == 1),
        dress_test=lambda frame: frame.assign(member=[["false", "true"][code] for code in frame["member"]]),
    )
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(read=True)


def test_yes_and_no_are_read(newcomer: Newcomer) -> None:
    """A column of Y and N is a category of two."""
    coded(newcomer, "member", ["N", "Y"])
    newcomer.expect(read=True)
