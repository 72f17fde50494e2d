"""The meaning of outputs: probabilities and log-probabilities are found, and turned into logits."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import faulty_models
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from guards import InputSchema, Mistake, TorchModel
from guards.examination import examine
from guards.notices import Notices

ROWS = 3 * torch.randn(200, faulty_models.INPUTS, generator=torch.Generator().manual_seed(1))


def examined(
    end: Callable[[Tensor], Any], outputs: int, classes: int, declared: Any = "auto"
) -> tuple[TorchModel, Notices]:
    notices = Notices()
    model = TorchModel(faulty_models.Ends(end, outputs), example=torch.rand(4, 6), outputs=classes, notices=notices)
    schema = InputSchema(kind="tensor", shape=(6,))
    examine(model, ROWS, schema=schema, classification=True, declared=declared, largest=64, notices=notices)
    return model, notices


CASES: list[tuple[Callable[[Tensor], Any], int, int, str, str]] = [
    (lambda y: y.softmax(1), 3, 3, "probabilities", "its last operation is softmax"),
    (lambda y: y.softmax(1).clamp(1e-7, 1), 3, 3, "probabilities", "its last operation is softmax"),
    (lambda y: y.log_softmax(-1), 3, 3, "log_probabilities", "its last operation is log_softmax"),
    (lambda y: y.exp() / y.exp().sum(1, keepdim=True), 3, 3, "probabilities", "by their values"),
    (torch.sigmoid, 1, 2, "probabilities", "its last operation is sigmoid"),
    (lambda y: y.sigmoid().squeeze(-1), 1, 2, "probabilities", "its last operation is sigmoid"),
    (functional.logsigmoid, 1, 2, "log_probabilities", "its last operation is log_sigmoid_forward"),
    (lambda y: y.softmax(1)[:, 1], 2, 2, "probabilities", "by their values"),
]


@pytest.mark.parametrize(("end", "outputs", "classes", "meaning", "how"), CASES)
def test_outputs_are_found_and_turned_into_logits(
    end: Callable[[Tensor], Any], outputs: int, classes: int, meaning: str, how: str
) -> None:
    """Probabilities and log-probabilities are found, noted, and served as what the model computed."""
    model, notices = examined(end, outputs, classes)
    assert model.meaning == meaning
    assert how in notices.notes[0]
    plain = TorchModel(faulty_models.Net(outputs=outputs), example=torch.rand(4, 6), outputs=classes)
    assert torch.allclose(model(ROWS).logits.softmax(1), plain(ROWS).logits.softmax(1), atol=1e-6)
    assert notices.warnings == []


@pytest.mark.parametrize("outputs", [3, 1])
def test_logits_stay_logits(outputs: int) -> None:
    """Logits are taken as they are, without a note."""
    model, notices = examined(lambda y: y, outputs, 3 if outputs == 3 else 2)
    assert model.meaning == "logits"
    assert notices.notes == notices.warnings == []


def test_sure_probabilities_have_finite_logits() -> None:
    """Probabilities of exactly 0 and 1 become finite logits, whose softmax is 0 and 1."""
    three, _ = examined(lambda y: (1e4 * y).softmax(1), 3, 3)
    two, _ = examined(lambda y: (1e4 * y).sigmoid(), 1, 2)
    for model, known in (
        (three, (1e4 * faulty_models.Net()(ROWS)).softmax(1)),
        (two, (1e4 * faulty_models.Net(outputs=1)(ROWS)).sigmoid()),
    ):
        logits = model(ROWS).logits
        assert logits.isfinite().all()
        assert torch.allclose(logits.softmax(1)[:, -known.shape[1] :], known, atol=1e-5)


@pytest.mark.parametrize(
    ("end", "outputs", "classes", "declared", "sentence"),
    [
        (
            lambda y: y,
            3,
            3,
            "probabilities",
            r"probabilities are declared, .* lie between -.* with sums of",
        ),
        (lambda y: y, 3, 3, "log_probabilities", "log_probabilities are declared"),
        (lambda y: y, 1, 2, "probabilities", "probabilities are declared"),
        (lambda y: y, 1, 2, "log_probabilities", "log_probabilities are declared"),
        (lambda y: y.softmax(1), 3, 3, "log_probabilities", "log_probabilities are declared"),
        (lambda y: y.sigmoid(), 3, 3, "probabilities", "probabilities are declared"),
        (lambda y: y.sigmoid(), 3, 3, "auto", "a sigmoid for each class"),
        (lambda y: y.softmax(1), 1, 2, "auto", "a softmax over one output, which is 1 whatever the row"),
        (lambda y: y.softmax(1)[:, 0], 2, 2, "auto", "it cannot be told whether they are probabilities of classes"),
        (lambda y: (y / 1e3 + 0.5).clamp(0, 1).square(), 1, 2, "auto", "it cannot be told whether they are"),
        (lambda y: y.clamp(0, 1), 1, 2, "auto", "it cannot be told whether they are"),
    ],
)
def test_outputs_that_contradict(
    end: Callable[[Tensor], Any], outputs: int, classes: int, declared: str, sentence: str
) -> None:
    """Outputs that are not what is declared, or could be two things, are refused."""
    with pytest.raises(Mistake, match=sentence):
        examined(end, outputs, classes, declared)


def test_declared_logits_that_look_like_probabilities() -> None:
    """Declared logits are taken, and a warning says that they look like probabilities."""
    model, notices = examined(lambda y: y.softmax(1), 3, 3, "logits")
    assert model.meaning == "logits"
    assert "logits are declared, and the outputs of reference rows look like probabilities" in notices.warnings[0]


def test_labels_in_place_of_probabilities() -> None:
    """Outputs that are 0 and 1 alone are taken, and a warning says that they are labels."""
    _, notices = examined(lambda y: functional.one_hot(y.argmax(1), 3).float(), 3, 3)
    assert "every output of 31 reference rows is 0 or 1" in notices.warnings[0]


def test_the_bundle_keeps_what_was_found(tmp_path: Path) -> None:
    """A bundle answers with the same probabilities when it is loaded again."""
    import json

    import tiny_models

    from guards import Bundle

    section = {"builder": "faulty_models:probabilities_of_toys", "classes": list(tiny_models.CLASSES), "device": "cpu"}
    config = tiny_models.write(tmp_path, "tensor", model=section)
    from guards.bundle.fit_rows import fit_rows
    from guards.bundle.preparation import prepare
    from guards.config.load import load_config

    prepared = prepare(load_config(config), tmp_path, Notices())
    parts = {name: getattr(prepared, name) for name in ("schema", "classes", "model", "train", "heldout")}
    fit_rows(prepared.config, **parts).bundle.save(tmp_path / "bundle", source="")
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert manifest["meaning"] == "probabilities"
    bundle = Bundle.load(tmp_path / "bundle")
    x = tiny_models.inputs("tensor", 9, 2)
    assert torch.allclose(bundle.model(x).logits.softmax(1), tiny_models.tensor_net()(x).softmax(1), atol=1e-6)
    assert bundle.self_test is not None
    nudged = (bundle.self_test.logits.softmax(1) + 5e-5).log()  # less than a self-test on another device may differ by
    assert not torch.allclose(nudged, bundle.self_test.logits, rtol=1e-4, atol=1e-4)
    elsewhere = replace(bundle.self_test, logits=nudged, fingerprint="another device")
    elsewhere.check(bundle.pipeline(), bundle.classes)
    with pytest.raises(Mistake, match="self-test"):
        replace(elsewhere, logits=(nudged.exp() + 1e-3).log()).check(bundle.pipeline(), bundle.classes)
