"""Servers that the end-to-end, chaos and security tests share; none is started before a test asks for it."""

import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))
pytest_plugins = ["bare"] if find_spec("typer") is None else []

if TYPE_CHECKING:
    from databases import Postgres
    from gateways import Gateway


@dataclass(frozen=True, slots=True)
class Bundles:
    """Where the fitted bundles and their configs are, by name, and the folder of the plug-in they need."""

    folder: Path
    plugins: Path

    def bundle(self, name: str) -> Path:
        """Give the folder of a bundle."""
        return self.folder / name / "bundle"

    def config(self, name: str) -> Path:
        """Give its config."""
        return self.folder / name / "gateway.yaml"

    def serve(
        self, name: str, *, config: Path | None = None, prefix: Sequence[str] = (), **environment: str
    ) -> "Gateway":
        """Start a server on a bundle."""
        from gateways import Gateway

        state = self.folder / "state" / uuid.uuid4().hex  # servers of one bundle would share what is beside it
        environment = {"PYTHONPATH": self.python_path, "GUARDHOUSE_STATE": str(state)} | environment
        folder = self.folder / "logs"
        return Gateway(self.bundle(name), config or self.config(name), folder, prefix=prefix, **environment)

    @property
    def python_path(self) -> str:
        """Give an import path with the plug-in on it."""
        return os.pathsep.join([str(self.plugins), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """Fit the made-up models by the command line."""
    import made_up
    from gateways import fit_all

    folder = tmp_path_factory.mktemp("gateways")
    bundles = Bundles(folder, made_up.write_plugins(folder / "plugins"))
    configs = (
        made_up.write_table(folder / "table"),
        made_up.write_images(folder / "images"),
        made_up.write_values(folder / "values"),
    )
    fit_all({config: config.parent / "bundle" for config in configs}, PYTHONPATH=bundles.python_path)
    return bundles


@pytest.fixture(scope="session")
def bento(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the bento without a network, and give its folder."""
    from bentos import build_bento

    return build_bento(tmp_path_factory.mktemp("bentoml"))


@pytest.fixture(scope="session")
def table(bundles: Bundles) -> "Iterator[Gateway]":
    """Serve a classifier of a table, with guards of every action."""
    import made_up

    yield from _running(bundles, "table", made_up.ALLOWED)


@pytest.fixture(scope="session")
def ledger(bundles: Bundles) -> str:
    """Fit the classifier of a table with a monitor that tallies, and give the bundle's name."""
    import made_up
    from gateways import fit_all

    monitors = [*made_up.TABLE_CONFIG["monitors"], {"name": "confusion", "kind": "confusion"}]
    config = made_up.write_table(bundles.folder / "ledger", monitors=monitors)
    fit_all({config: config.parent / "bundle"}, PYTHONPATH=bundles.python_path)
    return "ledger"


@pytest.fixture(scope="session")
def images(bundles: Bundles) -> "Iterator[Gateway]":
    """Serve a classifier of images, which takes small bodies alone."""
    import made_up

    yield from _running(bundles, "images", (made_up.images([1], seed=0)[0] / 255).tolist())


@pytest.fixture(scope="session")
def values(bundles: Bundles) -> "Iterator[Gateway]":
    """Serve a regression model that sleeps on command, behind a short queue."""
    yield from _running(bundles, "values", [1, 1, 1])


def _running(bundles: Bundles, name: str, row: object) -> "Iterator[Gateway]":
    gateway = bundles.serve(name).wait_ready().wait_explaining(row)
    assert gateway.predict_path  # asked for now, so that no test finds the question in what it counts
    yield gateway
    gateway.stop()


@pytest.fixture(scope="session")
def postgres() -> "Iterator[Postgres]":
    """Run a PostgreSQL, where its programs are installed."""
    from databases import Postgres, postgres_bin

    programs = postgres_bin()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    server = Postgres(programs)
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name an empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'guardhouse.db'}"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.database()
