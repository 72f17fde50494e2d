"""A server with `squeeze`: its views ride in the model's pass, in every precision, and a compiled model takes them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import example_folders
import numpy as np
import numpy.typing as npt
import pytest
import yaml
from fresh_client import FRESH
from gateways import fit_all

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

GUARDS = [
    {"name": "ood", "detector": {"kind": "mahalanobis"}},
    {"name": "squeezed", "detector": {"kind": "squeeze"}},
]
NO_COMPILER = shutil.which(os.environ.get("CXX", "g++")) is None
RECOMPILING = "Recompiling function"
Images = npt.NDArray[np.float64]


def serve(bundles: "Bundles", name: str, model: dict[str, Any], **environment: str) -> "Gateway":
    """Fit and serve the classifier of images with `squeeze`; ``model`` are more keys of its config's section."""
    config = example_folders.write_images(
        bundles.folder / name, guards=GUARDS, model=example_folders.IMAGE_CONFIG["model"] | model
    )
    fit_all({config: config.parent / "bundle"}, PYTHONPATH=bundles.python_path)
    return bundles.serve(name, **environment)


@pytest.fixture(scope="module")
def squeezed(bundles: "Bundles") -> Iterator["Gateway"]:
    """Serve the model in full precision."""
    gateway = serve(bundles, "squeezed", {})
    yield gateway.wait_ready()
    gateway.stop()


def ask(gateway: "Gateway", rows: Images) -> list[dict[str, Any]]:
    body = {"instances": rows.round(6).tolist(), "parameters": {"detail": True}}
    answer = FRESH.post(f"{gateway.url}/predict", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    predictions: list[dict[str, Any]] = answer.json()["predictions"]
    return predictions


def clean(count: int = 16) -> Images:
    drawn: Images = example_folders.images(np.arange(count) % 3, 40) / 255
    return drawn


def speckled() -> Images:
    """Draw images of another colour, with bright points that a median takes away and the model falls for."""
    rows = clean()
    for row in range(len(rows)):
        rows[row, (row + 1) % 3, ::2, ::2] = 1.0
    return rows


def p_values(answers: list[dict[str, Any]]) -> list[float]:
    return [answer["guards"]["squeezed"]["p_value"] for answer in answers]


def test_answers_carry_its_p_value(squeezed: "Gateway") -> None:
    """Clean images have p-values from 0 to 1, and an image whose answer hangs on bright points is flagged."""
    answers = ask(squeezed, clean())
    assert all(0 < p <= 1 for p in p_values(answers))
    assert sum("squeezed" in answer.get("reasons", []) for answer in answers) <= 4
    flagged = ["squeezed" in answer["reasons"] for answer in ask(squeezed, speckled())]
    assert sum(flagged) >= 12


def test_an_image_is_judged_alone_as_among_others(squeezed: "Gateway") -> None:
    """Batches of 1 to 16 rows, padded and not, give an image the same label, p-value and probabilities."""
    rows = np.concatenate([clean(8), speckled()[:8]])
    alone = [ask(squeezed, rows[[row]])[0] for row in range(16)]
    for size in (2, 3, 5, 16):
        together = [answer for start in range(0, 16, size) for answer in ask(squeezed, rows[start : start + size])]
        assert p_values(together) == pytest.approx(p_values(alone), abs=0.02)
        for one, other in zip(together, alone, strict=True):
            assert one["label"] == other["label"]
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


def test_the_fit_printed_its_cost(squeezed: "Gateway", bundles: "Bundles") -> None:
    """Who fits the bundle reads how much longer the model takes with the views."""
    said = bundles.bundle("squeezed").with_suffix(".fit.txt").read_text()
    assert "squeezed runs the model on 2 more views of each row" in " ".join(said.split())
    assert squeezed.url


def test_views_are_judged_in_half_precision(squeezed: "Gateway", bundles: "Bundles") -> None:
    """A model that computes in bfloat16 judges views as well, and finds the same images."""
    half = serve(bundles, "squeezed-half", {"precision": "bfloat16"})
    try:
        answers, expected = ask(half.wait_ready(), speckled()), ask(squeezed, speckled())
    finally:
        half.stop()
    assert sum("squeezed" in answer["reasons"] for answer in answers) >= 12
    for one, other in zip(answers, expected, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=0.05)


@pytest.mark.slow
@pytest.mark.skipif(NO_COMPILER, reason="torch.compile needs a C++ compiler: g++, or CXX")
def test_a_compiled_model_judges_views(squeezed: "Gateway", bundles: "Bundles", tmp_path: Path) -> None:
    """A compiled model gives the answers of the plain model; no length with views is compiled under load."""
    config = bundles.config("squeezed")
    document = yaml.safe_load(config.read_text())
    document["model"]["compile"] = True
    changed = config.with_name("compiled.yaml")
    changed.write_text(yaml.safe_dump(document))
    compiled = bundles.serve(
        "squeezed", config=changed, TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "graphs"), TORCH_LOGS="recompiles"
    )
    compiled.expected += [r"\[__recompiles\]"]
    try:
        before = compiled.wait_ready().log().count(RECOMPILING)
        assert before >= 4
        for size in range(1, 17):
            rows = np.concatenate([clean(8), speckled()[:8]])[:size]
            answers, expected = ask(compiled, rows), ask(squeezed, rows)
            assert p_values(answers) == pytest.approx(p_values(expected), abs=0.02)
            for one, other in zip(answers, expected, strict=True):
                assert one["label"] == other["label"]
        assert compiled.log().count(RECOMPILING) == before, compiled.log()[-3000:]
    finally:
        compiled.stop()
