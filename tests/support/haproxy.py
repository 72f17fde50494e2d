"""A real HAProxy before servers under test, with health checks on readyz and without retries."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from gateways import STALL_SECONDS, free_port, listens
from waiting import until

CONFIG = """
global
    log stdout format raw local0

defaults
    mode http
    log global
    option httplog
    retries 0
    timeout connect 30s
    timeout client 60s
    timeout server 60s
    timeout check 10s  # a server that stalls for a moment is not down

frontend public
    bind 127.0.0.1:{port}
    default_backend gateways

backend gateways
    balance roundrobin
    option httpchk GET /readyz
    http-check expect status 200
    default-server inter 200ms fall 1 rise 1 check
{servers}
"""


def haproxy_program() -> str:
    """Find HAProxy, or skip the test."""
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        pytest.skip("HAProxy is not installed (Debian: apt-get install haproxy)")
    return program


class HAProxy:
    """A load balancer for servers on ports of this machine."""

    def __init__(self, ports: Sequence[int], folder: Path) -> None:
        """Start HAProxy, which logs every request."""
        self.port = free_port()
        servers = "\n".join(f"    server at{port} 127.0.0.1:{port}" for port in ports)
        config = folder / "haproxy.cfg"
        config.write_text(CONFIG.format(port=self.port, servers=servers))
        self.log_path = folder / "haproxy.log"
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                [haproxy_program(), "-db", "-f", config], stdout=log, stderr=subprocess.STDOUT
            )
        until(lambda: listens(self.port), pause=0.02)

    def failures(self) -> str:
        """Give the log lines of requests that did not end in order: their termination state is not "--"."""
        return "\n".join(
            line for line in self.log_path.read_text().splitlines() if "/predict" in line and " ---- " not in line
        )

    def stop(self) -> None:
        """Stop HAProxy."""
        self.process.terminate()
        self.process.wait(STALL_SECONDS)
