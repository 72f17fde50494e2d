"""Checks that a snapshot belongs to a sequential monitor, before the monitor continues from the snapshot."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["check_snapshot"]


def check_snapshot(
    state: Mapping[str, npt.NDArray[np.generic]],
    own: Mapping[str, npt.NDArray[np.generic]],
    epoch: int,
    offsets: npt.NDArray[np.int64],
    clock_names: Sequence[str],
) -> None:
    """Refuse a ``state`` that is no snapshot of a monitor of the same bundle.

    Raises:
        ValueError: ``state`` is not such a snapshot.
    """
    if state.keys() != own.keys():
        raise ValueError(f"a snapshot has {sorted(own)}, this has {sorted(state)}")
    for name, array in own.items():
        if state[name].shape != array.shape or state[name].dtype != array.dtype:
            raise ValueError(f"{name} is {state[name].dtype} {state[name].shape}, not {array.dtype} {array.shape}")
        if not (np.isfinite(state[name]) & (state[name] >= np.zeros((), array.dtype))).all():
            raise ValueError(f"{name} holds a number that is negative or not finite")
    if not np.array_equal(state["reference"], own["reference"]):
        raise ValueError("it was taken with another reference, so it belongs to another bundle")
    clock = dict(zip(clock_names, state["clock"].tolist(), strict=True))
    pending = np.add.reduceat(state["unjudged"].astype(np.int64), offsets)
    if clock["alarm"] > 1 or clock["pending"] >= epoch or (pending != clock["pending"]).any():
        raise ValueError("its pending rows do not fit its clock")
