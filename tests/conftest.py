"""Fixtures that end-to-end, chaos and security tests share: a server starts when the first test asks for it."""

import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

# A busy machine must not fail a law.
settings.register_profile("laws", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("laws")
sys.path.insert(0, str(Path(__file__).parent / "support"))
KEEP_PRIORITY = str(Path(__file__).parent / "support" / "keep_priority")
pytest_plugins = ["bare"] if find_spec("typer") is None else []

if TYPE_CHECKING:
    from databases import Postgres
    from gateways import Gateway
    from v2_client import Speaker


@dataclass(frozen=True, slots=True)
class Bundles:
    """Finds fitted bundles and their configs in ``folder`` by name; ``plugins`` is on the import path of servers."""

    folder: Path
    plugins: Path

    def bundle(self, name: str) -> Path:
        """Give the folder of a bundle."""
        return self.folder / name / "bundle"

    def config(self, name: str) -> Path:
        """Give the path of a bundle's config."""
        return self.folder / name / "gateway.yaml"

    def serve(
        self,
        name: str,
        *,
        config: Path | None = None,
        prefix: Sequence[str] = (),
        plain: bool | None = None,
        by_command: bool = False,
        **environment: str,
    ) -> "Gateway":
        """Start a server on a bundle; ``plain`` starts it without BentoML, default: as the suite is run.

        ``by_command`` types `guardhouse serve`.
        """
        from gateways import GUARDHOUSE_SERVE, PLAIN, Gateway

        state = self.folder / "state" / uuid.uuid4().hex  # servers of one bundle would else share its state
        environment = {"PYTHONPATH": self.python_path, "GUARDHOUSE_STATE": str(state)} | environment
        folder = self.folder / "logs"
        return Gateway(
            self.bundle(name),
            config or self.config(name),
            folder,
            prefix=prefix,
            plain=PLAIN if plain is None else plain,
            program=GUARDHOUSE_SERVE if by_command else None,
            **environment,
        )

    @property
    def python_path(self) -> str:
        """Give an import path that has the plug-ins; processes of the lowest priority are as quick as others."""
        return os.pathsep.join([str(self.plugins), KEEP_PRIORITY, *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """Fit the made-up models with the command line."""
    import example_folders
    from gateways import fit_all

    folder = tmp_path_factory.mktemp("gateways")
    bundles = Bundles(folder, example_folders.write_plugins(folder / "plugins"))
    configs = (
        example_folders.write_table(folder / "table"),
        example_folders.write_images(folder / "images"),
        example_folders.write_values(folder / "values"),
    )
    fit_all({config: config.parent / "bundle" for config in configs}, PYTHONPATH=bundles.python_path)
    return bundles


@pytest.fixture(scope="session")
def bento(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the bento without a network, and give the bento's folder."""
    from bentos import build_bento

    return build_bento(tmp_path_factory.mktemp("bentoml"))


@pytest.fixture(scope="session")
def loans(bundles: Bundles) -> "Iterator[Speaker]":
    """Serve a classifier of a table: categories, missing values, guards of every action, one of them invisible."""
    import example_folders

    yield from _running(bundles, "table", example_folders.ALLOWED)


@pytest.fixture(scope="session")
def table(loans: "Speaker") -> "Gateway":
    """Give the HTTP of the classifier of a table."""
    return loans.gateway


@pytest.fixture(scope="session")
def ledger(bundles: Bundles) -> str:
    """Fit the classifier of a table with a monitor that counts a confusion matrix, and give the bundle's name."""
    import example_folders
    from gateways import fit_all

    monitors = [*example_folders.TABLE_CONFIG["monitors"], {"name": "confusion", "kind": "confusion"}]
    config = example_folders.write_table(bundles.folder / "ledger", monitors=monitors)
    fit_all({config: config.parent / "bundle"}, PYTHONPATH=bundles.python_path)
    return "ledger"


@pytest.fixture(scope="session")
def colours(bundles: Bundles) -> "Iterator[Speaker]":
    """Serve a classifier of images, which only takes small bodies."""
    import example_folders

    yield from _running(bundles, "images", (example_folders.images([1], seed=0)[0] / 255).tolist())


@pytest.fixture(scope="session")
def images(colours: "Speaker") -> "Gateway":
    """Give the HTTP of the classifier of images."""
    return colours.gateway


@pytest.fixture(scope="session")
def numbers(bundles: Bundles) -> "Iterator[Speaker]":
    """Serve a regression model that sleeps on command, behind a short queue."""
    yield from _running(bundles, "values", [1, 1, 1])


@pytest.fixture(scope="session")
def values(numbers: "Speaker") -> "Gateway":
    """Give the HTTP of the regression model."""
    return numbers.gateway


def _running(bundles: Bundles, name: str, row: object) -> "Iterator[Speaker]":
    """Serve a model over HTTP and gRPC; one server of each model is enough for most tests."""
    from v2_client import speak

    for speaker in speak(bundles, name):
        speaker.gateway.wait_explaining(row)
        assert speaker.gateway.predict_path  # cached now, so that no test counts this request
        yield speaker


@pytest.fixture(scope="session")
def postgres() -> "Iterator[Postgres]":
    """Run a PostgreSQL server, or skip the test if PostgreSQL is not installed."""
    from databases import Postgres, postgres_bin

    programs = postgres_bin()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    server = Postgres(programs)
    yield server
    server.remove()


@pytest.fixture(scope="session")
def trained_digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Train the digits example from another folder; give the folder of its files, and what was printed."""
    from example_training import train

    out = tmp_path_factory.mktemp("digits")
    done = train("digits", out)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the URL of an empty database, once of SQLite and once of PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'guardhouse.db'}"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.database()
