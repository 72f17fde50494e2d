"""The white box against trained examples: what "alone" means, and that who knows the guards gets further."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_models

from benchmarks.adversarial.examples import share_of, shown, trained_example
from benchmarks.adversarial.squeezing import judged
from benchmarks.adversarial.white_box import measured

GUARDS = [{"name": "ood", "detector": {"kind": "mahalanobis"}}]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a tiny model of images as an example: its config, weights and data."""
    folder = tmp_path_factory.mktemp("example")
    config = tiny_models.write(folder, "image", guards=GUARDS, false_alarm_budget=0.1, server={"max_batch_rows": 8})
    assert config == folder / "gateway.yaml"
    (folder / "build").mkdir()
    (folder / "test.npz").rename(folder / "build" / "test.npz")
    return folder


def test_guards_are_never_worse_than_the_model_alone(example: Path) -> None:
    """Whoever passes the guards has deceived the model alone; the attacker who knows the guards passes more often."""
    clean, table = measured(example, (0.1, 1.0), rows=8, steps=5, restarts=1)
    assert clean.keys() == {"no guard", "guards", "guards + squeeze"}
    assert clean["no guard"]["false alarms"].hits == 0  # type: ignore[union-attr]
    assert clean["guards"]["accuracy"] == clean["guards + squeeze"]["accuracy"]
    for eps in ("eps 0.1", "eps 1"):
        hits = {name: share.hits for name, row in table.items() if (share := row[eps]) is not None}
        for guards in ("guards", "guards + squeeze"):
            known, unknown = (hits[f"{guards}, {who}: undetected"] for who in ("aware", "oblivious"))
            assert unknown <= known <= hits["alone"]
    assert table["alone"]["eps 1"].value == 1  # type: ignore[union-attr]


def test_found_rows_are_counted_by_guard(example: Path) -> None:
    """Each guard's share is of rows with a wrong label; a rate that the calibration rows cannot tell is left empty."""
    table = judged(example, (0.3,), rows=8, steps=5, restarts=1, budget=40)
    assert table.keys() == {
        "clean rows",
        *(f"{name}, eps 0.3" for name in ("pgd.oblivious", "nes", "square", "pgd.aware")),
    }
    row = table["pgd.oblivious, eps 0.3"]
    assert row.keys() == {
        "success",
        *(f"{name} {level}" for name in ("ood", "squeezed") for level in ("0.01", "0.001")),
    }
    assert row["squeezed 0.001"] is None
    assert row["squeezed 0.01"].n == row["success"].hits > 0  # type: ignore[union-attr]


def test_a_share_of_no_rows_is_empty() -> None:
    """Without a row there is no share, and a table leaves the place empty."""
    assert share_of(np.zeros(0, dtype=bool)) is None
    assert shown({"a": {"b": None, "c": share_of(np.array([True, False]))}}) == {
        "a": {"b": "", "c": "0.500 [0.013, 0.987]"}
    }


@pytest.mark.slow
@pytest.mark.parametrize("training", ["plain", "adversarial"])
def test_an_example_is_trained_as_its_readme_says(tmp_path: Path, training: str) -> None:
    """The digits are trained in a folder of their own, with what a config needs; the checkout stays as it is."""
    folder = trained_example("digits", training, tmp_path, quick=True)
    assert (folder / "build" / "model.safetensors").is_file()
    assert (folder / "gateway.yaml").is_file()
    shutil.rmtree(folder)
