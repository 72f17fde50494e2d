"""The monitors' series as Prometheus may rely on them: a counter starts at 0 with the process and never steps back.

To Prometheus a counter that falls has started anew, and ``increase`` then counts its whole value again. Three things
would make a monitor's counter fall between two scrapes: a snapshot that is older than the last scrape, another monitor
that stands in for one that crashed and has counted less, and a monitor that takes back what it counted.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from guards.monitor import Series

__all__ = ["ExportedSeries"]

LOG = logging.getLogger("guardhouse")
Key = tuple[str, ...]


@dataclass(slots=True)
class _Exported:
    """One exported counter: the monitor it comes from, what is added to that monitor's value, and the last value."""

    monitor: str
    offset: float
    last: float


class ExportedSeries:
    """Turns the monitors' own series, which go on from snapshots, into those of this process; one thread at a time."""

    def __init__(self) -> None:
        self._restored: dict[str, dict[Key, float]] = {}
        self._counters: dict[Key, _Exported] = {}
        self._fallen: set[tuple[str, str]] = set()

    def restored(self, monitor: str, series: Sequence[Series]) -> None:
        """Note the series that a monitor gave right after it was restored: earlier processes have exported those."""
        self._restored[monitor] = {_key(each): each.value for each in series if each.kind == "counter"}

    def of(self, monitors: Mapping[str, Sequence[Series]]) -> list[Series]:
        """Give every series once, counters as counts of this process.

        ``monitors`` are all monitors' own series, by the monitor's name. If several monitors give the same series, the
        first is exported. If that monitor gives no series because it crashed, the next monitor counts on from the
        last value.
        """
        found: dict[Key, dict[str, Series]] = {}
        for monitor, own in monitors.items():
            for series in own:
                found.setdefault(_key(series), {})[monitor] = series
        return [self._one(key, given) for key, given in found.items()]

    def _one(self, key: Key, given: Mapping[str, Series]) -> Series:
        monitor, series = next(iter(given.items()))
        if series.kind != "counter":
            return series
        known = self._counters.get(key)
        if known is None:
            known = _Exported(monitor, -self._restored.get(monitor, {}).get(key, 0.0), 0.0)
            self._counters[key] = known
        elif known.monitor in given:
            series = given[known.monitor]
        else:
            known.monitor, known.offset = monitor, known.last - series.value
        value = series.value + known.offset
        if value < known.last:
            self._say_fallen(known.monitor, series.metric)
            known.offset += known.last - value
            value = known.last
        known.last = value
        return replace(series, value=value)

    def _say_fallen(self, monitor: str, metric: str) -> None:
        if (monitor, metric) not in self._fallen:
            self._fallen.add((monitor, metric))
            LOG.warning("monitor %s: its counter %s fell: what /metrics gives stays, and goes on", monitor, metric)


def _key(series: Series) -> Key:
    return (series.metric, *series.labels.values())
