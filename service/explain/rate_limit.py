"""How often one client may ask: a token bucket for each address, in a table of bounded size."""

import ipaddress
import math
import time
from collections import OrderedDict

__all__ = ["Allowance", "client_of"]

CLIENTS = 4096
IPV6_NETWORK = 64


class Allowance:
    """``rate`` requests a minute, and ``burst`` at once.

    If the table is full, a new address replaces the address that was seen least recently. All addresses of one IPv6
    /64 network count as one client, because a client can use every address of its network.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate / 60, float(burst)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, address: str, now: float | None = None) -> float:
        """Take a token of an address. Return 0 if there was a token, otherwise the seconds until the next token."""
        now = time.monotonic() if now is None else now
        client = client_of(address)
        tokens, last = self._buckets.pop(client, (self._burst, now))
        tokens = min(self._burst, tokens + (now - last) * self._rate)
        granted = tokens >= 1
        self._buckets[client] = (tokens - granted, now)
        if len(self._buckets) > CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if granted else math.ceil((1 - tokens) / self._rate)

    def give_back(self, address: str) -> None:
        """Put back the token of a request that was not worth one."""
        client = client_of(address)
        if client in self._buckets:
            tokens, last = self._buckets[client]
            self._buckets[client] = (min(self._burst, tokens + 1), last)


def client_of(address: str) -> str:
    """Give the key under which a client with this address is counted."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:  # how a server that listens on IPv6 sees its IPv4 clients
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, IPV6_NETWORK), strict=False))
