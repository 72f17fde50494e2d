"""The monitors' state on disk: what is saved and when, what is restored, and what a failure may cost."""

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from waiting import until

from guards.input.schema import InputSchema
from guards.monitors.base import Context, Monitor, MonitorParams, State, Statistic
from guards.types import Batch, Result
from service.monitoring import snapshots
from service.monitoring.live_monitors import Monitoring
from service.monitoring.snapshots import Snapshots

FILE = "m.monitors.safetensors"
CONTEXT = Context(InputSchema(kind="tensor", shape=(1,)), (), ())


class Counter(Monitor):
    """Counts rows, and is in alarm from five on."""

    def __init__(self, name: str = "counter") -> None:
        super().__init__(MonitorParams(name=name, kind="counter"), CONTEXT)
        self.rows, self.total = np.zeros(2, dtype=np.int64), np.array(0.5)

    def observe(self, batch: Batch, outcome: Result) -> None:
        del outcome
        self.rows += len(batch)

    def report(self) -> list[Statistic]:
        return [Statistic("rows", float(self.rows[0]))]

    def state(self) -> State:
        return "alarm" if self.rows[0] >= 5 else "ok"

    def snapshot(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"rows": self.rows, "total.of": self.total}

    def restore(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self.rows = state["rows"]
        if self.rows.shape != (2,):
            raise ValueError("not mine")
        self.total = state["total.of"]


class Kept:
    """A server's monitors and what keeps them."""

    made: ClassVar[list["Kept"]] = []

    def __init__(self, folder: Path, *names: str, bundle: str = "sha256:b", config: str = "{}") -> None:
        self.monitors = [Counter(name) for name in names or ("counter",)]
        self.monitoring = Monitoring(self.monitors)
        configs = {monitor.name: config for monitor in self.monitors}
        self.snapshots = Snapshots(folder, model="m", bundle=bundle, configs=configs, monitoring=self.monitoring)
        self.made.append(self)

    def see(self, rows: int) -> "Kept":
        outcome: Any = None
        self.monitoring.observe(Batch(torch.zeros(rows, 1)), outcome)
        return self

    @property
    def rows(self) -> list[int]:
        return [int(monitor.rows[0]) for monitor in self.monitors]

    @property
    def told(self) -> tuple[str, str]:
        report = self.monitoring.report()["monitors"]["counter"]
        return report["state"], report["since"]


@pytest.fixture(autouse=True)
def info(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Log from info on, and leave no file open."""
    with caplog.at_level(logging.INFO, "guardhouse"):
        yield
    while Kept.made:
        lock = Kept.made.pop().snapshots._lock
        if lock is not None:
            lock.close()


def levels(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Give the levels of the lines that are not about a monitor's change of state."""
    return [record.levelname for record in caplog.records if record.module != "state_log"]


def test_a_restart_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts, state and since are the same as before, and counting goes on from them."""
    monkeypatch.setattr("service.monitoring.current_states._now", lambda: "2020-01-01T00:00:00+00:00")
    first = Kept(tmp_path, "counter", "other").see(7)
    told = first.told
    first.monitors[1].rows[:] = 3
    first.snapshots.close()
    monkeypatch.setattr("service.monitoring.current_states._now", lambda: "2021-01-01T00:00:00+00:00")
    second = Kept(tmp_path, "counter", "other")
    assert second.rows == [7, 3]
    assert second.monitors[0].total == 0.5
    assert second.told == told == ("alarm", "2020-01-01T00:00:00+00:00")
    assert second.see(2).rows == [9, 5]
    assert second.monitoring.report()["monitors"]["other"]["since"].startswith("2021")
    second.snapshots.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.monitors.lock", FILE]


def test_saved_when_something_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written while nothing is observed; observations are written after a while."""
    monkeypatch.setattr(snapshots, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(snapshots, "SAVE_SECONDS", 0.05)
    kept = Kept(tmp_path)
    kept.snapshots.start()
    time.sleep(0.2)
    assert not (tmp_path / FILE).exists()
    kept.see(2)
    until((tmp_path / FILE).exists)
    written = (tmp_path / FILE).stat().st_mtime_ns
    time.sleep(0.2)
    assert (tmp_path / FILE).stat().st_mtime_ns == written
    kept.see(1)
    until(lambda: (tmp_path / FILE).stat().st_mtime_ns != written)
    kept.snapshots.close()
    assert Kept(tmp_path).rows == [3]


def test_an_alarm_is_saved_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it is to the next save, a state that changed is not waited with."""
    monkeypatch.setattr(snapshots, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(snapshots, "SAVE_SECONDS", 3600.0)
    kept = Kept(tmp_path)
    kept.snapshots.start()
    kept.see(4)
    time.sleep(0.2)
    assert not (tmp_path / FILE).exists()
    kept.see(1)
    until((tmp_path / FILE).exists)
    state = kept.snapshots._states["counter"][0]
    kept.snapshots.close()
    assert state == "alarm"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"bundle": "sha256:c"}, "it belongs to bundle sha256:b: the monitors start anew"),
        ({"config": '{"tolerance": 1}'}, "monitor counter: its config has changed since it was saved: it starts anew"),
    ],
)
def test_what_belongs_to_another_is_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, str], sentence: str
) -> None:
    """The state of another bundle or config is not loaded, the log says why, and the state is replaced."""
    Kept(tmp_path).see(7).snapshots.close()
    other = Kept(tmp_path, **changes)
    assert other.rows == [0]
    assert sentence in caplog.text
    other.see(1).snapshots.close()
    assert Kept(tmp_path, **changes).rows == [1]


def test_monitors_come_and_go(tmp_path: Path) -> None:
    """A new monitor starts anew, a removed monitor is forgotten, and the others go on."""
    Kept(tmp_path, "counter", "gone").see(3).snapshots.close()
    kept = Kept(tmp_path, "new", "counter")
    assert kept.rows == [0, 3]
    kept.snapshots.close()


def test_a_monitor_that_refuses_starts_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What a monitor does not restore is logged, and leaves this monitor and the others as they should be."""
    kept = Kept(tmp_path, "counter", "other").see(3)
    kept.monitors[0].rows = np.full(3, 9)
    kept.snapshots.close()
    again = Kept(tmp_path, "counter", "other")
    assert again.rows == [0, 3]
    assert again.monitors[0].rows.shape == (2,)
    assert "monitor counter: it refuses what it saved (not mine): it starts anew" in caplog.text


def _flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-3],
        lambda _: b"",
        lambda _: b"\xff" * 64,
        lambda content: _flip(content, -1),
        lambda content: _flip(content, content.index(b"sha256:b") + 7),
        lambda content: content.replace(b'"format":"1"', b'"format":"2"'),
    ],
    ids=["cut", "empty", "noise", "a bit of a tensor", "a bit of the bundle's id", "another version"],
)
def test_a_damaged_file_is_moved_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    """The monitors start anew, the file is kept for inspection, and the log has one line about it."""
    Kept(tmp_path).see(7).snapshots.close()
    damaged = damage((tmp_path / FILE).read_bytes())
    (tmp_path / FILE).write_bytes(damaged)
    kept = Kept(tmp_path)
    assert kept.rows == [0]
    assert levels(caplog) == ["ERROR"]
    assert "moved to m.monitors.damaged: the monitors start anew" in caplog.text
    assert (tmp_path / "m.monitors.damaged").read_bytes() == damaged
    kept.see(1).snapshots.close()
    assert Kept(tmp_path).rows == [1]


def test_a_half_written_file_changes_nothing(tmp_path: Path) -> None:
    """A process killed while it wrote left the file of before, and the next one is not disturbed."""
    Kept(tmp_path).see(7).snapshots.close()
    (tmp_path / "m.monitors.tmp").write_bytes(b"half")
    kept = Kept(tmp_path)
    assert kept.rows == [7]
    kept.snapshots.close()
    assert not (tmp_path / "m.monitors.tmp").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """There is one warning, and everything except saving goes on."""
    (tmp_path / "file").write_text("")
    kept = Kept(tmp_path / "file" / "state")
    kept.snapshots.start()
    kept.see(6)
    assert kept.told[0] == "alarm"
    kept.snapshots.close()
    assert levels(caplog) == ["WARNING"]
    assert "the monitors' state is not kept" in caplog.text


def test_a_disk_that_fills_up_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first failure is a warning, later failures are silent, and the end of the failures is logged."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    kept = Kept(tmp_path).see(2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        for _ in range(3):
            kept.snapshots.save()
    assert levels(caplog) == ["WARNING"]
    assert "No space left on device" in caplog.text
    kept.snapshots.save()
    kept.snapshots.save()
    assert levels(caplog) == ["WARNING", "INFO"]
    kept.snapshots.close()
    assert Kept(tmp_path).rows == [2]


HOLD = """
import fcntl, os, sys
file = open(sys.argv[1], "ab")
fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("held", flush=True)
sys.stdin.read()
"""


def test_two_servers_on_one_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The second server neither reads nor writes, and logs that once; after a kill of the first the next one may."""
    Kept(tmp_path).see(3).snapshots.close()
    before = (tmp_path / FILE).read_bytes()
    caplog.clear()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "m.monitors.lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        try:
            assert first.stdout is not None
            assert first.stdout.readline() == b"held\n"
            second = Kept(tmp_path)
            second.snapshots.start()
            second.see(9).snapshots.close()
            assert second.rows == [9]
            assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
                "another server keeps the monitors' state there: this one runs without"
            ]
            assert (tmp_path / FILE).read_bytes() == before
        finally:
            first.kill()
    assert Kept(tmp_path).rows == [3]


def test_no_monitors_no_file(tmp_path: Path) -> None:
    """Without monitors there is nothing to keep, not even a folder."""
    kept = Snapshots(tmp_path / "state", model="m", bundle="b", configs={}, monitoring=Monitoring([]))
    kept.start()
    kept.close()
    assert not (tmp_path / "state").exists()


def test_the_file_holds_numbers_and_text_alone(tmp_path: Path) -> None:
    """A file of tensors with a description in JSON: nothing in it can be run."""
    Kept(tmp_path).see(3).snapshots.close()
    content = (tmp_path / FILE).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert set(header) == {"__metadata__", "counter.rows", "counter.total.of"}
    assert json.loads(header["__metadata__"]["monitors"])["counter"]["state"] == "ok"


def test_a_deleted_folder_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """State that is saved after its folder was deleted is in a new folder, whose lock is held again."""
    folder = tmp_path / "state"
    kept = Kept(folder).see(2)
    shutil.rmtree(folder)
    kept.snapshots.close()
    assert Kept(folder).rows == [2]
    assert "it is locked anew" in caplog.text


def test_a_server_whose_lock_was_deleted_leaves_the_file_to_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two servers never write one file, though the lock's file of the first was deleted."""
    first = Kept(tmp_path)
    (tmp_path / "m.monitors.lock").unlink()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "m.monitors.lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as second:
        try:
            assert second.stdout is not None
            assert second.stdout.readline() == b"held\n"
            first.see(2).snapshots.close()
        finally:
            second.kill()
    assert not (tmp_path / FILE).exists()
    assert "another server keeps the monitors' state there" in caplog.text
