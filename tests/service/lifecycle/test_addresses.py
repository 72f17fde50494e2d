"""The addresses of the database and of Redis."""

from pathlib import Path

import pytest

from guards.errors import Mistake
from service.lifecycle.addresses import database_url, read_settings
from service.settings import Settings
from service.store.database_url import parse_url


def test_the_database_is_a_file_unless_one_is_named(tmp_path: Path) -> None:
    """SQLite among the server's own files; or what the variable names, with the driver that is installed."""
    assert database_url(Settings(tmp_path / "digits")) == f"sqlite:///{tmp_path / 'digits.state' / 'guardhouse.db'}"
    settings = read_settings(
        {"GUARDHOUSE_BUNDLE": "a", "GUARDHOUSE_DATABASE_URL": "postgresql://app:s3cret@db:5432/guardhouse"}
    )
    assert parse_url(database_url(settings)).drivername == "postgresql+psycopg"
    assert "s3cret" in database_url(settings)
    assert "s3cret" not in f"{settings} {settings!r}"


@pytest.mark.parametrize("url", ["s3cret", "mysql://u:s3cret@db/x", "sqlite://", "postgresql://u:s3cret@db:port/x"])
def test_a_malformed_database_is_a_sentence_without_its_password(url: str) -> None:
    """The error names the mistake and does not quote the URL, which may hold a password."""
    with pytest.raises(Mistake, match="GUARDHOUSE_DATABASE_URL: ") as mistake:
        read_settings({"GUARDHOUSE_BUNDLE": "a", "GUARDHOUSE_DATABASE_URL": url})
    assert "s3cret" not in str(mistake.value)


def test_mistakes_of_all_variables_are_told_at_once() -> None:
    """One start names every wrong variable, the addresses among them, and quotes no password."""
    given = {"GUARDHOUSE_LOG_LEVEL": "loud", "GUARDHOUSE_DATABASE_URL": "s3cret", "GUARDHOUSE_REDIS_URL": "s3cret"}
    with pytest.raises(Mistake) as mistake:
        read_settings(given)
    assert [sentence.partition(":")[0] for sentence in mistake.value.sentences] == [
        "GUARDHOUSE_BUNDLE",
        "GUARDHOUSE_LOG_LEVEL",
        "GUARDHOUSE_DATABASE_URL",
        "GUARDHOUSE_REDIS_URL",
    ]
    assert "s3cret" not in str(mistake.value)
