"""Reads the URL of a database, and refuses wrong URLs without quoting them, because a URL may hold a password."""

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from guards.errors import Mistake

__all__ = ["parse_url"]

MALFORMED = (
    "GUARDHOUSE_DATABASE_URL: not a URL such as postgresql://user:password@host/database; write special characters, "
    "such as the @ in a password, as %XX"
)


def parse_url(given: str) -> URL:
    """Read the URL of a database.

    >>> str(parse_url("postgresql://app@db/guardhouse"))
    'postgresql+psycopg://app@db/guardhouse'

    Raises:
        Mistake: the URL is malformed, or the database is not supported. The message quotes the driver's name alone.
    """
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        raise Mistake(MALFORMED) from None
    if url.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        if given.count("@") > 1:  # of a password with an @, the end would be read as a part of the host
            raise Mistake(MALFORMED)
        url = url.set(drivername="postgresql+psycopg")
        _check_options(url)
        return url
    if url.drivername == "sqlite" and url.database not in (None, "", ":memory:"):
        if url.host or url.port or url.username or url.password or url.query:
            raise Mistake(
                "GUARDHOUSE_DATABASE_URL: a SQLite file is named by its path alone: sqlite:////path/of/a/file"
            )
        return url
    raise Mistake(
        f"GUARDHOUSE_DATABASE_URL: {url.drivername!r} is not supported; there are postgresql://... and "
        "sqlite:////path/of/a/file"
    )


def _check_options(url: URL) -> None:
    """Refuse options in the query of a PostgreSQL URL that its driver does not know.

    Raises:
        Mistake: there is such an option.
    """
    from psycopg import ProgrammingError  # noqa: PLC0415 - the import is slow, and SQLite does not need it
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415

    try:
        _, options = url.get_dialect()().create_connect_args(url)
        make_conninfo(**options)
    except (ArgumentError, ProgrammingError, TypeError, ValueError):
        raise Mistake(
            "GUARDHOUSE_DATABASE_URL: the part after the question mark has an option that PostgreSQL does not know, or "
            "a wrong value; there are sslmode, sslrootcert, host, port, options and others"
        ) from None
