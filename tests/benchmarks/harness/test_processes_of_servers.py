"""Processor time and memory of a server's processes, against processes whose work is known."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from benchmarks.harness.processes import cpu_seconds, memory, role_of
from guards.monitors.slow_work import process as work_process
from service.explain import worker_main
from service.lifecycle import engine_process
from service.store import store_server

BURN = "import time; end = time.process_time() + {seconds}\nwhile time.process_time() < end: pass\n"
PARENT = f"""
import subprocess, sys
held = bytearray(64 * 2**20)
child = subprocess.Popen([sys.executable, "-c", {BURN.format(seconds=0.4)!r}])
child.wait()
other = subprocess.Popen([sys.executable, "-c", {BURN.format(seconds=0.3) + "print(flush=True); time.sleep(60)"!r},
                          "service.lifecycle.engine_process"], stdout=subprocess.PIPE)
other.stdout.readline()
print("ready", flush=True)
sys.stdin.read()
other.kill()
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.communicate()


def test_dead_children_count_for_their_parent(parent: subprocess.Popen[str]) -> None:
    """The time of an ended child counts for its parent; the time of a living child counts for the child's role."""
    spent = cpu_seconds(parent.pid, "worker")
    assert spent.keys() == {"supervisor", "engine"}
    assert spent["supervisor"] > 0.39
    assert 0.29 <= spent["engine"] < spent["supervisor"]


def test_time_between_two_calls_is_what_was_spent(parent: subprocess.Popen[str]) -> None:
    """Processes that wait spend nothing between two calls."""
    before = cpu_seconds(parent.pid, "worker")
    time.sleep(0.3)
    after = cpu_seconds(parent.pid, "worker")
    assert sum(after.values()) - sum(before.values()) < 0.1


def test_memory_by_role(parent: subprocess.Popen[str]) -> None:
    """What a process holds is in its role's memory, and PSS is no more than RSS."""
    found = memory(parent.pid, "worker")
    assert found.keys() == {"supervisor", "engine"}
    assert found["supervisor"].processes == 1
    assert found["supervisor"].rss_mib > 64 > found["engine"].rss_mib
    for each in found.values():
        assert 0 < each.pss_mib <= each.rss_mib
        assert each.largest_rss_mib == each.rss_mib


@pytest.mark.parametrize(
    ("command", "supervisor", "role"),
    [
        (["python", "-m", "bentoml", "serve"], True, "supervisor"),
        (["python", "-m", "_bentoml_impl.worker.service", "--fd", "3"], False, "front"),
        (["python", "-m", engine_process.__name__], False, "engine"),
        (["python", "-P", "-m", store_server.__name__, "/x/store"], False, "store"),
        (["python", "-m", worker_main.__name__, "sha256:0"], False, "explain worker"),
        (["python", "-P", work_process.__file__, "4"], False, "monitor worker"),
    ],
)
def test_roles_are_read_from_command_lines(command: list[str], supervisor: bool, role: str) -> None:
    """The command line of each of our processes names its role."""
    assert role_of(command, supervisor=supervisor, worker="front") == role
