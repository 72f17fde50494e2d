"""Child processes: they exchange frames, end with their parent, and start again after a growing delay."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import until

from service import processes
from service.processes import ChildProcess, Delay, EndedError, step_back

ECHO = """
import os, sys
from service.messages.frames import pack, read
from service.processes import step_back

step_back()
sys.stdout.buffer.write(pack({"pid": os.getpid()}))
sys.stdout.buffer.flush()
while (asked := read(sys.stdin.buffer)) is not None:
    head, body = asked
    if head.get("die"):
        os._exit(3)
    if head.get("babble"):
        sys.stdout.buffer.write(b"\\xff" * 64)
    sys.stdout.buffer.write(pack({"pid": os.getpid(), "nice": os.nice(0)}, body))
    sys.stdout.buffer.flush()
"""


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write the module of a process that sends back what it gets, and give the module's name."""
    (tmp_path / "echoing.py").write_text(ECHO)
    monkeypatch.syspath_prepend(tmp_path)
    return "echoing"


def score_of(pid: int) -> int:
    """Read how readily the kernel kills a process if memory runs out."""
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def run(scene: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(120):
            await scene()

    asyncio.run(bounded())


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_question_is_answered_in_a_process_of_the_lowest_priority(echo: str) -> None:
    """Bytes go there and come back, one process answers them all, and the process has stepped back."""

    async def scene() -> None:
        child = ChildProcess(echo)
        await child.start()
        heads = []
        for body in (b"", b"rows", bytes(300_000)):
            head, back = await child.ask({"x": 1}, body)
            assert back == body
            heads.append(head)
        await child.start()  # it runs already
        heads.append((await child.ask({}, b""))[0])
        assert len({head["pid"] for head in heads}) == 1
        assert heads[0]["nice"] == processes.LOWEST_PRIORITY
        assert psutil.Process(heads[0]["pid"]).parent().pid == os.getpid()
        assert score_of(heads[0]["pid"]) == 1000
        assert await child.end() == -signal.SIGKILL
        assert gone(heads[0]["pid"])

    run(scene)


@pytest.mark.parametrize(("head", "status"), [({"die": True}, 3), ({"babble": True}, -signal.SIGKILL)])
def test_a_process_that_ends_or_babbles_is_replaced(echo: str, head: dict[str, bool], status: int) -> None:
    """If a process ends, or sends bytes that are no frame, the question fails, and the next start makes another one."""

    async def scene() -> None:
        child = ChildProcess(echo)
        await child.start()
        first, _ = await child.ask({}, b"")
        with pytest.raises(EndedError) as ended:
            await child.ask(head, b"")
        assert ended.value.status == status
        assert gone(first["pid"])
        started = time.monotonic()
        await child.start()  # at once: the start itself did not fail
        second, _ = await child.ask({}, b"")
        assert second["pid"] != first["pid"]
        assert time.monotonic() - started < 60
        await child.end()

    run(scene)


def test_a_killed_process_is_started_again(echo: str) -> None:
    """A process that was killed from outside costs one question at most."""

    async def scene() -> None:
        child = ChildProcess(echo)
        await child.start()
        first, _ = await child.ask({}, b"")
        os.kill(first["pid"], signal.SIGKILL)
        with pytest.raises(EndedError) as ended:
            await child.ask({}, b"")
        assert ended.value.status == -signal.SIGKILL
        await child.start()
        assert (await child.ask({}, b"more"))[1] == b"more"
        await child.end()

    run(scene)


def test_the_exit_status_is_always_the_own_one_of_the_process() -> None:
    """If a process has just ended when it is killed, `end` gives the exit status that the process had."""

    async def scene() -> set[int | None]:
        found = set()
        for _ in range(300):
            child = ChildProcess("any")
            child._process = await asyncio.create_subprocess_exec("/bin/cat", stdin=-1, stdout=-1)
            os.kill(child._process.pid, signal.SIGTERM)
            assert child._process.stdout is not None
            await child._process.stdout.read()
            found.add(await child.end())
        return found

    assert asyncio.run(scene()) == {-signal.SIGTERM}


def test_a_start_that_fails_is_tried_again_later_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second start waits for the delay, the third twice as long, and a start that succeeds forgets the failures."""
    (tmp_path / "broken.py").write_text("raise SystemExit(7)")
    monkeypatch.syspath_prepend(tmp_path)
    delay = Delay(0.4, 60)

    async def scene() -> None:
        child = ChildProcess("broken", delay=delay)
        earliest = time.monotonic()
        with pytest.raises(EndedError, match="status 7"):
            await child.start()
        for wait in (0.4, 0.8):
            assert child._not_before >= earliest + wait
            earliest = child._not_before
            with pytest.raises(EndedError):
                await child.start()
            assert time.monotonic() >= earliest
        assert delay.failures == 3
        (tmp_path / "broken.py").write_text(ECHO)
        await child.start()
        assert delay.failures == 0
        await child.end()

    run(scene)


def test_a_program_that_cannot_be_started_is_an_end_without_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """If there is no such program, the start fails in the same way as if a process had ended."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    async def scene() -> None:
        with pytest.raises(EndedError, match="status unknown"):
            await ChildProcess("any").start()

    run(scene)


def test_a_process_ends_with_its_parent(echo: str, tmp_path: Path) -> None:
    """If the parent is killed outright, its child is killed, even if the child reads nothing from its input."""
    (tmp_path / "stuck.py").write_text(ECHO.replace("while (asked", "import time; time.sleep(600)\nwhile (asked"))
    code = f"""
import asyncio, sys, time
sys.path.insert(0, {str(tmp_path)!r})
from service.processes import ChildProcess

async def main():
    child = ChildProcess("stuck")
    await child.start()
    print(child._process.pid, flush=True)
    time.sleep(600)

asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
        assert not gone(child)
        parent.kill()
        parent.wait()
        until(lambda: gone(child), 60)
    assert echo


def test_a_container_may_forbid_to_step_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a container forbids to set priorities, a process works all the same."""

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    for name in ("os.nice", "os.sched_setscheduler", "ctypes.CDLL", "pathlib.Path.write_text"):
        monkeypatch.setattr(name, forbidden)
    step_back()


@given(first=st.floats(0.001, 10), longest=st.floats(0.001, 1000), failures=st.integers(1, 3000))
def test_a_delay_doubles_up_to_its_limit(first: float, longest: float, failures: int) -> None:
    """However often a process fails, the delay never shrinks and never passes its limit; a success starts anew."""
    delay = Delay(first, longest)
    waits = [delay.failed() for _ in range(failures)]
    assert waits[0] == min(first, longest)
    for before, after in pairwise(waits):
        assert after == pytest.approx(min(2 * before, longest))
    delay.succeeded()
    assert delay.failed() == waits[0]
