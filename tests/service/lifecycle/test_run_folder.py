"""The private folder through which the processes of a server find each other."""

import json
import os
import stat
import tempfile
from pathlib import Path

import pytest

from service.lifecycle import run_folder
from service.lifecycle.run_folder import OWNER, make_run_folder, remove_run_folder
from service.messages.board import Board
from service.messages.paths import BOARD


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two places of the test's own."""
    for name in ("memory", "disk"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(run_folder, "MEMORY", tmp_path / "memory")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "disk"))
    return tmp_path


def test_only_the_user_can_enter_the_folder(places: Path) -> None:
    """The sockets in the folder take orders, so other users cannot reach them."""
    folder = make_run_folder(2)
    assert folder.parent == places / "memory"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert Board(folder / BOARD).seats == 4
    remove_run_folder(folder)
    assert not folder.exists()


def test_without_a_file_system_in_memory_the_folder_is_on_the_disk(places: Path) -> None:
    """A system without one serves all the same."""
    (places / "memory").rmdir()
    assert make_run_folder(1).parent == places / "disk"


def test_a_path_too_long_for_sockets_is_refused(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no place is left, a sentence says what to do, and nothing is left behind."""
    deep = places / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(run_folder, "MEMORY", deep)
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(OSError, match="shorter TMPDIR"):
        make_run_folder(1)
    assert not list(deep.iterdir())


def test_folders_of_killed_servers_are_removed(places: Path) -> None:
    """A server that was killed leaves its folder; the next one removes it, and no folder of a server that runs."""
    running, dead, other = make_run_folder(1), places / "memory" / "guardhouse-dead", places / "memory" / "guardhouse-x"
    for folder in (dead, other):
        folder.mkdir()
    (dead / OWNER).write_text(json.dumps([os.getpid(), "another start"]))
    make_run_folder(1)
    assert running.exists()
    assert other.exists()
    assert not dead.exists()
