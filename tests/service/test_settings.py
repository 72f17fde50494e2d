"""The environment variables, and the settings that they give."""

from pathlib import Path

import pytest

from guards.errors import Mistake
from service.settings import Settings, without_effect


def test_all_variables_are_read() -> None:
    """The variables name the bundle, the config and the server's own files, and the level of the log."""
    names = ("BUNDLE", "CONFIG", "STATE", "LOG_LEVEL", "API_KEYS_FILE")
    given = dict(zip((f"GUARDHOUSE_{name}" for name in names), ("a", "b", "c", "DEBUG", "d"), strict=True))
    settings = Settings.from_environment({**given, "OTHER": "x"})
    expected = Settings(bundle=Path("a"), config=Path("b"), state=Path("c"), log_level="debug", api_keys=Path("d"))
    assert settings == expected


def test_a_bundle_may_be_pinned() -> None:
    """GUARDHOUSE_BUNDLE_ID names the only bundle to serve; an empty one is refused, since it would pin nothing."""
    bundle = {"GUARDHOUSE_BUNDLE": "a"}
    assert Settings.from_environment(bundle).bundle_id is None
    assert Settings.from_environment({**bundle, "GUARDHOUSE_BUNDLE_ID": "sha256:1"}).bundle_id == "sha256:1"
    with pytest.raises(Mistake, match="GUARDHOUSE_BUNDLE_ID: it is empty; set the id of the bundle to serve, or unset"):
        Settings.from_environment({**bundle, "GUARDHOUSE_BUNDLE_ID": ""})


def test_state_is_beside_the_bundle(tmp_path: Path) -> None:
    """A server's own files are not in the bundle, whose hashes they would not be in."""
    assert Settings(tmp_path / "digits").state_folder == tmp_path / "digits.state"
    assert Settings(tmp_path / "digits", state=Path("x")).state_folder == Path("x")


@pytest.mark.parametrize("environment", [{}, {"GUARDHOUSE_BUNDLE": ""}])
def test_a_bundle_must_be_named(environment: dict[str, str]) -> None:
    """Without a bundle there is nothing to serve, and the sentence says how to make one."""
    with pytest.raises(Mistake, match=r"GUARDHOUSE_BUNDLE.*guardhouse fit"):
        Settings.from_environment(environment)


@pytest.mark.parametrize(("given", "opened"), [("1", True), ("TRUE", True), ("0", False), ("", False)])
def test_whether_a_server_is_open(given: str, *, opened: bool) -> None:
    """A server without keys is open only if somebody says so; other words are refused."""
    assert Settings.from_environment({"GUARDHOUSE_BUNDLE": "a", "GUARDHOUSE_OPEN": given}).open is opened
    assert not Settings.from_environment({"GUARDHOUSE_BUNDLE": "a"}).open
    with pytest.raises(Mistake, match="GUARDHOUSE_OPEN: 'perhaps' is neither 1 nor 0"):
        Settings.from_environment({"GUARDHOUSE_BUNDLE": "a", "GUARDHOUSE_OPEN": "perhaps"})


def test_every_mistake_is_told_at_once() -> None:
    """Each wrong variable has one sentence."""
    with pytest.raises(Mistake) as mistake:
        Settings.from_environment({"GUARDHOUSE_LOG_LEVEL": "loud", "GUARDHOUSE_OPEN": "x"})
    assert len(mistake.value.sentences) == 3


def test_a_variable_without_an_effect_is_named() -> None:
    """Who names proxies to uvicorn gets a sentence with the way out; nobody else does."""
    assert without_effect({"GUARDHOUSE_BUNDLE": "a"}) == []
    (sentence,) = without_effect({"FORWARDED_ALLOW_IPS": "*"})
    assert sentence == "FORWARDED_ALLOW_IPS has no effect: name the proxies in `server.trusted_proxies`"
