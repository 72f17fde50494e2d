"""Reads the settings, and checks the addresses of the database and of Redis and the file of keys before a start."""

import os
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import URL

from guards.errors import Mistakes
from service.keys.key_file import read_keys
from service.quotas.shared_buckets import connect
from service.settings import Settings
from service.store.database_url import parse_url

__all__ = ["database_url", "read_settings"]

DATABASE = "guardhouse.db"


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the environment variables and check the addresses among them, without connecting to an address.

    Raises:
        Mistake: a variable is missing or wrong. The message quotes no URL, because a URL may hold a password.
    """
    together = Mistakes()
    with together:
        settings = Settings.from_environment(environment)
    if given := environment.get("GUARDHOUSE_DATABASE_URL"):
        with together:
            parse_url(given)
    if given := environment.get("GUARDHOUSE_REDIS_URL"):
        with together:
            connect(given)
    if given := environment.get("GUARDHOUSE_API_KEYS_FILE"):
        with together:
            read_keys(Path(given))
    together.refuse()
    return settings


def database_url(settings: Settings) -> str:
    """Give the database's address from the settings, or by default a SQLite file in the state folder."""
    if settings.database is not None:
        return settings.database
    file = URL.create("sqlite", database=str((settings.state_folder / DATABASE).absolute()))
    return file.render_as_string(hide_password=False)
