"""A PostgreSQL server for tests, which can be stopped and started, and leaves no files at the end."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import Any

import psutil
import psycopg

__all__ = ["Postgres", "postgres_bin"]

USER = "nobody"
"""The user that PostgreSQL runs as if the tests run as root: PostgreSQL refuses to run as root."""


def postgres_bin() -> Path | None:
    """Find the folder of PostgreSQL's programs, on the path or in Debian's folder; None if there is none."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    folders = sorted(glob("/usr/lib/postgresql/*/bin"))  # noqa: PTH207 - an absolute pattern
    return Path(folders[-1]) if folders else None


class Postgres:
    """One server on a Unix socket, with as many databases as tests ask for.

    The server has no port: while the server is stopped, another process might take the port.
    """

    def __init__(self, programs: Path) -> None:
        """Make a cluster, and start the server."""
        self.programs, self._databases = programs, 0
        # The folder is not in TMPDIR, which the other user may not be allowed to enter.
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
            timeout=180,
            check=False,
            **self._as,
        )
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = f"-c listen_addresses='' -k {self.folder} -c fsync=off"
        self._run("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """Stop the server at once, as a crash would."""
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Suspend every process of the server: the kernel still accepts connections and bytes, but nothing answers."""
        main = psutil.Process(int((self.folder / "data" / "postmaster.pid").read_text().split()[0]))
        main.send_signal(signal.SIGSTOP)  # first, so that the server starts no more processes
        suspended = [main, *main.children(recursive=True)]
        try:
            for process in suspended[1:]:
                process.send_signal(signal.SIGSTOP)
            yield
        finally:
            for process in suspended:
                process.send_signal(signal.SIGCONT)

    @property
    def running(self) -> bool:
        """Tell whether the server is running."""
        return (self.folder / "data" / "postmaster.pid").exists()

    def database(self) -> str:
        """Make an empty database, and give its URL."""
        self._databases += 1
        name = f"guardhouse_{self._databases}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type] # noqa: RUF100
        return self._url(name)

    def _url(self, database: str) -> str:
        return f"postgresql://app@/{database}?host={self.folder}"

    def remove(self) -> None:
        """Stop the server, and delete its folder."""
        if self.running:
            self.stop()
        shutil.rmtree(self.folder)
