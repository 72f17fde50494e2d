"""Token buckets in the memory of one process, in a table of bounded size."""

import ipaddress
import time
from collections import OrderedDict
from typing import NamedTuple

__all__ = ["Buckets", "Rate", "client_of"]

CLIENTS = 65_536
IPV6_NETWORK = 64


class Rate(NamedTuple):
    """How much a caller may use: so much a second on average, and ``burst`` at once."""

    per_second: float
    burst: float


class Buckets:
    """A bucket of tokens for each key. A full bucket is not kept, so only keys that were used recently take memory.

    If the table is full, a new key replaces the key that was used least recently.
    """

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(
        self, key: str, rate: Rate, amount: float = 1.0, *, charge: bool = False, now: float | None = None
    ) -> float:
        """Take tokens. Return 0 if they were taken, otherwise the seconds until they can be.

        A caller that wants more than a burst may have it if its bucket is full; then it is in debt, and waits until the
        debt is paid. If ``charge`` is true, the tokens are taken in any case, because they have been used already. A
        negative amount gives tokens back.
        """
        now = time.monotonic() if now is None else now
        tokens, last = self._buckets.pop(key, (rate.burst, now))
        tokens = min(rate.burst, tokens + (now - last) * rate.per_second)
        needed = min(amount, rate.burst)
        granted = charge or tokens >= needed
        if granted:
            tokens = min(rate.burst, tokens - amount)
        if tokens < rate.burst:
            self._buckets[key] = (tokens, now)
            if len(self._buckets) > CLIENTS:
                self._buckets.popitem(last=False)
        return 0.0 if granted else (needed - tokens) / rate.per_second


def client_of(address: str) -> str:
    """Give the key under which a client with this address is counted.

    All addresses of one IPv6 /64 network are one client, because a client can use every address of its network.
    """
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:  # how a server that listens on IPv6 sees its IPv4 clients
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, IPV6_NETWORK), strict=False))
