"""Asks every counting monitor to count rows, and for the meaning of its counts."""

import logging
from collections.abc import Sequence
from hashlib import sha256

import orjson

from guards.config.config import Config
from guards.monitors.answered_rows import Records
from guards.monitors.base import Monitor
from guards.monitors.optional_methods import HasCounts
from service.monitoring.sums import Counts, Tallies

__all__ = ["layouts", "tally"]

LOG = logging.getLogger("guardhouse")
DEPLOY_TIME = {"average_run_length", "tolerance", "principals", "principal_share"}
"""The parameters of a monitor that may change while its counts keep their meaning."""


def tally(monitors: Sequence[Monitor], records: Records) -> Tallies:
    """Turn rows into the counts of every counting monitor; a monitor that crashes is left out."""
    tallies: dict[str, Counts] = {}
    for monitor in monitors:
        if isinstance(monitor, HasCounts):
            try:
                tallies[monitor.name] = monitor.tally(records.counted_by(monitor.name))
            except Exception as crash:  # noqa: BLE001 - a plug-in's code may raise anything
                LOG.error("monitor %s crashed in tally: %s", monitor.name, type(crash).__name__)  # noqa: TRY400
    return tallies


def layouts(monitors: Sequence[Monitor], config: Config) -> dict[str, str]:
    """Map each counting monitor to a digest of what its counts mean: counts with different meanings are never added."""
    parameters = {p.name: p.model_dump(mode="json", exclude=DEPLOY_TIME) for p in config.all_monitors}
    for written in parameters.values():  # a version without this key counted all rows, so its totals stay valid
        if written.get("include") == "all":
            del written["include"]
    return {
        monitor.name: _digest(
            parameters[monitor.name],
            None if monitor.grouping is None else monitor.grouping.levels,
            monitor.counts.shape,
            monitor.context.classes,
            [(column.name, column.kind, column.categories) for column in monitor.context.schema.columns],
        )
        for monitor in monitors
        if isinstance(monitor, HasCounts)
    }


def _digest(*parts: object) -> str:
    return sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
