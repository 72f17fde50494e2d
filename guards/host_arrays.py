"""Finds tensors that numpy may read: on a few rows an operation takes numpy less than half of torch's time."""

import torch
from torch import Tensor

__all__ = ["is_on_host"]


def is_on_host(tensor: Tensor) -> bool:
    """Return whether numpy may read a tensor: the tensor is on the CPU, and no gradient is recorded.

    A caller has two implementations, one in torch and one in numpy. Both must return the same bits. So the numpy
    implementation may only compare, select, copy, add, subtract, multiply and divide: IEEE 754 fixes how these
    operations round. Sums over a row, exponentials and logarithms stay in torch, because each library rounds them
    differently.
    """
    return tensor.is_cpu and torch.is_inference_mode_enabled()
