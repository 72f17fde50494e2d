"""Coalitions of players, as Shapley values have them: a player is one input, or several that change together.

A coalition's players have the row's values, and all other players have the baseline's.
"""

import math

import torch
from torch import Tensor

from guards.explainers.explained_function import Subject
from guards.input.schema import InputSchema

__all__ = ["outputs", "players_of", "spread"]


def players_of(schema: InputSchema, most: int) -> Tensor:
    """Give each input's player, numbered from 0, in the shape of a row: at most ``most`` players, or all columns.

    The players of a table are its columns. The players of an image are square patches of all channels, as small as
    fits. The players of a tensor are equal runs of its elements.
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


def outputs(
    subject: Subject, row: Tensor, baseline: Tensor, target: Tensor, players: Tensor, present: Tensor
) -> Tensor:
    """Give the number (m,) float64 for each coalition; ``present`` (m, g) marks the players of each coalition."""
    numbers = []
    players = players.to(row.device)
    for few in torch.split(present, 256):
        mixed = torch.where(few.to(row.device)[:, players], row, baseline)
        numbers.append(subject.evaluate(mixed, target.expand(len(few))).double().cpu())
    return torch.cat(numbers)


def spread(contributions: Tensor, players: Tensor, row: Tensor) -> Tensor:
    """Share each player's contribution (g,) equally among the player's inputs: the row's shape (1, ...)."""
    sizes = players.flatten().bincount(minlength=len(contributions))
    return (contributions / sizes)[players][None].to(row.device)
