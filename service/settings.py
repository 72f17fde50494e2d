"""The settings from environment variables: paths and secrets. Everything else is in the config.

This module imports nothing but the standard library and ``guards.errors``, because fronts and `guardhouse drain`
import it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from guards.errors import Mistake

__all__ = ["OWNER_ONLY", "Settings", "state_folder", "without_effect"]

OWNER_ONLY = 0o077
"""The umask of every process of a server: the files of a server are for its own user alone."""

LOG_LEVELS = ("debug", "info", "warning", "error")
YES, NO = ("1", "true", "yes"), ("", "0", "false", "no")

WITHOUT_EFFECT = {"FORWARDED_ALLOW_IPS": "name the proxies in `server.trusted_proxies`"}
"""Variables of uvicorn that this server overrides, each with the way out. Whoever sets one expects an effect."""


def without_effect(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Give a sentence for each variable that is set and has no effect."""
    return [f"{name} has no effect: {way_out}" for name, way_out in WITHOUT_EFFECT.items() if name in environment]


def state_folder(bundle: Path, state: Path | None) -> Path:
    """Give the folder for files that must survive a restart: ``state``, or a folder beside the bundle.

    The server never writes into the bundle itself.
    """
    return state or bundle.resolve().with_name(f"{bundle.resolve().name}.state")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the bundle, the config and the server's own files are, and how much to log."""

    bundle: Path
    config: Path | None = None
    bundle_id: str | None = None
    """The only bundle that is served, by its id; None: any bundle."""
    state: Path | None = None
    log_level: str = "info"
    database: str | None = field(default=None, repr=False)
    """The URL of the database of answered rows, as it was given; the URL may hold a password."""
    redis_url: str | None = field(default=None, repr=False)
    """The URL of the Redis that counts requests over all replicas, as it was given; the URL may hold a password."""
    api_keys: Path | None = None
    """The file of keys; None if the server asks for no keys."""
    open: bool = False
    """Whether a server without keys may listen on an address that other machines reach."""

    @property
    def state_folder(self) -> Path:
        """The folder of the server's own files."""
        return state_folder(self.bundle, self.state)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the variables. :func:`service.lifecycle.addresses.read_settings` also checks the two URLs.

        Raises:
            Mistake: the bundle is not named, or a variable has a wrong value.
        """
        sentences = []
        bundle = environment.get("GUARDHOUSE_BUNDLE")
        if not bundle:
            sentences.append("GUARDHOUSE_BUNDLE: not set; name the folder that `guardhouse fit` wrote")
        bundle_id = environment.get("GUARDHOUSE_BUNDLE_ID")
        if bundle_id == "":
            sentences.append("GUARDHOUSE_BUNDLE_ID: it is empty; set the id of the bundle to serve, or unset it")
        level = environment.get("GUARDHOUSE_LOG_LEVEL", "info").lower()
        if level not in LOG_LEVELS:
            sentences.append(f"GUARDHOUSE_LOG_LEVEL: {level!r} is not one of {', '.join(LOG_LEVELS)}")
        opened = environment.get("GUARDHOUSE_OPEN", "").lower()
        if opened not in (*YES, *NO):
            sentences.append(f"GUARDHOUSE_OPEN: {opened!r} is neither 1 nor 0")
        if sentences or not bundle:
            raise Mistake(*sentences)
        config = environment.get("GUARDHOUSE_CONFIG")
        state = environment.get("GUARDHOUSE_STATE")
        keys = environment.get("GUARDHOUSE_API_KEYS_FILE")
        return cls(
            bundle=Path(bundle),
            config=Path(config) if config else None,
            bundle_id=bundle_id,
            state=Path(state) if state else None,
            log_level=level,
            database=environment.get("GUARDHOUSE_DATABASE_URL") or None,
            redis_url=environment.get("GUARDHOUSE_REDIS_URL") or None,
            api_keys=Path(keys) if keys else None,
            open=opened in YES,
        )
