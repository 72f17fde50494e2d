"""The file of keys: what it may say, what is refused, and how a key is added."""

import stat
from pathlib import Path

import pytest

from guards.errors import Mistake
from service.keys.key_file import add_key, digest_of, read_keys

DIGEST = digest_of(b"guardhouse-a")
TWICE = f"principals: [{{name: a, scopes: [admin], sha256: &d [{DIGEST}]}}, {{name: b, scopes: [admin], sha256: *d}}]"


def written(folder: Path, text: str) -> Path:
    path = folder / "keys.yaml"
    path.write_text(text)
    return path


def test_a_new_key_is_shown_once_and_only_its_digest_is_kept(tmp_path: Path) -> None:
    """The file has the key's SHA-256 and not the key; a key has 256 random bits; only the owner may read the file."""
    path = tmp_path / "keys.yaml"
    key, other = add_key(path, "shop", ["predict"]), add_key(path, "till", ["predict", "feedback"])
    assert key.startswith("guardhouse-")
    assert len(key.removeprefix("guardhouse-")) == 43
    assert key != other
    assert key not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shop, till = read_keys(path).principals
    assert (shop.name, shop.scopes, shop.sha256) == ("shop", ("predict",), (digest_of(key.encode()),))
    assert till.scopes == ("predict", "feedback")
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_key_stands_beside_the_first(tmp_path: Path) -> None:
    """A principal keeps its old key until somebody deletes it, and has the scopes of the last command."""
    path = tmp_path / "keys.yaml"
    old, new = add_key(path, "shop", ["predict"]), add_key(path, "shop", ["predict", "detail"])
    (shop,) = read_keys(path).principals
    assert shop.sha256 == (digest_of(old.encode()), digest_of(new.encode()))
    assert shop.scopes == ("predict", "detail")


def test_the_mode_of_a_file_stays(tmp_path: Path) -> None:
    """A file that a group may read, such as a server's, can be read by the group afterwards."""
    path = written(tmp_path, "principals: []\n")
    path.chmod(0o640)
    add_key(path, "shop", ["predict"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("principals: [", r"keys.yaml:\d+: no valid YAML"),
        ("clients: []", "clients: Extra inputs are not permitted"),
        ("principals: [{name: a b, scopes: [predict], sha256: []}]", "principals.0.name: String should match"),
        ("principals: [{name: a, scopes: [], sha256: []}]", "principals.0.scopes"),
        ("principals: [{name: a, scopes: [all], sha256: []}]", "principals.0.scopes.0: Input should be 'predict'"),
        (
            "principals: [{name: a, scopes: [predict], sha256: [guardhouse-SECRET]}]",
            "principals.0.sha256.0: expected 64 hexadecimal digits",
        ),
        (
            TWICE,
            "one key stands at two places",
        ),
        (
            "principals: [{name: a, scopes: [predict], sha256: []}, {name: a, scopes: [feedback], sha256: []}]",
            "the principal a is named twice",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    """A wrong file is refused in a sentence that names the place, and quotes no value, which may be a key."""
    with pytest.raises(Mistake, match=sentence) as mistake:
        read_keys(written(tmp_path, text))
    assert "SECRET" not in str(mistake.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder and a huge file are refused."""
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(Mistake, match="cannot be read"):
            read_keys(path)
    with pytest.raises(Mistake, match="may have 1048576 bytes"):
        read_keys(written(tmp_path, "#" * (1 << 20) + "\n"))
    assert read_keys(written(tmp_path, "")).principals == ()


def test_what_cannot_be_added(tmp_path: Path) -> None:
    """A wrong name, a principal with sixteen keys and a folder that is not there are refused, and nothing changes."""
    path = tmp_path / "keys.yaml"
    with pytest.raises(Mistake, match="the principal 'a b'"):
        add_key(path, "a b", ["predict"])
    assert not path.exists()
    for _ in range(16):
        add_key(path, "a", ["predict"])
    with pytest.raises(Mistake, match="16 keys already"):
        add_key(path, "a", ["predict"])
    assert len(read_keys(path).principals[0].sha256) == 16
    with pytest.raises(Mistake, match="cannot be written"):
        add_key(tmp_path / "none" / "keys.yaml", "a", ["predict"])
