"""Fitted models that tests read and do not change, and the command line as a function."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_models
import torch

from guards import Bundle
from guards.bundle.fit_rows import Fitted

torch.set_num_threads(1)


@pytest.fixture(scope="session", params=tiny_models.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Run the test for tables, images and tensors."""
    return request.param


@pytest.fixture(scope="session")
def fitted(kind: str) -> Fitted:
    """Fit the toy of the kind."""
    return tiny_models.fitted(kind)


@pytest.fixture(scope="session")
def saved(fitted: Fitted, kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write its bundle."""
    path = tmp_path_factory.mktemp(kind) / "bundle"
    fitted.bundle.save(path)
    return path


@pytest.fixture(scope="session")
def table() -> Bundle:
    """Fit the toy of a table."""
    return tiny_models.fitted("tabular").bundle


Guardhouse = Callable[..., tuple[int, str, str]]


@pytest.fixture
def guardhouse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Guardhouse:
    """Call the command line in this process, and give its status, output and error output."""
    from guards.cli.commands import run

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("GUARDHOUSE_CONFIG", raising=False)

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["guardhouse", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            run()
        captured = capsys.readouterr()
        return int(left.value.code or 0), captured.out, captured.err

    return call
