"""How far a search may change a guard's share of the budget without taking from another guard its last flag."""

from collections.abc import Sequence

from guards.config.config import Config
from guards.config.heldout_rows import guard_without_turn

__all__ = ["share_range"]

MOST = 10.0
"""A share is at most so many times as large or as small as in the config."""
STEPS = 40
"""The range is found in steps of a fortieth of the way, on a scale of factors."""


def share_range(config: Config, guard: int, counts: Sequence[int], *, labelled: bool) -> tuple[float, float]:
    """Give the least and the largest share of the guard number ``guard``, for all ``counts`` of calibration rows.

    Within the range every guard that can flag by its p-value now can still flag, though perhaps more rarely. A single
    guard has the whole budget, whatever its share is.
    """
    share = config.guards[guard].share
    if len(config.budgeted) == 1:
        return share, share
    able = [_able(config, rows, labelled=labelled) for rows in counts]
    ends = []
    for factor in (1 / MOST, MOST):
        end = share
        for step in range(1, STEPS + 1):
            tried = share * factor ** (step / STEPS)
            guards = [
                spec.model_copy(update={"share": tried}) if index == guard else spec
                for index, spec in enumerate(config.guards)
            ]
            changed = config.model_copy(update={"guards": tuple(guards)})
            if any(not now <= _able(changed, rows, labelled=labelled) for now, rows in zip(able, counts, strict=True)):
                break
            end = tried
        ends.append(end)
    return ends[0], ends[1]


def _able(config: Config, rows: int, *, labelled: bool) -> set[int]:
    """Find the guards whose share of the budget allows a flag."""
    places = range(len(config.guards))
    return {place for place in places if guard_without_turn(config, place, rows, labelled=labelled) is None}
