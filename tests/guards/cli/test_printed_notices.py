"""Notices about the files that a command reads are printed on standard error, beside the result."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_models

from guards import Bundle

Guardhouse = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fit a toy of tensors as a user does."""
    from rich.console import Console

    from guards.cli.fit import run

    folder = tmp_path_factory.mktemp("tensor")
    with (folder / "log").open("w") as log:
        run(tiny_models.write(folder, "tensor"), folder / "b", Console(file=log))
    return folder / "b"


def test_the_bundle_keeps_the_scale_of_the_reference(bundle: Path) -> None:
    """A fitted schema of tensors keeps between which values most of the reference lies."""
    low, high = Bundle.load(bundle).schema.spread or (0, 0)
    assert (low, high) == pytest.approx((-1.64, 1.64), abs=0.1)


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "--json", "--clean", "{}"),
        ("replay", "--json", "--stream", "{}"),
        ("explain", "--json", "--row", "{}:0"),
        ("predict", "--json", "{}", "--out", "{}.csv"),
    ],
)
def test_notes_of_files_go_to_standard_error(
    command: tuple[str, ...], bundle: Path, guardhouse: Guardhouse, tmp_path: Path
) -> None:
    """A command says what it did with a file on standard error, and prints its document alone on standard output."""
    path = tmp_path / "data.npz"
    np.savez(path, X=tiny_models.inputs("tensor", 40, 3).numpy())
    name, as_json, *options = (part.format(path) for part in command)
    status, out, err = guardhouse(name, bundle, as_json, *options)
    assert status == 0, err
    json.loads(out)
    assert f"note: {path}: the rows are read from the array `X`" in err
    assert "warning" not in err


@pytest.mark.parametrize(
    "command", [("evaluate", "--clean", "{}"), ("replay", "--stream", "{}"), ("predict", "{}", "--out", "{}.csv")]
)
def test_rows_on_another_scale_are_warned_of(
    command: tuple[str, ...], bundle: Path, guardhouse: Guardhouse, tmp_path: Path
) -> None:
    """Rows that were not scaled as the reference's rows were are warned of when they are read, after the fit."""
    np.savez(tmp_path / "data.npz", x=tiny_models.inputs("tensor", 40, 3).numpy() * 255)
    name, *options = (part.format(tmp_path / "data.npz") for part in command)
    status, _, err = guardhouse(name, bundle, *options)
    assert status == 0, err
    assert "warning: " in err
    assert "the file looks as if it was not scaled as the reference was" in err


def test_notes_are_printed_though_the_file_is_refused(bundle: Path, guardhouse: Guardhouse, tmp_path: Path) -> None:
    """A file that is refused has its notes printed before, since they may explain it."""
    np.savez(tmp_path / "data.npz", X=np.zeros((3, 9)))
    status, _, err = guardhouse("evaluate", bundle, "--clean", tmp_path / "data.npz")
    assert status == 2
    assert err.index("the rows are read from the array `X`") < err.index("a row of `x` has shape [9]")
