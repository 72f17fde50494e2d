"""Which inputs are switched together between a row and a baseline, and what the subject makes of it."""

import math

import torch
from torch import Tensor

from guards.schema import InputSchema
from guards.subject import Subject

__all__ = ["grouped", "outputs", "spread"]


def grouped(schema: InputSchema, most: int) -> Tensor:
    """Number the groups of inputs, ``most`` at most, in the shape of a row.

    A table's are its columns. An image's are square patches of all channels, as small as fits; a tensor's are equal
    runs of its elements.
    """
    if schema.kind == "image":
        _, height, width = schema.shape
        side = 1
        while math.ceil(height / side) * math.ceil(width / side) > most:
            side += 1
        across = math.ceil(width / side)
        patches = (torch.arange(height) // side)[:, None] * across + (torch.arange(width) // side)[None]
        return patches.expand(schema.shape).contiguous()
    size = math.prod(schema.shape)
    run = 1 if schema.kind == "tabular" else math.ceil(size / most)
    return (torch.arange(size) // run).view(schema.shape)


def outputs(subject: Subject, row: Tensor, baseline: Tensor, target: Tensor, groups: Tensor, present: Tensor) -> Tensor:
    """Give the number (m,) float64 for coalitions ``present`` (m, g): the row's groups there, the baseline's else."""
    numbers = []
    groups = groups.to(row.device)
    for few in torch.split(present, 256):
        mixed = torch.where(few.to(row.device)[:, groups], row, baseline)
        numbers.append(subject.evaluate(mixed, target.expand(len(few))).double().cpu())
    return torch.cat(numbers)


def spread(contributions: Tensor, groups: Tensor, row: Tensor) -> Tensor:
    """Share each group's contribution (g,) equally among its inputs: the row's shape (1, ...)."""
    sizes = groups.flatten().bincount(minlength=len(contributions))
    return (contributions / sizes)[groups][None].to(row.device)
