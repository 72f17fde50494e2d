"""A model runs any number of rows, and a sentence says which rows it does not take."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from torch import Tensor, nn

from guards import Mistake
from guards.model.chunked_run import refusing, run_model


class Picky(nn.Module):
    """Raises for values above 40, as an embedding of 41 rows does."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        if bool((x > 40).any()):
            raise IndexError("index out of range in self")
        return self.head(x)


def picky() -> nn.Module:
    torch.manual_seed(0)
    return Picky()


def wrapped() -> Any:
    from guards.model.torch_model import TorchModel

    return TorchModel(picky(), example=torch.zeros(4, 5), outputs=3)


def test_a_row_that_the_model_does_not_take_is_described() -> None:
    """A single row for which the module raises an exception is reported with the row's values."""
    x = torch.zeros(600, 5)
    x[300, 2] = 41
    with pytest.raises(Mistake, match=re.escape("one row alone is refused, too; the row's values reach from 0 to 41")):
        run_model(wrapped(), x)


def test_a_mistake_stays_as_it_is() -> None:
    """A sentence for the user is not wrapped in another."""
    with pytest.raises(Mistake, match=r"^plain$"), refusing(wrapped(), torch.zeros(1, 5)):
        raise Mistake("plain")


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "b", "--config", "gateway.yaml", "--clean", "high.npz"],
        ["replay", "b", "--config", "gateway.yaml", "--stream", "high.npz"],
        ["explain", "b", "--config", "gateway.yaml", "--row", "high.npz:7"],
    ],
)
def test_no_command_shows_a_traceback(
    command: list[str], tmp_path: Path, guardhouse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that the model raises for end every command with status 2 and the model's reason."""
    monkeypatch.setattr(tiny_models, "picky", picky, raising=False)
    config = tiny_models.write(tmp_path, "tensor", model={"builder": "tiny_models:picky", "device": "cpu"})
    status, _, err = guardhouse("fit", config, "--out", tmp_path / "b")
    assert status == 0, err
    arrays = dict(np.load(tmp_path / "test.npz"))
    arrays["x"][7, 1] = 50
    np.savez(tmp_path / "high.npz", **arrays)
    words = [str(tmp_path / word.partition(":")[0]) + word[len(word.partition(":")[0]) :] if word[0] in "bgh" else word
             for word in command[1:]]  # fmt: skip
    status, _, err = guardhouse(command[0], *words)
    assert status == 2, err
    assert "an embedding has fewer rows than the values that are looked up" in err
    assert "Traceback" not in err
