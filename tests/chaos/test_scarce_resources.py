"""A process without memory, and a disk without room: what cannot be done is refused, and all goes on afterwards."""

import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest
from fresh_client import FRESH
from gateways import STALL_SECONDS
from waiting import until

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

ROW = {"instances": [[1, 1, 1]]}
DISK_MIB = 32
LITTLE = 4 << 20
"""How many bytes more than now a process may map while it has no memory."""
STORE_LINES = ["the store is down", "the store is back", "in the store's", "could not be"]
PROCESSES: dict[str, Callable[["Gateway"], psutil.Process]] = {
    "front": lambda gateway: gateway.fronts[0],
    "engine": lambda gateway: gateway.engine,
    "store": lambda gateway: gateway.store_processes[0],
}


@pytest.fixture(scope="module")
def gateway(bundles: "Bundles") -> Iterator["Gateway"]:
    """Serve the values; a process without memory may answer 500."""
    gateway = bundles.serve("values")
    gateway.expected += [*STORE_LINES, "MemoryError", "500"]
    yield gateway.wait_ready()
    gateway.stop()


def ask(gateway: "Gateway", body: bytes | None = None) -> int:
    """Send one row, or a body, over a connection of its own, and give the answer's status; 0 if there was none."""
    try:
        how = {"json": ROW} if body is None else {"content": body, "headers": {"Content-Type": "application/json"}}
        return FRESH.post(f"{gateway.url}/predict", timeout=STALL_SECONDS, **how).status_code
    except httpx.TransportError:
        return 0


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_without_memory_goes_on(gateway: "Gateway", name: str) -> None:
    """While a process gets no more memory, large requests may be refused; small ones go on, and no process ends."""
    process = PROCESSES[name](gateway)
    pids = {name: find(gateway).pid for name, find in PROCESSES.items()}
    large = b'{"instances": [' + b"[1, 1, 1], " * 800_000 + b"[1, 1, 1]]}"
    process.rlimit(psutil.RLIMIT_AS, (process.memory_info().vms + LITTLE, resource.RLIM_INFINITY))
    try:
        for _ in range(5):
            assert ask(gateway, large) in {0, 413, 422, 500, 503}
            assert ask(gateway) in {200, 500, 503}
            assert FRESH.get(f"{gateway.url}/livez").status_code == 200
    finally:
        process.rlimit(psutil.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    until(lambda: ask(gateway) == 200)
    assert {name: find(gateway).pid for name, find in PROCESSES.items()} == pids


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of some megabytes."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "none", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_a_full_disk_fails_no_prediction(small_disk: Path, serve: Callable[..., "Gateway"]) -> None:
    """While the disk is full predictions go on and feedback is refused; with room again nothing was lost."""
    gateway = serve("values", GUARDHOUSE_STATE=str(small_disk / "state")).wait_ready()
    gateway.expected += [*STORE_LINES, "No space left"]
    feedback = f"{gateway.url}/v1/models/{gateway.name}:feedback"
    names: list[str] = []

    def predict() -> None:
        names.append(f"row-{len(names)}")
        assert FRESH.post(f"{gateway.url}/predict", json=ROW | {"ids": names[-1:]}).status_code == 200

    def tell(name: str) -> httpx.Response:
        return FRESH.post(feedback, json={"outcomes": [{"id": name, "label": 2.0}]}, timeout=STALL_SECONDS)

    predict()
    assert until(lambda: tell(names[0])).status_code == 200
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(DISK_MIB << 20))
    for _ in range(200):
        predict()
    refused = until(lambda: answer if (answer := tell(names[-1])).status_code != 200 else None)
    assert refused.status_code == 503
    assert "nothing is lost" in refused.json()["detail"]
    predict()
    filler.unlink()
    assert until(lambda: answer if (answer := tell(names[-1])).status_code == 200 else None).json()["accepted"] == 1
    outcomes = [{"id": name, "label": 2.0} for name in names]
    said = FRESH.post(feedback, json={"outcomes": outcomes}, timeout=STALL_SECONDS).json()
    assert (said["accepted"], len(said["duplicate"]), said["unknown"]) == (len(names) - 2, 2, [])
