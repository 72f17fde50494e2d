"""The environment variables, and the settings that they give."""

from pathlib import Path

import pytest

from guards.errors import Mistake
from service.settings import NOT_YET, Settings, without_effect


def test_all_variables_are_read() -> None:
    """The variables name the bundle, the config and the server's own files, and the level of the log."""
    names = ("BUNDLE", "CONFIG", "STATE", "LOG_LEVEL")
    given = dict(zip((f"GUARDHOUSE_{name}" for name in names), ("a", "b", "c", "DEBUG"), strict=True))
    settings = Settings.from_environment({**given, "OTHER": "x"})
    assert settings == Settings(bundle=Path("a"), config=Path("b"), state=Path("c"), log_level="debug")


def test_state_is_beside_the_bundle(tmp_path: Path) -> None:
    """A server's own files are not in the bundle, whose hashes they would not be in."""
    assert Settings(tmp_path / "digits").state_folder == tmp_path / "digits.state"
    assert Settings(tmp_path / "digits", state=Path("x")).state_folder == Path("x")


@pytest.mark.parametrize("environment", [{}, {"GUARDHOUSE_BUNDLE": ""}])
def test_a_bundle_must_be_named(environment: dict[str, str]) -> None:
    """Without a bundle there is nothing to serve, and the sentence says how to make one."""
    with pytest.raises(Mistake, match=r"GUARDHOUSE_BUNDLE.*guardhouse fit"):
        Settings.from_environment(environment)


@pytest.mark.parametrize("name", NOT_YET)
def test_what_is_not_there_yet_is_refused(name: str) -> None:
    """A variable of the contract that this version does not keep is refused, and not ignored in silence."""
    with pytest.raises(Mistake, match=name):
        Settings.from_environment({"GUARDHOUSE_BUNDLE": "a", name: "x"})


def test_every_mistake_is_told_at_once() -> None:
    """Each wrong variable has one sentence."""
    with pytest.raises(Mistake) as mistake:
        Settings.from_environment({"GUARDHOUSE_LOG_LEVEL": "loud", NOT_YET[0]: "x"})
    assert len(mistake.value.sentences) == 3


def test_a_variable_without_an_effect_is_named() -> None:
    """Who names proxies to uvicorn gets a sentence with the way out; nobody else does."""
    assert without_effect({"GUARDHOUSE_BUNDLE": "a"}) == []
    (sentence,) = without_effect({"FORWARDED_ALLOW_IPS": "*"})
    assert sentence == "FORWARDED_ALLOW_IPS has no effect: name the proxies in `server.trusted_proxies`"
