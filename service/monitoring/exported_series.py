"""The monitors' series for Prometheus: a counter starts at 0 when the server starts, and never decreases.

If a counter decreases, Prometheus takes this as a restart, and ``increase`` counts the whole value again. A monitor's
counter could decrease between two scrapes for four reasons: a new engine replaces a killed engine; a snapshot is older
than the last scrape; a monitor crashes, and another monitor with a lower count gives the same series; or a monitor
takes back counts.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from guards.monitors.base import Series

__all__ = ["ExportedSeries"]

LOG = logging.getLogger("guardhouse")
Key = tuple[str, ...]


@dataclass(slots=True)
class _Exported:
    """One exported counter: its monitor, the offset that is added to the monitor's value, and the last value."""

    monitor: str
    offset: float
    last: float


class ExportedSeries:
    """Turns the monitors' own series into this server's series: counts from snapshots are not in the counters.

    Only one thread at a time may use an object of this class.
    """

    def __init__(self, exported: Mapping[Key, float] = MappingProxyType({})) -> None:
        """Continue from ``exported``: the last value of each counter that the server's earlier engines exported.

        A key is the counter's name without ``_total``, and its label values.
        """
        self._before = dict(exported)
        self._restored: dict[str, dict[Key, float]] = {}
        self._counters: dict[Key, _Exported] = {}
        self._fallen: set[tuple[str, str]] = set()

    def restored(self, monitor: str, series: Sequence[Series]) -> None:
        """Note a monitor's series right after a restore: earlier engines have already exported these counts."""
        self._restored[monitor] = {_key(each): each.value for each in series if each.kind == "counter"}

    def continued(self, monitor: str, before: Sequence[Series], after: Sequence[Series]) -> None:
        """Let a monitor's counters go on from their values ``before`` it was reset, though they are less ``after``."""
        old = {_key(each): each.value for each in before if each.kind == "counter"}
        for each in after:
            known = self._counters.get(_key(each))
            if each.kind == "counter" and known is not None and known.monitor == monitor:
                known.offset += old.get(_key(each), each.value) - each.value

    def of(self, monitors: Mapping[str, Sequence[Series]]) -> list[Series]:
        """Give every series once; counters count from the start of this server.

        ``monitors`` maps each monitor's name to the monitor's own series. If several monitors give the same series,
        the series of the first monitor is exported. If that monitor has crashed and gives no series, the series of the
        next monitor continues from the last value.
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
            before = self._before.get(key, 0.0)
            known = _Exported(monitor, before - self._restored.get(monitor, {}).get(key, 0.0), before)
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
    return (series.metric.removesuffix("_total"), *series.labels.values())
