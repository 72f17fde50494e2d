"""Cuts the rows of a file into batches, with the groups that requests would send and the rows' draws."""

from collections.abc import Iterator, Sequence

import torch

from guards.bundle.bundle import Bundle
from guards.calibration.draws import uniform_draws
from guards.model.batch_shapes import bucket
from guards.model.chunked_run import CHUNK
from guards.monitors.groups.monitor import level_codes, of_requests
from guards.types import Batch, Rows

__all__ = ["as_served", "batches_of"]


def batches_of(bundle: Bundle, rows: Rows, *, ids: Sequence[str] | None = None, size: int = CHUNK) -> Iterator[Batch]:
    """Give the rows in order, at most ``size`` in a batch, on the model's device.

    Randomised prediction sets draw by ``ids``, one for each row; default: the row's place, from 0.
    """
    device, codes = bundle.model.device, level_codes(of_requests(bundle.monitors), len(rows), rows.groups)
    draws = torch.from_numpy(uniform_draws(map(str, range(len(rows))) if ids is None else ids, bundle.id))
    for chunk in (slice(start, start + size) for start in range(0, len(rows), size)):
        groups = {name: values[chunk].to(device) for name, values in codes.items()}
        yield Batch(rows.x[chunk].to(device), groups, draws=draws[chunk].to(device))


def as_served(batch: Batch, largest: int) -> Batch:
    """Fill a batch up to the size at which a server would run it, by repeating its last row."""
    index = torch.arange(bucket(len(batch), largest), device=batch.x.device).clamp(max=len(batch) - 1)
    return Batch(
        batch.x[index],
        {name: codes[index] for name, codes in batch.groups.items()},
        draws=None if batch.draws is None else batch.draws[index],
    )
