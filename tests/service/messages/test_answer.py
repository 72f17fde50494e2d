"""The pipeline's results as arrays on the host."""

import numpy as np
import pytest
import torch

from service.engine.to_host import packed_to_host
from service.messages.answer import Answer


@pytest.mark.parametrize("guards", [0, 1, 3])
@pytest.mark.parametrize("rows", [1, 5])
def test_one_packed_copy_is_every_copy(rows: int, guards: int) -> None:
    """Values that go through one float32 array come out unchanged: types, shapes and bits; also without a guard."""
    generator = torch.Generator().manual_seed(rows)
    tensors = [
        torch.randint(0, 4, (rows,), generator=generator),
        torch.rand((guards, rows), generator=generator).T,
        torch.rand((guards, rows), generator=generator).T > 0.5,
        None,
        torch.full((rows, 2), torch.nan),
        torch.tensor([[torch.inf, -torch.inf, 1e-45]]).repeat(rows, 1),
        torch.randint(0, 2**20, (rows,), generator=generator),
    ]
    for tensor, array in zip(tensors, packed_to_host(tensors), strict=True):
        if tensor is None:
            assert array is None
        else:
            assert array is not None
            assert array.dtype == tensor.numpy().dtype
            assert np.array_equal(array, tensor.numpy(), equal_nan=tensor.is_floating_point())


def test_rows_and_join_are_inverse() -> None:
    """An answer cut into pieces and joined again is the answer."""
    rng = np.random.default_rng(0)
    whole = Answer(
        action=rng.integers(0, 4, 10),
        p_value=rng.random((10, 2)),
        flagged=rng.random((10, 2)) < 0.5,
        violated=rng.random((10, 2)) < 0.5,
        causes={"quality": rng.random((10, 3)) < 0.5},
        probabilities=rng.random((10, 4)),
        label=rng.integers(0, 4, 10),
        members=rng.random((10, 4)) < 0.5,
        value=None,
        interval=None,
    )
    again = Answer.join([whole.rows(0, 1), whole.rows(1, 7), whole.rows(7, 10)])
    for name in Answer.__slots__:
        one, other = getattr(whole, name), getattr(again, name)
        if name == "causes":
            one, other = one["quality"], other["quality"]
        assert (one is None and other is None) or np.array_equal(one, other)
    assert len(again) == 10
