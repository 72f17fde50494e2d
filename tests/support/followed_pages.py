"""Follows a page of the documentation as a newcomer would: writes its files, runs its commands, compares the output."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from commands import run_forked
from gateways import GUARDHOUSE_SERVE, Gateway, clean_environment

FENCE = re.compile(r"^(?:`(?P<title>[^`\n]+)`:\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
STATUS = re.compile(r"^exit status (\d)$", re.MULTILINE)
SERVE = re.compile(r"^guardhouse serve (\S+) --config (\S+)$")
STOP = re.compile(r"^guardhouse drain .*--stop$")
PORT = "localhost:3000"
CLOSE = 0.02
"""How far the numbers of an answer may be from the numbers on a page: the last digits depend on the processor."""


class Block(NamedTuple):
    """One fenced block of a page: a file, a command, or the output of the command before it."""

    kind: str
    title: str | None
    text: str


def blocks_of(section: str) -> list[Block]:
    """Find the fenced blocks of a section, in order."""
    return [Block(found["kind"], found["title"], found["text"]) for found in FENCE.finditer(section)]


class Newcomer:
    """Follows blocks in a folder, with the programs of this environment on the path."""

    server: Gateway | None

    def __init__(self, folder: Path) -> None:
        self.folder, self.server, self.said, self.status = folder, None, "", 0
        self.log = folder / "said.txt"
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        # The terminal is wide enough that no sentence is broken into lines.
        self.environment = clean_environment() | {"PATH": path, "COLUMNS": "1000"}

    def follow(self, block: Block) -> None:
        """Write a file, run a command, or compare the output of the last command; a config without a title is skipped.

        Commands of make are skipped: the files that they make are already there.
        """
        if block.title is not None:
            path = self.folder / block.title
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text)
        elif block.kind == "sh":
            self.check_status("")
            if not all(line.startswith("make ") for line in block.text.splitlines()):
                self.run(block.text)
        elif block.kind == "json":
            self.compare_json(block.text)
        elif block.kind == "text":
            self.compare(block.text)
        else:
            assert block.kind == "yaml", block

    def serve(self, bundle: str, config: str) -> None:
        """Start a server, whose state is beside the bundle, so that `guardhouse drain` finds the server."""
        fitted = self.folder / bundle
        self.server = Gateway(
            fitted,
            self.folder / config,
            self.folder / "logs",
            program=GUARDHOUSE_SERVE,
            GUARDHOUSE_STATE=f"{fitted}.state",
        ).wait_ready()

    def run(self, command: str) -> None:
        """Run a command to its end, or start a server."""
        if served := SERVE.match(command.strip()):
            self.serve(*served.groups())
            return
        if self.server is not None:
            command = command.replace(PORT, f"localhost:{self.server.port}")
        for guardhouse, script in _parts(command):
            assert self.status == 0, self.log.read_text(encoding="utf-8")
            run = self.guardhouse if guardhouse else self.bash
            run(script)
        self.said = self.log.read_text(encoding="utf-8")
        self.log.write_text("")
        assert "Traceback" not in self.said, self.said
        if STOP.match(command.strip()):
            assert self.server is not None
            assert self.server.wait() == 0
            self.server = None

    def guardhouse(self, script: str) -> None:
        """Run one `guardhouse` command."""
        arguments = shlex.split(script)[1:]
        self.status = run_forked(arguments, folder=self.folder, environment=self.environment, said=self.log)

    def bash(self, script: str) -> None:
        """Run other commands with bash."""
        with self.log.open("a") as log:
            ran = subprocess.run(
                ["bash", "-e", "-c", script],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                check=False,
                timeout=300,
            )
        self.status = ran.returncode

    def check_status(self, quoted: str) -> None:
        """Compare the last command's exit status with the quoted status, 0 if none is quoted."""
        said = STATUS.search(quoted)
        assert self.status == (int(said[1]) if said else 0), self.said
        self.status = 0

    def compare(self, quoted: str) -> None:
        """Find every line of a quotation in the last output; `...` stands for any text."""
        self.check_status(quoted)
        said = " ".join(self.said.split())
        whole = re.sub(r"\n +", " ", STATUS.sub("", quoted))  # an indented line continues the line before
        for line in filter(None, whole.splitlines()):
            parts = (re.escape(part.strip()) for part in " ".join(line.split()).split("..."))
            assert re.search(".*?".join(parts), said), f"{line}\n\nis not in\n\n{self.said}"

    def compare_json(self, quoted: str) -> None:
        """Compare a quoted JSON document with the last line of the output; numbers may differ a little."""
        self.check_status("")
        said = json.loads(self.said.strip().splitlines()[-1])
        assert alike(json.loads(quoted), said), f"{quoted}\n\nis not like\n\n{self.said}"

    def leave(self) -> None:
        """Stop the server."""
        if self.server is not None:
            self.server.stop()


def alike(quoted: object, said: object) -> bool:
    """Compare two JSON documents: numbers may differ a little, and `...` in a string stands for any text."""
    if isinstance(quoted, dict):
        same = isinstance(said, dict) and quoted.keys() == said.keys()
        return same and all(alike(value, said[key]) for key, value in quoted.items())
    if isinstance(quoted, list):
        return isinstance(said, list) and len(quoted) == len(said) and all(map(alike, quoted, said))
    if isinstance(quoted, float):
        return isinstance(said, int | float) and abs(quoted - said) <= CLOSE
    if isinstance(quoted, str) and "..." in quoted:
        return isinstance(said, str) and bool(re.fullmatch(".*".join(map(re.escape, quoted.split("..."))), said))
    return quoted == said


def _parts(command: str) -> Iterator[tuple[bool, str]]:
    """Split a command into lines that call `guardhouse` (True) and the lines between them (False)."""
    lines = command.replace("\\\n", " ").splitlines(keepends=True)
    for guardhouse, group in groupby(lines, key=lambda line: line.startswith("guardhouse ")):
        same = list(group)
        yield from ((True, line) for line in same) if guardhouse else [(False, "".join(same))]
