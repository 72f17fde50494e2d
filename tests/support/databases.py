"""A PostgreSQL of the tests' own: made in a moment, stopped and started at will, gone at the end."""

import os
import shutil
import subprocess
import tempfile
from glob import glob
from pathlib import Path
from typing import Any

import psycopg

__all__ = ["Postgres", "postgres_bin"]

USER = "nobody"
"""PostgreSQL refuses to run as root; so where the tests do, it gets another user."""


def postgres_bin() -> Path | None:
    """Find the folder of PostgreSQL's programs: on the path, or where Debian puts them."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    folders = sorted(glob("/usr/lib/postgresql/*/bin"))  # noqa: PTH207 - an absolute pattern
    return Path(folders[-1]) if folders else None


class Postgres:
    """One server on a socket of its own, with as many databases as are asked for.

    A socket, and no port: while the server is stopped, somebody else might take that.
    """

    def __init__(self, programs: Path) -> None:
        """Make a cluster, and start it."""
        self.programs, self._databases = programs, 0
        # Not where TMPDIR may point: the other user must be able to come here.
        self.folder = Path(tempfile.mkdtemp(prefix="guardhouse-postgres-", dir="/tmp"))
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(self.folder, USER)
            self._as = {"user": USER, "extra_groups": []}
        self._run("initdb", "--auth=trust", "--username=app", "--no-sync", "--encoding=UTF8", "--locale=C")
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.programs / program, "-D", self.folder / "data", *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
            **self._as,
        )
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = f"-c listen_addresses='' -k {self.folder} -c fsync=off"
        self._run("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """Stop at once, as a crash would."""
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    @property
    def running(self) -> bool:
        """Tell whether it is up."""
        return (self.folder / "data" / "postmaster.pid").exists()

    def database(self) -> str:
        """Make a database, and give its URL."""
        self._databases += 1
        name = f"guardhouse_{self._databases}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type] # noqa: RUF100
        return self._url(name)

    def _url(self, database: str) -> str:
        return f"postgresql://app@/{database}?host={self.folder}"

    def remove(self) -> None:
        """Stop, and leave nothing behind."""
        if self.running:
            self.stop()
        shutil.rmtree(self.folder)
