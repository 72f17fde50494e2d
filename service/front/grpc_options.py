"""The options of gRPC's core: bounds on messages and connections, and which pings are accepted."""

from guards.config.server import ServerConfig
from service.front.connections import most_files
from service.front.request_reader import HEADER_SECONDS

__all__ = ["grpc_options"]

FILES_PER_CONNECTION = 4
"""One file in so many may be a gRPC connection. HTTP's connections, and the server's own files, have the rest."""
PINGS = [
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.http2.max_ping_strikes", 2),
]
"""Options that accept a ping every second: most clients keep a connection alive by a ping every few seconds.

gRPC's guide calls the second option ``min_recv_ping_interval_without_data_ms``; gRPC's core ignores that name.
"""


STREAMS = [
    ("grpc.max_concurrent_streams", 128),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65535),
]
"""Options that bound what a connection may send before the server asks for it: a window of each stream."""


def grpc_options(server: ServerConfig, *, share_port: bool) -> list[tuple[str, int]]:
    """List the options. ``share_port`` if other fronts of this server listen on the same port.

    Two servers must not share a port: each would get half of the calls.
    """
    options = [
        ("grpc.max_receive_message_length", server.max_body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", int(share_port)),
        ("grpc.max_connection_idle_ms", round(server.keep_alive_seconds * 1000)),
        ("grpc.server_handshake_timeout_ms", round(HEADER_SECONDS * 1000)),
        *PINGS,
        *STREAMS,
    ]
    if (files := most_files()) is not None:
        options.append(("grpc.max_allowed_incoming_connections", min(files // FILES_PER_CONNECTION, 2**31 - 1)))
    return options
