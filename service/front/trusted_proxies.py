"""Which address a request comes from, if proxies whose word is believed stand in front of the server."""

import ipaddress
from collections.abc import Iterable, Sequence

__all__ = ["TrustedProxies"]

FIELD = b"x-forwarded-for"
MOST_HOPS = 32
"""How many addresses of the header are read, from the right. A client can make the header as long as a head may be."""
IPV4_PARTS, PORT_DIGITS = 4, 5
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class TrustedProxies:
    """Finds the client behind the proxies that the config names; no other sender's ``X-Forwarded-For`` is believed.

    Every proxy appends the address that it was asked from. So the header is read from the right, and the client is the
    first address that is no trusted proxy. Whatever stands further left may be made up.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        """Trust the proxies in these networks."""
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def client(self, peer: str, fields: Sequence[tuple[bytes, bytes]]) -> str:
        """Return the address of the client; that is the peer's own address if the peer is no trusted proxy.

        If a trusted proxy did not say whom it was asked by, or said something other than an address, the client is the
        last proxy that is known.

        Args:
            peer: the address of the connection; empty if it has none.
            fields: the fields of the head, whose names are in lower case.
        """
        if not self._networks or not self._trusts(known := _address(peer)):
            return peer
        hops = b",".join(value for name, value in fields if name == FIELD).rsplit(b",", MOST_HOPS)[-MOST_HOPS:]
        for hop in reversed(hops):
            text = hop.decode("latin-1").strip(" \t")
            if not text:
                continue
            if (address := _address(_without_port(text))) is None:
                break
            known = address
            if not self._trusts(address):
                break
        return str(known)

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def _address(text: str) -> Address | None:
    """Read an address; return None if there is none. An IPv4 address that is written as IPv6 is the IPv4 address."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _without_port(text: str) -> str:
    """Leave out the port that some proxies add: ``192.0.2.1:4711``, ``[2001:db8::1]:4711``."""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        return host if bracket and (not port or _is_port(port)) else text
    host, colon, port = text.partition(":")
    return host if host.count(".") == IPV4_PARTS - 1 and colon and _is_port(colon + port) else text


def _is_port(text: str) -> bool:
    return text[0] == ":" and text[1:].isascii() and text[1:].isdecimal() and len(text) <= 1 + PORT_DIGITS
