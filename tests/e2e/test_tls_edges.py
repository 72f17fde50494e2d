"""The example proxies of `deploy/edge` end TLS, pass on HTTP and gRPC, say who asks, and keep their limits."""

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import httpx
import psutil
import pytest
from edges import PROXIES, Edge, edge
from example_folders import ALLOWED
from gateways import STALL_SECONDS, free_port
from v2_client import start
from waiting import until

from service.front.protocols import grpc_predict_v2_pb2 as wire
from service.keys.key_file import add_key

if TYPE_CHECKING:
    from conftest import Bundles

NAMES = pytest.mark.parametrize("name", PROXIES)
ROW = {"instances": [ALLOWED]}
INFER = "/inference.GRPCInferenceService/ModelMetadata"


@pytest.fixture(scope="module")
def guarded(bundles: "Bundles", tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, str, str]]:
    """Serve a classifier to those who have a key, and give both addresses, a key, and the model's name."""
    file = tmp_path_factory.mktemp("keys") / "keys.yaml"
    key = add_key(file, "shop", ["predict", "explain"])
    environment = {"GUARDHOUSE_API_KEYS_FILE": str(file)}
    gateway, rpc = start(bundles, "table", environment=environment, trusted_proxies=["127.0.0.1"])
    gateway.wait_ready()
    yield f"127.0.0.1:{gateway.port}", rpc, key, "loans"
    gateway.stop()


@NAMES
def test_a_key_predicts_over_tls(name: str, guarded: tuple[str, str, str, str], tmp_path: Path) -> None:
    """HTTPS and gRPC over TLS answer on one port with a key, refuse without one, and HTTP/2 is offered."""
    address, rpc, key, model = guarded
    with edge(name, tmp_path, address, rpc) as proxy, httpx.Client(verify=proxy.context()) as client:
        url, bearer = f"{proxy.url}/predict", {"Authorization": f"Bearer {key}"}
        until(lambda: client.post(url, json=ROW).status_code != 503)
        assert client.post(url, json=ROW).status_code == 401
        answer = client.post(url, json=ROW, headers=bearer)
        assert answer.status_code == 200
        assert answer.json()["predictions"][0]["label"] == "yes"
        assert negotiated(proxy) == "h2"
        root = grpc.ssl_channel_credentials(proxy.certificate.read_bytes())
        with grpc.secure_channel(f"localhost:{proxy.port}", root) as channel:
            call = channel.unary_unary(INFER)
            asked = wire.ModelMetadataRequest(name=model).SerializeToString()
            with pytest.raises(grpc.RpcError) as refused:
                until(lambda: call(asked, timeout=STALL_SECONDS))
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
            said = call(asked, timeout=STALL_SECONDS, metadata=[("authorization", f"Bearer {key}")])
            assert wire.ModelMetadataResponse.FromString(said).name == model


def negotiated(proxy: Edge) -> str | None:
    """Give the protocol that a client and the proxy agree on."""
    with (
        socket.create_connection(("127.0.0.1", proxy.port), STALL_SECONDS) as plain,
        proxy.context("h2", "http/1.1").wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return connection.selected_alpn_protocol()


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the headers of the request."""

    def do_GET(self) -> None:
        body = json.dumps({key.lower(): value for key, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def echo() -> Iterator[str]:
    """Run a server that says what it was sent."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@NAMES
def test_limits_and_addresses_of_an_edge(name: str, echo: str, tmp_path: Path) -> None:
    """The last address is the one that the proxy saw; large bodies are 413; a slow head ends in its time."""
    rpc = f"127.0.0.1:{free_port()}"
    with (
        edge(name, tmp_path, echo, rpc, **{"10s": "1s"}) as proxy,
        httpx.Client(verify=proxy.context(), timeout=STALL_SECONDS) as client,
    ):
        until(lambda: client.get(proxy.url).status_code == 200)
        told = client.get(proxy.url, headers={"X-Forwarded-For": "203.0.113.7"}).json()["x-forwarded-for"]
        mine = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
        assert told.split(",")[-1].strip() in mine  # Envoy names another address of this machine than 127.0.0.1
        assert client.post(proxy.url, content=bytes(16 * 1024 * 1024 + 1)).status_code == 413
        with (
            socket.create_connection(("127.0.0.1", proxy.port), STALL_SECONDS) as plain,
            proxy.context("http/1.1").wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            assert b" 408 " in connection.recv(1000).partition(b"\r\n")[0]
