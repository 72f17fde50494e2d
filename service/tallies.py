"""The monitors' counts that outlast a process: what is added up in the store, and what it is a sum of."""

import logging
from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import orjson

from guards.config import Config
from guards.monitor import CountingMonitor, Monitor
from guards.records import Records

__all__ = ["Counts", "Places", "Tallies", "layouts", "tally", "totals_of"]

LOG = logging.getLogger("guardhouse")
DEPLOY_TIME = {"average_run_length", "tolerance"}
"""Keys of a monitor's that change how its counts are judged, and not what is counted."""
Counts = npt.NDArray[np.int64]
Tallies = Mapping[str, Counts]
"""By monitor: counts of the monitor's own shape."""
Places = Mapping[int, int]
"""Counts by their place in a monitor's flattened counts; the others are 0."""


def tally(monitors: Sequence[Monitor], records: Records) -> Tallies:
    """Turn rows into the counts of every monitor that keeps any; one that crashes is left out."""
    tallies: dict[str, Counts] = {}
    for monitor in monitors:
        if isinstance(monitor, CountingMonitor):
            try:
                tallies[monitor.name] = monitor.tally(records)
            except Exception as crash:  # noqa: BLE001 - a third party's code
                LOG.error("monitor %s crashed in tally: %s", monitor.name, type(crash).__name__)  # noqa: TRY400
    return tallies


def layouts(monitors: Sequence[Monitor], config: Config) -> dict[str, str]:
    """Give, by monitor that counts, a digest of what its places count: sums of others must not mix."""
    parameters = {p.name: p.model_dump(mode="json", exclude=DEPLOY_TIME) for p in config.all_monitors}
    return {
        monitor.name: _digest(
            parameters[monitor.name],
            None if monitor.grouping is None else monitor.grouping.levels,
            monitor.counts.shape,
            monitor.context.classes,
            [(column.name, column.kind, column.categories) for column in monitor.context.schema.columns],
        )
        for monitor in monitors
        if isinstance(monitor, CountingMonitor)
    }


def totals_of(places: Places, counts: Counts) -> Counts:
    """Spell the store's totals out, in the shape of a monitor's own counts."""
    totals = np.zeros_like(counts)
    totals.flat[list(places.keys())] = list(places.values())
    return totals


def _digest(*parts: object) -> str:
    return sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
