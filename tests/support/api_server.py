"""A Kubernetes API server for tests: a real kube-apiserver on a real etcd, without anything that would run a pod."""

import json
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

__all__ = ["ApiServer", "kubebuilder_assets"]

PROGRAMS = ("etcd", "kube-apiserver")
TOKEN = "of-the-tests"  # noqa: S105 - for a server that lives for as long as a test
START_SECONDS = 400


def kubebuilder_assets() -> Path | None:
    """Find the folder that KUBEBUILDER_ASSETS names, if both programs are in the folder."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder or not all((Path(folder) / name).is_file() for name in PROGRAMS):
        return None
    return Path(folder)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class ApiServer:
    """Both processes, started by the constructor and ended by ``stop``; ``kubectl`` runs commands as administrator."""

    def __init__(self, assets: Path) -> None:
        """Start both and wait until the server is ready."""
        self._folder = tempfile.TemporaryDirectory(prefix="guardhouse-apiserver-")
        folder = Path(self._folder.name)
        client, peer, secure = _free_ports(3)
        self.url = f"https://127.0.0.1:{secure}"
        self._log = (folder / "log").open("w+")
        key = folder / "service-accounts.pem"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        (folder / "tokens.csv").write_text(f'{TOKEN},tests,1,"system:masters"\n')
        self._processes = [
            self._start(
                assets / "etcd",
                data_dir=folder / "etcd",
                listen_client_urls=f"http://127.0.0.1:{client}",
                advertise_client_urls=f"http://127.0.0.1:{client}",
                listen_peer_urls=f"http://127.0.0.1:{peer}",
            ),
            self._start(
                assets / "kube-apiserver",
                etcd_servers=f"http://127.0.0.1:{client}",
                cert_dir=folder / "certificates",
                bind_address="127.0.0.1",
                advertise_address="127.0.0.1",  # otherwise it needs a default route, which a sandbox may lack
                secure_port=secure,
                service_cluster_ip_range="10.0.0.0/24",
                authorization_mode="RBAC",
                token_auth_file=folder / "tokens.csv",
                service_account_issuer=self.url,
                service_account_key_file=key,
                service_account_signing_key_file=key,
                # A controller that does not run here would make the service accounts that this plug-in asks for.
                disable_admission_plugins="ServiceAccount",
                # On by default from 1.35 on: components/bundle-from-image.
                feature_gates="ImageVolume=true",
            ),
        ]
        self._wait()

    def _start(self, program: Path, **flags: Any) -> "subprocess.Popen[str]":
        command = [str(program), *(f"--{name.replace('_', '-')}={value}" for name, value in flags.items())]
        return subprocess.Popen(command, stdout=self._log, stderr=self._log, text=True)

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and all(each.poll() is None for each in self._processes):
            if self.kubectl("get", "--raw", "/readyz").returncode == 0:
                return
            time.sleep(0.5)
        self._log.seek(0)
        said = self._log.read()[-4000:]
        self.stop()
        raise AssertionError(said)

    def kubectl(self, *arguments: str, objects: Any = None) -> "subprocess.CompletedProcess[str]":
        """Run kubectl against the server, with ``objects``, if there are any, on its standard input."""
        command = ["kubectl", f"--server={self.url}", f"--token={TOKEN}", "--insecure-skip-tls-verify=true", *arguments]
        return subprocess.run(
            [*command, *(["-f", "-"] if objects is not None else [])],
            input=None if objects is None else json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}),
            env={"PATH": os.environ["PATH"], "HOME": self._folder.name},
            capture_output=True,
            text=True,
            check=False,
        )

    def stop(self) -> None:
        """End both processes, the API server first."""
        for process in reversed(self._processes):
            process.terminate()
            process.wait(timeout=120)
        self._log.close()
        self._folder.cleanup()
