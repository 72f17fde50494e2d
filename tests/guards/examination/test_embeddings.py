"""Every category of a column is tried: a sentence names the column of an embedding that is too small."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from guards import InputSchema, Mistake
from guards.examination.embeddings import refuse_small_embeddings
from guards.input.column import Column
from guards.input.imputation import Imputation
from guards.notices import Notices

NAMES = ("ant", "bee", "cat", "dog")


class Lookup(nn.Module):
    """One number and two categories, each category in an embedding of its own."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__()
        self.animal, self.colour, self.head = nn.Embedding(first, 2), nn.Embedding(second, 2), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([x[:, :1], self.animal(x[:, 1].long()), self.colour(x[:, 2].long())], dim=1))


class OneHot(Lookup):
    """The first category as one of three."""

    def forward(self, x: Tensor) -> Tensor:
        hot = functional.one_hot(x[:, 1].long(), 3)[:, :2]
        return self.head(torch.cat([x[:, :1], hot, self.colour(x[:, 2].long())], dim=1))


def tried(net: nn.Module, *, declared: bool = False, most_rows: int | None = None) -> list[str]:
    columns = (
        Column(name="mass", kind="numeric"),
        Column(name="animal", kind="categorical", categories=NAMES, categories_declared=declared),
        Column(name="colour", kind="categorical", categories=("blue", "red"), categories_declared=declared, fill=1.0),
    )
    schema = InputSchema(kind="tabular", shape=(3,), columns=columns)
    fill, none = torch.tensor([0.0, 0.0, 1.0]), torch.zeros(3, dtype=torch.bool)
    notices = Notices()
    imputation = Imputation(fill, schema.categorical, none)
    refuse_small_embeddings(net, schema, imputation, least_rows=1, most_rows=most_rows, notices=notices)
    return notices.notes


@pytest.mark.parametrize("most_rows", [None, 2])
@pytest.mark.parametrize(
    ("net", "sentence"),
    [
        (
            lambda: Lookup(3, 2),
            "column 'animal' has 4 categories, and the model's embedding 'animal' has 3 rows",
        ),
        (
            lambda: Lookup(4, 1),
            "column 'colour' has 2 categories, and the model's embedding 'colour' has 1 rows",
        ),
        (lambda: OneHot(4, 2), r"column 'animal' has 4 categories, and the model fails for 'dog', whose index is 3"),
    ],
)
def test_an_embedding_that_is_too_small(net: Any, sentence: str, most_rows: int | None) -> None:
    """A column with more categories than the model can look up is refused, with its name and both numbers."""
    with pytest.raises(Mistake, match=sentence):
        tried(net(), most_rows=most_rows)


def test_embeddings_that_fit() -> None:
    """A model that takes all categories is accepted; room for more is noted if no categories were declared."""
    assert tried(Lookup(4, 2)) == []
    assert tried(Lookup(6, 2), declared=True) == []
    assert "the embedding 'animal' has 6 rows, and column 'animal' has 4 categories" in tried(Lookup(6, 2))[0]


def test_other_faults_are_left_to_the_trial() -> None:
    """A module that fails for a plain row is not blamed on a category."""
    assert tried(nn.Linear(7, 2)) == []
