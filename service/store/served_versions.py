"""What a server writes at its start: it migrates the tables, and records what it serves and its config."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, func, insert, select

from service.store.database import StoreDownError
from service.store.tables import CONFIGURATIONS, EDITIONS

__all__ = ["Edition", "enrol", "migrate"]

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x6775617264
"""The number of the PostgreSQL advisory lock that a server holds while it migrates the tables at its start."""


@dataclass(frozen=True, slots=True)
class Edition:
    """What this server serves.

    ``layouts`` maps each monitor to a digest of what its counts mean. ``thresholds`` maps each guard to the p-value at
    and under which the guard flags. ``config`` is the whole config.
    """

    model: str
    version: str
    bundle: str
    layouts: Mapping[str, str]
    classes: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)

    @property
    def on_purpose(self) -> list[int]:
        """The places of the guards that abstain on purpose: they have a `target_error`."""
        guards = self.config.get("guards", ())
        return [place for place, guard in enumerate(guards) if guard.get("target_error") is not None]

    @property
    def digest(self) -> str:
        """A digest of the layouts, by which editions of one bundle differ."""
        return sha256(orjson.dumps(dict(self.layouts), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def migrate(connection: Connection) -> None:
    """Migrate the tables. If several servers start at the same time, one migrates, and the others wait for it.

    Raises:
        StoreDownError: the database was made by a later version of this program.
    """
    from alembic import command  # noqa: PLC0415 - the import is slow, and is needed once
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    if connection.dialect.name == "postgresql":  # on SQLite the transaction itself makes the others wait
        connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    try:
        command.upgrade(config, "head")
    except CommandError as unknown:
        raise StoreDownError(f"its tables are of a later version of this program ({unknown})") from None


def enrol(connection: Connection, edition: Edition) -> int:
    """Record an edition, and record its config if the config differs from the last one; return the edition's number.

    Call this after :func:`migrate`, in the same transaction, so that no other server can do the same at the same time.
    """
    own = {"model": edition.model, "version": edition.version, "bundle": edition.bundle, "digest": edition.digest}
    here = EDITIONS.c.edition
    number = connection.execute(select(here).filter_by(**own)).scalar()
    if number is None:
        made = insert(EDITIONS).values(**own, layouts=dict(edition.layouts)).returning(here)
        number = connection.execute(made).scalar_one()
    told = CONFIGURATIONS.c
    configured = {
        "bundle": edition.bundle, "config": dict(edition.config), "thresholds": dict(edition.thresholds),
    }  # fmt: skip
    last = connection.execute(
        select(told.bundle, told.config, told.thresholds)
        .where(told.model == edition.model)
        .order_by(told.time.desc(), told.configuration.desc())
        .limit(1)
    ).one_or_none()
    if last is None or dict(last._mapping) != configured:  # noqa: SLF001 - SQLAlchemy's public name for it
        connection.execute(insert(CONFIGURATIONS).values(model=edition.model, time=time.time(), **configured))
    return int(number)
