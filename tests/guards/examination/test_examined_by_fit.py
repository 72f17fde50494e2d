"""`fit` examines the model: a refusal ends with status 2 and a sentence, and a finding is noted."""

import sys
from pathlib import Path
from typing import Any

import faulty_models
import numpy as np
import packed_sequences
import pytest
import tiny_models
import torch

from guards import Bundle, InputSchema, Mistake
from guards.bundle.preparation import Prepared, prepare
from guards.bundle.self_test import made_up_rows
from guards.config.load import load_config
from guards.notices import Notices


def prepared(folder: Path, kind: str = "tensor", **section: Any) -> tuple[Prepared, Notices]:
    notices = Notices()
    model = {"builder": f"tiny_models:{kind}_net", "classes": list(tiny_models.CLASSES), "device": "cpu"} | section
    return prepare(load_config(tiny_models.write(folder, kind, model=model)), folder, notices), notices


@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_sound_models_are_prepared(kind: str, tmp_path: Path) -> None:
    """The toys are examined without a warning, and no note but that no weights were named."""
    found, notices = prepared(tmp_path, kind)
    assert found.model.meaning == "logits"
    assert notices.warnings == []
    assert [note for note in notices.notes if "model.weights is not given" not in note] == []


def test_a_mistake_ends_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with status 2, the sentence and no traceback; nothing is written."""
    from guards.cli.commands import run

    config = tiny_models.write(
        tmp_path, "tensor", model={"builder": "faulty_models:of_toys", "classes": list(tiny_models.CLASSES)}
    )
    argv, sys.argv = sys.argv, ["guardhouse", "fit", str(config), "--out", str(tmp_path / "bundle")]
    try:
        with pytest.raises(SystemExit) as ended:
            run()
    finally:
        sys.argv = argv
    err = capsys.readouterr().err
    assert ended.value.code == 2
    assert "model: two calls with the same rows give different answers" in err
    assert "Traceback" not in err
    assert not (tmp_path / "bundle").exists()


def test_declared_meaning(tmp_path: Path) -> None:
    """`model.output` is taken at its word only if the values agree."""
    net = "faulty_models:probabilities_of_toys"
    assert prepared(tmp_path, builder=net)[0].model.meaning == "probabilities"
    assert prepared(tmp_path, builder=net, output="probabilities")[0].model.meaning == "probabilities"
    with pytest.raises(Mistake, match=r"model.output: log_probabilities are declared"):
        prepared(tmp_path, builder=net, output="log_probabilities")


def test_missing_values_that_the_model_cannot_take(tmp_path: Path) -> None:
    """`impute: none` is refused with its columns before the rows with missing values are examined."""
    columns = [{"name": name, "kind": "numeric", "impute": "none"} for name in tiny_models.COLUMNS[:3]]
    columns.append({"name": "colour", "kind": "categorical", "categories": list(tiny_models.COLOURS)})
    config = tiny_models.write(tmp_path, "tabular", input={"kind": "tabular", "columns": columns})
    with pytest.raises(Mistake, match=r"impute `none` on \['length', 'mass', 'age'\] passes NaN"):
        prepare(load_config(config), tmp_path, Notices())


def test_an_embedding_that_is_too_small(tmp_path: Path) -> None:
    """A category that no reference row need have, but the config declares, is tried."""
    columns = [{"name": name, "kind": "numeric"} for name in tiny_models.COLUMNS[:3]]
    columns.append({"name": "colour", "kind": "categorical", "categories": [*tiny_models.COLOURS, "white"]})
    config = tiny_models.write(tmp_path, "tabular", input={"kind": "tabular", "columns": columns})
    with pytest.raises(Mistake, match=r"column 'colour' has 4 categories, and the model's embedding 'embedding' has 3"):
        prepare(load_config(config), tmp_path, Notices())


def test_precision_is_examined(tmp_path: Path) -> None:
    """The declared precision is compared with float32, and is the model's afterwards."""
    found, notices = prepared(tmp_path, precision="bfloat16")
    assert found.model.precision == "bfloat16"
    assert notices.warnings == []
    assert np.isfinite(found.model(found.train.x).logits.numpy()).all()
    assert torch.equal(found.model(found.train.x).logits, found.model(found.train.x).logits)


def test_sequences_that_must_have_a_length(tmp_path: Path) -> None:
    """A model of packed sequences is tried on rows of the reference, and its bundle can be loaded again."""
    made = packed_sequences.write_bundle(tmp_path)
    bundle = Bundle.load(tmp_path / "bundle")
    assert torch.equal(bundle.model(made.train.x).logits, made.model(made.train.x).logits)
    bundle.run_self_test(bundle.pipeline())


def test_made_up_rows_that_a_model_does_not_take(tmp_path: Path) -> None:
    """If a model takes no row but real ones, the config must let the bundle keep some."""
    section = {"builder": "faulty_models:Rising", "classes": list(tiny_models.CLASSES), "device": "cpu"}
    config = tiny_models.write(tmp_path, "tensor", model=section)
    faulty_models.tokens(tmp_path)
    with pytest.raises(Mistake, match=r"store_reference_rows: .*: set it to true, .* 16 calibration rows .*ids rise"):
        prepare(load_config(config), tmp_path, Notices())
    config = tiny_models.write(tmp_path, "tensor", model=section, store_reference_rows=True)
    faulty_models.tokens(tmp_path)
    prepare(load_config(config), tmp_path, Notices())


def test_made_up_rows_have_values_of_the_reference() -> None:
    """Each position of a made-up row has a value that the reference has there, and no row is one of the reference's."""
    schema = InputSchema(kind="tensor", shape=(2, 3))
    x = torch.arange(600.0).reshape(100, 2, 3)
    made = made_up_rows(x, schema)
    assert made.shape == (16, 2, 3)
    assert torch.equal(made % 6, x[:16] % 6)
    assert not any(bool((row == x).flatten(1).all(1).any()) for row in made)
    assert float(made.min()) > 24
    assert torch.equal(made, made_up_rows(x, schema))
