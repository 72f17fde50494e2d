"""The keys that a running server accepts, and how they change without a restart."""

import asyncio
import logging
from pathlib import Path

import pytest

from service.keys import keyring as module
from service.keys.key_file import add_key
from service.keys.keyring import Keyring


def test_a_key_finds_its_principal_and_nothing_else_does(tmp_path: Path) -> None:
    """A known key gives its principal with its scopes; a changed, cut, empty or endless key gives nobody."""
    path = tmp_path / "keys.yaml"
    key = add_key(path, "shop", ["predict", "feedback"]).encode()
    ring = Keyring(path)
    found = ring.find(key)
    assert found is not None
    assert (found.name, found.scopes) == ("shop", {"predict", "feedback"})
    changed = key[:-1] + (b"a" if key[-1:] != b"a" else b"b")
    for wrong in (changed, key[:-1], b"", b"\xff", key * 100):
        assert ring.find(wrong) is None


def test_keys_change_without_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A new key is known, a deleted key unknown, after the next look at the file."""
    path = tmp_path / "keys.yaml"
    old = add_key(path, "shop", ["predict"]).encode()
    ring = Keyring(path)
    new = add_key(path, "shop", ["predict"]).encode()
    assert ring.find(new) is None
    with caplog.at_level(logging.INFO, "guardhouse"):
        ring.look()
        ring.look()
    assert ring.find(old) == ring.find(new) is not None
    assert caplog.messages == ["the file of keys was read again; principals with a key: 1"]
    path.unlink()
    new = add_key(path, "shop", ["predict"]).encode()
    ring.look()
    assert ring.find(old) is None
    assert ring.find(new) is not None


def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    """A mounted Kubernetes secret changes by a link, while the path stays."""
    first, second, path = tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "keys.yaml"
    add_key(first, "shop", ["predict"])
    key = add_key(second, "shop", ["predict"]).encode()
    path.symlink_to(first)
    ring = Keyring(path)
    (tmp_path / "next").symlink_to(second)
    (tmp_path / "next").replace(path)
    ring.look()
    assert ring.find(key) is not None


def test_a_broken_file_changes_nothing_and_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While the file is broken or gone, the last good keys stay valid; the log says so once, without a value."""
    path = tmp_path / "keys.yaml"
    key = add_key(path, "shop", ["predict"]).encode()
    good = path.read_text()
    ring = Keyring(path)
    path.write_text("principals: [{name: a, scopes: [predict], sha256: [SECRET]}]")
    for _ in range(3):
        ring.look()
    path.unlink()
    ring.look()
    assert ring.find(key) is not None
    assert len(caplog.messages) == 2
    assert "SECRET" not in caplog.text
    path.write_text(good)
    ring.look()
    path.write_text("principals: []")
    ring.look()
    assert ring.find(key) is None


def test_a_server_keeps_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task looks again and again until it is cancelled."""
    path = tmp_path / "keys.yaml"
    add_key(path, "shop", ["predict"])
    ring = Keyring(path)
    new = add_key(path, "till", ["predict"]).encode()
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)

    async def wait() -> None:
        task = asyncio.create_task(ring.keep_looking())
        async with asyncio.timeout(60):
            while ring.find(new) is None:  # noqa: ASYNC110 - the keyring tells nobody of a change
                await asyncio.sleep(0.001)
        task.cancel()

    asyncio.run(wait())
