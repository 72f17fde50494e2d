"""Whom a request comes from: peers, proxies that are believed, and headers that are not."""

import asyncio
from functools import partial

import pytest
from front_connections import lifespan_state
from hypothesis import given
from hypothesis import strategies as st
from uvicorn import Config
from uvicorn.server import ServerState

from service.front.direct import Direct
from service.front.dispatch import COMMON_CODES, POST_CODES, UNMATCHED, Limits
from service.front.http import Call, Reply, Route
from service.front.trusted_proxies import MOST_HOPS, TrustedProxies
from service.front.uvicorn_protocol import StrictProtocol
from service.telemetry.metrics.front import FrontMetrics
from service.telemetry.request_record import Exchanges

PROXIES = TrustedProxies(["10.0.0.0/8", "192.0.2.7/32", "2001:db8:1::/48"])


def fields(*values: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), *[(b"x-forwarded-for", value.encode("latin-1")) for value in values]]


@pytest.mark.parametrize(
    ("peer", "values", "client"),
    [
        ("10.1.1.1", ["203.0.113.5"], "203.0.113.5"),
        ("10.1.1.1", ["203.0.113.5:4711"], "203.0.113.5"),
        ("10.1.1.1", ["[2001:db8:2::5]:4711"], "2001:db8:2::5"),
        ("10.1.1.1", ["[2001:db8:2::5]"], "2001:db8:2::5"),
        ("10.1.1.1", ["2001:DB8:2:0::5"], "2001:db8:2::5"),
        ("10.1.1.1", ["::ffff:203.0.113.5"], "203.0.113.5"),
        ("::ffff:10.1.1.1", ["203.0.113.5"], "203.0.113.5"),
        ("2001:db8:1::9", ["203.0.113.5"], "203.0.113.5"),
        ("fe80::1%eth0", ["203.0.113.5"], "fe80::1%eth0"),
        ("10.1.1.1", ["6.6.6.6, 203.0.113.5, 10.2.2.2,192.0.2.7"], "203.0.113.5"),
        ("10.1.1.1", ["6.6.6.6", "203.0.113.5", "10.2.2.2"], "203.0.113.5"),
        ("10.1.1.1", ["203.0.113.5, , ", ""], "203.0.113.5"),
        ("10.1.1.1", ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", ["203.0.113.5, unknown"], "10.1.1.1"),
        ("10.1.1.1", ["203.0.113.5, _hidden, 10.2.2.2"], "10.2.2.2"),
        ("10.1.1.1", ["203.0.113.5:port"], "10.1.1.1"),
        ("10.1.1.1", ["[2001:db8:2::5"], "10.1.1.1"),
        ("10.1.1.1", ["203.0.113.5\xff"], "10.1.1.1"),
        ("198.51.100.1", ["203.0.113.5"], "198.51.100.1"),
        ("", ["203.0.113.5"], ""),
    ],
)
def test_the_client_is_the_last_address_that_is_no_trusted_proxy(peer: str, values: list[str], client: str) -> None:
    """A trusted peer's header is read from the right up to an unknown address; nobody else's header is read."""
    assert PROXIES.client(peer, fields(*values)) == client


@given(st.ip_addresses().map(str), st.lists(st.text(max_size=40).map(lambda text: text.encode("utf-8"))))
def test_without_proxies_nobody_is_believed(peer: str, values: list[bytes]) -> None:
    """By default no header changes a client's address."""
    assert TrustedProxies([]).client(peer, [(b"x-forwarded-for", value) for value in values]) == peer


@given(st.lists(st.binary(max_size=30), max_size=5), st.ip_addresses(network="203.0.113.0/24"))
def test_what_a_client_sends_changes_nothing(forged: list[bytes], client: object) -> None:
    """Whatever stands before the address that a trusted proxy appended, the client is that address."""
    appended = [(b"x-forwarded-for", value) for value in forged] + [(b"x-forwarded-for", str(client).encode())]
    assert PROXIES.client("10.1.1.1", appended) == str(client)


def test_few_addresses_are_read() -> None:
    """A header of nothing but trusted proxies is read for a bounded number of hops."""
    longest = ["203.0.113.5", *["10.2.2.2"] * MOST_HOPS]
    assert PROXIES.client("10.1.1.1", fields(", ".join(longest))) == "10.2.2.2"
    assert PROXIES.client("10.1.1.1", fields(", ".join(longest[:-1]))) == "203.0.113.5"


async def _client_of(call: Call) -> Reply:
    return Reply(call.client.encode())


async def _answer(*, direct: bool, trusted: list[str]) -> bytes:
    """Ask a server over TCP, with a header that names another client, whom the server takes the client for."""
    route = Route("/", {"POST": _client_of}, POST_CODES, direct=direct)
    exchanges = Exchanges(FrontMetrics({"/": POST_CODES, UNMATCHED: COMMON_CODES}))
    bounds = {"max_body_bytes": 1000, "timeout_seconds": 60.0}
    limits = Limits({"/": route}, exchanges, **bounds, closing=lambda: False, trusted_proxies=trusted)  # type: ignore[arg-type]
    config = Config(limits, log_config=None, access_log=False)
    config.load()
    state = lifespan_state(direct=Direct(limits))
    protocol = partial(StrictProtocol, config=config, server_state=ServerState(), app_state=state)
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    async with server, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(
            b"POST / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.5\r\nX-Forwarded-Proto: https\r\n"
            b"Connection: close\r\nContent-Length: 2\r\n\r\n{}"
        )
        answer = await reader.read()
        writer.close()
    return answer.rpartition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "general"])
@pytest.mark.parametrize(("trusted", "client"), [([], b"127.0.0.1"), (["127.0.0.0/8"], b"203.0.113.5")])
def test_both_ways_believe_the_same(direct: bool, trusted: list[str], client: bytes) -> None:
    """On both ways to a handler a local peer is believed only if the config names it, whatever uvicorn's default is."""
    assert asyncio.run(_answer(direct=direct, trusted=trusted)) == client
