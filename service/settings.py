"""The environment variables: where things are, and what is secret; everything else is in the config."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from guards.bundle import Bundle
from guards.cli.configs import load_config
from guards.config import Config, differences
from guards.schema import InputSchema
from guards.types import Mistake
from service.presence import state_folder

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["Deployment", "Settings"]

DATABASE = "guardhouse.db"
LOG_LEVELS = ("debug", "info", "warning", "error")
# Known to the contract, and not to this version: to ignore them in silence would be to promise what is not kept.
NOT_YET = ("GUARDHOUSE_API_KEYS_FILE",)


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the bundle, the config and the server's own files are, and how much to log."""

    bundle: Path
    config: Path | None = None
    state: Path | None = None
    log_level: str = "info"
    database: "URL | None" = None
    """Where answered rows are stored; its representation hides the password."""
    redis_url: str | None = field(default=None, repr=False)
    """The Redis that replicas share, for what is counted over all of them."""

    @property
    def database_url(self) -> "URL":
        """The database: the one that is named, or a file among the server's own."""
        from sqlalchemy import URL  # noqa: PLC0415 - the commands that serve nothing need not wait for it

        return self.database or URL.create("sqlite", database=str((self.state_folder / DATABASE).absolute()))

    @property
    def state_folder(self) -> Path:
        """The folder of the server's own files."""
        return state_folder(self.bundle, self.state)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the variables.

        Raises:
            Mistake: the bundle is not named, or a variable asks for what this version has not got.
        """
        sentences = [
            f"{name}: this version does not support it yet; unset it" for name in NOT_YET if name in environment
        ]
        bundle = environment.get("GUARDHOUSE_BUNDLE")
        if not bundle:
            sentences.append("GUARDHOUSE_BUNDLE: not set; name the folder that `guardhouse fit` wrote")
        database = None
        if given := environment.get("GUARDHOUSE_DATABASE_URL"):
            from service.database import parse_url  # noqa: PLC0415 - likewise

            try:
                database = parse_url(given)
            except Mistake as mistake:
                sentences += mistake.sentences
        redis_url = environment.get("GUARDHOUSE_REDIS_URL") or None
        if redis_url is not None:
            from service.shared_allowance import connect  # noqa: PLC0415 - likewise

            try:
                connect(redis_url)
            except Mistake as mistake:
                sentences += mistake.sentences
        level = environment.get("GUARDHOUSE_LOG_LEVEL", "info").lower()
        if level not in LOG_LEVELS:
            sentences.append(f"GUARDHOUSE_LOG_LEVEL: {level!r} is not one of {', '.join(LOG_LEVELS)}")
        if sentences or not bundle:
            raise Mistake(*sentences)
        config = environment.get("GUARDHOUSE_CONFIG")
        state = environment.get("GUARDHOUSE_STATE")
        return cls(
            bundle=Path(bundle),
            config=Path(config) if config else None,
            state=Path(state) if state else None,
            log_level=level,
            database=database,
            redis_url=redis_url,
        )


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is about to be served: the fitted config, the deployed one where there is one, rows and labels."""

    fitted: Config
    deployed: Config | None
    schema: InputSchema
    classes: tuple[str, ...]

    @property
    def config(self) -> Config:
        """The config to serve by."""
        return self.deployed or self.fitted

    @property
    def groups(self) -> list[str]:
        """The attributes whose values come with a request, by the names they have there."""
        sources = (getattr(monitor, "source", None) for monitor in self.config.monitors)
        return sorted(source.request for source in sources if source is not None and source.request is not None)

    @classmethod
    def read(cls, settings: Settings) -> Self:
        """Read a bundle's description and the deployed config.

        Raises:
            Mistake: either cannot be read, or the config asks for a refit.
        """
        fitted, schema, classes = Bundle.describe(settings.bundle)
        deployed = None if settings.config is None else load_config(settings.config)
        if deployed is not None and (keys := differences(fitted, deployed)):
            raise Mistake(f"{settings.config}: it differs from the fitted config in {', '.join(keys)}; fit anew")
        return cls(fitted, deployed, schema, classes)
