"""The PID file: `guardhouse drain` finds its server, and never another process."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from gateways import cli

from service.lifecycle.pidfile import Notice, Presence, Process, Server, present
from service.settings import state_folder


@pytest.fixture
def sleeper() -> Iterator[Process]:
    """A process that does nothing, and dies of the signal to drain."""
    with subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"], stdout=-1) as one:
        assert one.stdout is not None
        one.stdout.readline()
        yield Process.of(one.pid)
        one.kill()


STAND_IN = """
import signal, sys
from pathlib import Path
def drain(*_):
    path = Path(sys.argv[1]) / "server-3000-1.json"
    path.write_text(path.read_text().replace('"draining": false', '"draining": true'))
signal.signal(signal.SIGUSR1, drain)
print(flush=True)
while True:
    signal.pause()
"""


@contextmanager
def stand_in(folder: Path) -> Iterator[Process]:
    """A server as `drain` sees one: it notes that it drains, and ends by SIGTERM."""
    with subprocess.Popen([sys.executable, "-c", STAND_IN, str(folder)], stdout=-1) as one:
        assert one.stdout is not None
        one.stdout.readline()
        threading.Thread(target=one.wait, daemon=True).start()
        yield Process.of(one.pid)
        one.kill()


def shown(folder: Path, process: Process, port: int = 3000, seat: int = 1) -> Notice:
    return Notice(Presence(port, seat, process, process), folder)


def test_a_server_is_found_as_long_as_it_is_there(tmp_path: Path, sleeper: Process) -> None:
    """A notice names a process that runs; a killed process is passed over, even if it is not reaped."""
    folder = tmp_path / "made" / "on the way"
    shown(folder, sleeper)
    assert present(folder) == [Server(3000, (sleeper,), sleeper, draining=False)]
    sleeper.signal(signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not list(present(folder))


def test_a_reused_number_is_nobody(tmp_path: Path, sleeper: Process) -> None:
    """A process with a dead server's id, but started at another time, gets no signal: the signal would kill it."""
    shown(tmp_path, replace(sleeper, started="1"))
    done = cli("drain", "--state", tmp_path, "--seconds", "0", "--stop")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"no server is running with its state in {tmp_path}\n"
    assert sleeper.alive()


def test_a_number_is_not_signalled_on_trust(sleeper: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that took a server's number after the server was last seen alive is sent nothing."""
    server = replace(sleeper, started="1")
    for without_handles in (False, True):
        if without_handles:
            monkeypatch.delattr("os.pidfd_open", raising=False)
        with pytest.raises(ProcessLookupError):
            server.signal(signal.SIGKILL)
        assert server.replaced()
        assert sleeper.alive()
        assert not sleeper.replaced()
    sleeper.signal(signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessLookupError):
        sleeper.signal(signal.SIGKILL)


def test_a_signal_does_not_wait_for_a_number_to_be_reused(sleeper: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal goes to the process that was examined: its number cannot be reused before the signal."""
    monkeypatch.setattr("os.kill", lambda *_: pytest.fail("by its number"))
    sleeper.signal(signal.SIGKILL)
    assert os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT) is not None


def test_half_of_the_handles_is_none_of_them(sleeper: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that opens a handle, and sends nothing through it, has the number signalled."""

    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("signal.pidfd_send_signal", missing)
    sleeper.signal(signal.SIGKILL)
    assert os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT) is not None


def test_a_dead_supervisors_number_is_told_nothing(tmp_path: Path, sleeper: Process) -> None:
    """A server whose supervisor has died is stopped itself; who has the supervisor's number by now lives on."""
    with stand_in(tmp_path) as worker:
        Notice(Presence(3000, 1, worker, replace(sleeper, started="1")), tmp_path)
        done = cli("drain", "--state", tmp_path, "--seconds", "0", "--stop")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"the supervisor (process {sleeper.pid}) has died, and its number is another program's by now" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("it left after ")
    assert sleeper.alive()


def test_draining_is_noted(tmp_path: Path, sleeper: Process) -> None:
    """The notice says that its server is draining, once it is."""
    notice = shown(tmp_path, sleeper)
    notice.drains()
    assert [server.draining for server in present(tmp_path)] == [True]


def test_a_server_drains_once_all_its_fronts_do(tmp_path: Path, sleeper: Process) -> None:
    """The fronts of one port are one server, which drains when the last of them has noted it."""
    notices = [shown(tmp_path, sleeper, seat=seat) for seat in (1, 2)]
    for notice, draining in zip(notices, (False, True), strict=True):
        notice.drains()
        assert present(tmp_path) == [Server(3000, (sleeper, sleeper), sleeper, draining=draining)]


def test_a_notice_that_another_server_replaced_is_not_removed(tmp_path: Path, sleeper: Process) -> None:
    """A server takes away its own notice alone: on its port there may be another by then."""
    mine = shown(tmp_path, Process.of(os.getpid()))
    theirs = shown(tmp_path, sleeper)
    mine.remove()
    assert [server.fronts for server in present(tmp_path)] == [(sleeper,)]
    theirs.remove()
    theirs.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"port": 1}', '{"port": 1, "seat": 1, "front": 2, "supervisor": 3}']
)
def test_a_damaged_notice_is_no_server(tmp_path: Path, content: str) -> None:
    """A damaged notice is passed over."""
    (tmp_path / "server-1-1.json").write_text(content)
    assert not list(present(tmp_path))


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A server without a notice serves all the same."""
    (tmp_path / "file").write_text("")
    notice = shown(tmp_path / "file", Process.of(os.getpid()))
    notice.drains()
    notice.remove()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "guardhouse drain" in caplog.text


def test_of_several_servers_one_is_chosen(tmp_path: Path, sleeper: Process) -> None:
    """Two servers of one folder differ by their ports, and neither is drained by guess."""
    for port in (3000, 3001):
        shown(tmp_path, sleeper, port)
    done = cli("drain", "--state", tmp_path, "--seconds", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--port, of 3000, 3001" in done.stderr
    done = cli("drain", "--state", tmp_path, "--port", "3002")
    assert done.stderr == f"no server on port 3002 is running with its state in {tmp_path}\n"
    assert sleeper.alive()


def test_nothing_to_look_for_is_a_mistake() -> None:
    """Without a bundle and a folder the command says what to name."""
    done = cli("drain")
    assert (done.returncode, done.stdout) == (2, "")
    assert "GUARDHOUSE_BUNDLE" in done.stderr


def test_the_folder_is_beside_the_bundle(tmp_path: Path) -> None:
    """Server and command use the same state folder: beside the bundle, or the folder that the environment names."""
    (tmp_path / "bundle").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "bundle")
    assert state_folder(tmp_path / "link", None) == tmp_path / "bundle.state"
    assert state_folder(tmp_path / "link", tmp_path) == tmp_path


def test_the_command_imports_little() -> None:
    """A hook that runs in a full pod, and has seconds to act, does not load what it has no use for."""
    script = (
        "import sys\nfrom service.__main__ import run\nsys.argv = ['guardhouse', 'drain']\n"
        "try:\n    run()\nexcept SystemExit as left:\n    print(left.code)\n"
        "print([name for name in ('torch', 'numpy', 'bentoml', 'sqlalchemy') if name in sys.modules])\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GUARDHOUSE_")}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[3], env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["2", "[]"]
