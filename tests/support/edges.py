"""Real proxies with TLS, run with the example configs of `deploy/edge`, before servers of this machine."""

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from gateways import ROOT, STALL_SECONDS, free_port, listens
from haproxy import haproxy_program
from waiting import until

__all__ = ["PROXIES", "Edge", "edge"]

EXAMPLES = ROOT / "deploy" / "edge"
HTTP, GRPC = "127.0.0.1:3000", "127.0.0.1:3001"


@dataclass(frozen=True, slots=True)
class Edge:
    """A proxy that runs: its port, and the file of the certificate to trust."""

    port: int
    certificate: Path

    @property
    def url(self) -> str:
        """Where HTTPS is."""
        return f"https://127.0.0.1:{self.port}"

    def context(self, *protocols: str) -> ssl.SSLContext:
        """Make a TLS context that trusts the certificate, and offers these protocols."""
        context = ssl.create_default_context(cafile=self.certificate)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context


def envoy_program() -> str:
    """Find Envoy, or skip the test."""
    program = shutil.which("envoy") or shutil.which("envoy", path=str(ROOT / ".venv-envoy" / "bin"))
    if program is None:
        pytest.skip("Envoy is not installed (`make .venv-envoy/bin/envoy`)")
    return program


def _haproxy(folder: Path, config: str, port: int, certificate: Path, key: Path) -> list[str | Path]:
    both = folder / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    config = config.replace("/etc/haproxy/guardhouse.pem", str(both)).replace("bind :8443", f"bind 127.0.0.1:{port}")
    (folder / "haproxy.cfg").write_text(config)
    return [haproxy_program(), "-db", "-f", folder / "haproxy.cfg"]


def _envoy(folder: Path, config: str, port: int, certificate: Path, key: Path) -> list[str | Path]:
    for before, after in (
        ("/etc/envoy/guardhouse.crt", str(certificate)), ("/etc/envoy/guardhouse.key", str(key)),
        ("port_value: 8443", f"port_value: {port}"), ("0.0.0.0", "127.0.0.1"),  # noqa: S104
    ):  # fmt: skip
        assert before in config
        config = config.replace(before, after)
    (folder / "envoy.yaml").write_text(config)
    return [envoy_program(), "-c", folder / "envoy.yaml", "--use-dynamic-base-id", "--concurrency", "1", "-l", "warn"]


PROXIES = {"haproxy": ("haproxy.cfg", _haproxy), "envoy": ("envoy.yaml", _envoy)}


@contextmanager
def edge(name: str, folder: Path, http: str, grpc: str, **limits: str) -> Iterator[Edge]:
    """Run a proxy before two addresses until the block ends; ``limits`` replaces words of the example."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", certificate,
         *subject],
        capture_output=True, check=True,
    )  # fmt: skip
    file, arranged = PROXIES[name]
    config, port = (EXAMPLES / file).read_text(encoding="utf-8"), free_port()
    for before, after in {HTTP: http, GRPC: grpc, **limits}.items():
        config = _addressed(config, before, after)
    config = config.replace("check port 3000", f"check port {http.rpartition(':')[2]}")
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            arranged(folder, config, port, certificate, key), stdout=log, stderr=subprocess.STDOUT
        )
    try:
        until(lambda: listens(port) or process.poll() is not None)
        assert process.poll() is None, (folder / f"{name}.log").read_text()
        yield Edge(port, certificate)
    finally:
        process.terminate()
        process.wait(STALL_SECONDS)


def _addressed(config: str, before: str, after: str) -> str:
    """Replace a word, and an address in Envoy's way of writing, too."""
    (host, _, port), (other_host, _, other_port) = before.rpartition(":"), after.rpartition(":")
    long = f"address: {host}, port_value: {port}"
    assert before in config or long in config, before
    return config.replace(before, after).replace(long, f"address: {other_host}, port_value: {other_port}")
