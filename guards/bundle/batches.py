"""Cuts the rows of a file into batches, with the groups that requests would send and the draws of the rows' places."""

from collections.abc import Iterator

import torch

from guards.bundle.bundle import Bundle
from guards.calibration.draws import uniform_draws
from guards.model.chunked_run import CHUNK
from guards.monitors.groups.monitor import level_codes, of_requests
from guards.types import Batch, Rows

__all__ = ["batches_of"]


def batches_of(bundle: Bundle, rows: Rows) -> Iterator[Batch]:
    """Give the rows in order, at most :data:`CHUNK` in a batch, on the model's device.

    A row of a file has no id. So its place in the file, from 0, stands in place of the id.
    """
    device, codes = bundle.model.device, level_codes(of_requests(bundle.monitors), len(rows), rows.groups)
    draws = torch.from_numpy(uniform_draws(map(str, range(len(rows))), bundle.id))
    for chunk in (slice(start, start + CHUNK) for start in range(0, len(rows), CHUNK)):
        groups = {name: values[chunk].to(device) for name, values in codes.items()}
        yield Batch(rows.x[chunk].to(device), groups, draws=draws[chunk].to(device))
