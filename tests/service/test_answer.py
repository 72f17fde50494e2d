"""Answers on the host."""

import numpy as np
import torch

from service.answer import Answer, packed_to_host


def test_one_packed_copy_is_the_same_as_many() -> None:
    """Every kind of tensor comes through the packed copy with its own type, shape and values."""
    tensors = [
        torch.tensor([3, 0]),
        torch.tensor([[0.1, torch.nan], [1.0, 0.5]]),
        torch.tensor([[True, False], [False, False]]),
        None,
        torch.rand(2, 5),
        torch.tensor([999, 16_000_000]),
    ]
    for tensor, array in zip(tensors, packed_to_host(tensors), strict=True):
        if tensor is None:
            assert array is None
        else:
            assert array is not None
            np.testing.assert_array_equal(array, tensor.numpy())
            assert array.dtype == tensor.numpy().dtype


def test_pieces_of_an_answer_join_to_the_whole() -> None:
    """An answer cut in two and joined again is the same answer."""
    n = 5
    whole = Answer(
        action=np.arange(n), p_value=np.random.default_rng(0).random((n, 2)), flagged=np.eye(n, 2, dtype=bool),
        violated=None, causes={"a": np.eye(n, 3, dtype=bool)}, probabilities=None, label=None, members=None,
        value=np.arange(n) / 2, interval=np.zeros((n, 2)),
    )  # fmt: skip
    joined = Answer.join([whole.rows(0, 2), whole.rows(2, n)])
    assert len(joined) == n
    np.testing.assert_array_equal(joined.p_value, whole.p_value)
    np.testing.assert_array_equal(joined.causes["a"], whole.causes["a"])
    assert joined.violated is None
