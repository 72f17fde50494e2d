"""The page "your own model": every block runs as a newcomer would run it, and says what the page says."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pytest
from commands import run_forked
from gateways import ROOT, Gateway, clean_environment

PAGE = ROOT / "docs" / "your-own-model.md"
FENCE = re.compile(r"^(?:`(?P<title>[^`\n]+)`:\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
STATUS = re.compile(r"^exit status (\d)$", re.MULTILINE)
SERVE = re.compile(r"^guardhouse serve (\S+) --config (\S+)$")
PORT = "localhost:3000"


class Block(NamedTuple):
    """One fenced block: a file, a command, or what the command before it says."""

    kind: str
    title: str | None
    text: str


def blocks_of(section: str) -> list[Block]:
    """Find the blocks of a section, in order."""
    return [Block(found["kind"], found["title"], found["text"]) for found in FENCE.finditer(section)]


SECTIONS = {
    section.partition("\n")[0]: blocks_of(section) for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
}


def _parts(command: str) -> Iterator[tuple[bool, str]]:
    """Cut a command into lines that call `guardhouse`, and what stands between them."""
    lines = command.replace("\\\n", " ").splitlines(keepends=True)
    for guardhouse, group in groupby(lines, key=lambda line: line.startswith("guardhouse ")):
        alike = list(group)
        yield from ((True, line) for line in alike) if guardhouse else [(False, "".join(alike))]


class Newcomer:
    """Follows one section in an empty folder, with the programs of this environment on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.server, self.said, self.status = folder, None, "", 0
        self.log = folder / "said.txt"
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        # Wide enough that no sentence is broken.
        self.environment = clean_environment() | {"PATH": path, "COLUMNS": "1000"}

    server: Gateway | None

    def follow(self, block: Block) -> None:
        """Write a file, run a command, or compare what the last command said."""
        if block.title is not None:
            path = self.folder / block.title
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text)
        elif block.kind == "sh":
            self.check_status("")
            self.run(block.text)
        else:
            assert block.kind == "text", block
            self.compare(block.text)

    def run(self, command: str) -> None:
        """Run a command to its end, or start a server."""
        if served := SERVE.match(command.strip()):
            bundle, config = (self.folder / name for name in served.groups())
            self.server = Gateway(bundle, config, self.folder / "logs").wait_ready()
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

    def guardhouse(self, script: str) -> None:
        """Run one command of ours."""
        arguments = shlex.split(script)[1:]
        self.status = run_forked(arguments, folder=self.folder, environment=self.environment, said=self.log)

    def bash(self, script: str) -> None:
        """Run any others."""
        with self.log.open("a") as log:
            ran = subprocess.run(
                ["bash", "-e", "-c", script],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                check=False,
                timeout=120,
            )
        self.status = ran.returncode

    def check_status(self, quoted: str) -> None:
        """Hold the last command's exit status against the quoted one, 0 if there is none."""
        said = STATUS.search(quoted)
        assert self.status == (int(said[1]) if said else 0), self.said
        self.status = 0

    def compare(self, quoted: str) -> None:
        """Find every line of a quotation in what was said; `...` stands for anything."""
        self.check_status(quoted)
        said = " ".join(self.said.split())
        whole = re.sub(r"\n +", " ", STATUS.sub("", quoted))  # a line that is set in goes on with the one before
        for line in filter(None, whole.splitlines()):
            parts = (re.escape(part.strip()) for part in " ".join(line.split()).split("..."))
            assert re.search(".*?".join(parts), said), f"{line}\n\nis not in\n\n{self.said}"

    def leave(self) -> None:
        """Stop the server."""
        if self.server is not None:
            self.server.stop()


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    """Give an empty folder, and end what was started in it."""
    one = Newcomer(tmp_path)
    yield one
    one.leave()


@pytest.mark.skipif(find_spec("guards.cli.check") is None, reason="the page begins with `guardhouse check`")
@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_works_as_it_stands(newcomer: Newcomer, section: str) -> None:
    """The blocks of a section run one after another, with the exit statuses and the sentences that the page quotes."""
    for block in SECTIONS[section]:
        newcomer.follow(block)
    newcomer.check_status("")


def test_the_page_has_something_to_run() -> None:
    """Each of the three sections writes a model and a config, checks, fits, serves, asks, and makes mistakes."""
    assert len(SECTIONS) == 3
    for blocks in SECTIONS.values():
        commands = "\n".join(block.text for block in blocks if block.kind == "sh")
        assert len([block for block in blocks if block.title]) == 3
        assert all(f"guardhouse {name} " in commands for name in ("check", "fit", "serve"))
        assert "curl" in commands
        assert sum(bool(STATUS.search(block.text)) or "warning:" in block.text for block in blocks) >= 2
