"""The environment variables, and what they point at."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from made_up import VALUE_CONFIG

from guards.config import parse
from guards.types import Mistake
from service.settings import NOT_YET, Deployment, Settings

if TYPE_CHECKING:
    from conftest import Bundles


def test_all_variables_are_read() -> None:
    """Where the bundle, the config and the server's own files are, and how much to log."""
    names = ("BUNDLE", "CONFIG", "STATE", "LOG_LEVEL")
    given = dict(zip((f"GUARDHOUSE_{name}" for name in names), ("a", "b", "c", "DEBUG"), strict=True))
    settings = Settings.from_environment({**given, "OTHER": "x"})
    assert settings == Settings(bundle=Path("a"), config=Path("b"), state=Path("c"), log_level="debug")


def test_state_is_beside_the_bundle(tmp_path: Path) -> None:
    """A server's own files are not in the bundle, whose hashes they would not be in."""
    assert Settings(tmp_path / "digits").state_folder == tmp_path / "digits.state"
    assert Settings(tmp_path / "digits", state=Path("x")).state_folder == Path("x")


def test_the_database_is_a_file_unless_one_is_named(tmp_path: Path) -> None:
    """SQLite among the server's own files; or what the variable names, with the driver that is installed."""
    assert Settings(tmp_path / "digits").database_url.database == str(tmp_path / "digits.state" / "guardhouse.db")
    settings = Settings.from_environment(
        {"GUARDHOUSE_BUNDLE": "a", "GUARDHOUSE_DATABASE_URL": "postgresql://app:s3cret@db:5432/guardhouse"}
    )
    assert settings.database_url.drivername == "postgresql+psycopg"
    assert "s3cret" in settings.database_url.render_as_string(hide_password=False)
    assert "s3cret" not in f"{settings} {settings!r}"


@pytest.mark.parametrize("url", ["s3cret", "mysql://u:s3cret@db/x", "sqlite://", "postgresql://u:s3cret@db:port/x"])
def test_a_malformed_database_is_a_sentence_without_its_password(url: str) -> None:
    """What is wrong is said, and the URL, which may hold a password, is not."""
    with pytest.raises(Mistake, match="GUARDHOUSE_DATABASE_URL: ") as mistake:
        Settings.from_environment({"GUARDHOUSE_BUNDLE": "a", "GUARDHOUSE_DATABASE_URL": url})
    assert "s3cret" not in str(mistake.value)


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
    """One sentence for each variable that is wrong."""
    with pytest.raises(Mistake) as mistake:
        Settings.from_environment({"GUARDHOUSE_LOG_LEVEL": "loud", NOT_YET[0]: "x"})
    assert len(mistake.value.sentences) == 3


@pytest.fixture
def bundle(bundles: "Bundles", tmp_path: Path) -> Path:
    """Copy the description of a bundle, without its tensors."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    shutil.copy(bundles.bundle("values") / "manifest.json", folder)
    return folder


def deployed(bundle: Path, document: object) -> Deployment:
    """Read a bundle with a config beside it."""
    path = bundle.parent / "gateway.yaml"
    path.write_text(yaml.safe_dump(document))
    return Deployment.read(Settings(bundle=bundle, config=path))


def test_a_bundle_alone_is_served_as_fitted(bundle: Path) -> None:
    """Without a config the fitted one holds."""
    deployment = Deployment.read(Settings(bundle=bundle))
    assert deployment.config == deployment.fitted == parse(VALUE_CONFIG)
    assert deployment.classes == ()
    assert deployment.schema.names == ("a", "b", "c")


def test_deploy_time_keys_may_change(bundle: Path) -> None:
    """What the contract lets change at deploy time is taken from the config beside the code."""
    changes = {"mode": "shadow", "false_alarm_budget": 0.2, "server": {"timeout_seconds": 3}}
    deployment = deployed(bundle, VALUE_CONFIG | changes)
    assert deployment.config.mode == "shadow"
    assert deployment.fitted.mode == "enforce"


def test_what_needs_a_refit_is_refused_by_name(bundle: Path) -> None:
    """Anything else that differs is named, key by key."""
    with pytest.raises(Mistake, match=r"model\.builder, version; fit anew"):
        deployed(bundle, VALUE_CONFIG | {"version": "2", "model": VALUE_CONFIG["model"] | {"builder": "other:build"}})


def test_a_missing_bundle_is_a_sentence(tmp_path: Path) -> None:
    """A path with no bundle says how to make one there."""
    with pytest.raises(Mistake, match="guardhouse fit"):
        Deployment.read(Settings(bundle=tmp_path))
