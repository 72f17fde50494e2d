"""Explanations from question to answer: labels, guards' scores, neighbours, refusals, pictures, command line."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tiny_models
import torch

from guards import Action, Bundle, Mistake
from guards.explanations.explain import Question, UnfitQuestionError, WithheldError, check, explain, fitting, methods
from guards.explanations.pictures import NoPictureError, picture
from guards.input.schema import InputSchema

if TYPE_CHECKING:
    from conftest import Guardhouse

NEAR: dict[str, Any] = {"method": "neighbours", "methods": [{"method": "neighbours", "count": 3, "kept": 50}]}


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """Fit a table whose categories are embedded, with every row explained."""
    return tiny_models.fitted("tabular", explain={"embeddings": ["embedding"], "rejected": True}).bundle


def rows(kind: str, bundle: Bundle, count: int = 3) -> torch.Tensor:
    """Give rows that no guard touches."""
    from guards import Batch

    x = tiny_models.inputs(kind, 60, 77)
    untouched = bundle.pipeline()(Batch(x)).verdict.action == 0
    return x[untouched][:count]


def test_answer_is_of_the_predicted_label(bundle: Bundle) -> None:
    """Each row's own label is explained, and its logit is the output value."""
    x = rows("tabular", bundle, 6)
    logits = bundle.model(x).logits
    answers = explain(bundle, bundle.pipeline(), x, Question())
    for answer, row in zip(answers, logits, strict=True):
        assert answer.label == bundle.classes[int(row.argmax())]
        assert answer.output_value == pytest.approx(row.max().item(), abs=1e-5)
        document = answer.document(bundle.schema)
        assert list(document["attributions"]) == list(tiny_models.COLUMNS)
        change = answer.output_value - answer.baseline_value
        assert sum(document["attributions"].values()) == pytest.approx(change, abs=1e-4)


def test_answer_is_of_the_label_that_is_asked_for(bundle: Bundle) -> None:
    """A target is a label of any class; the largest columns come in the order of the table."""
    x = rows("tabular", bundle, 1)
    (answer,) = explain(bundle, bundle.pipeline(), x, Question(target="cat"))
    assert answer.label == answer.target == "cat"
    assert answer.output_value == pytest.approx(bundle.model(x).logits[0, 2].item(), abs=1e-5)
    document = answer.document(bundle.schema, top_k=2)
    whole = answer.document(bundle.schema)["attributions"]
    largest = sorted(whole, key=lambda name: -abs(whole[name]))[:2]
    assert list(document["attributions"]) == [name for name in tiny_models.COLUMNS if name in largest]


def test_guard_is_explained_by_gradients_or_by_its_own_reasons(bundle: Bundle) -> None:
    """A score with gradients gets contributions; a score without gets the guard's causes; the answer says which."""
    from guards import Batch

    x = torch.tensor([[50.0, 0.1, torch.nan, 1.0]])
    verdict = bundle.pipeline()(Batch(x)).verdict
    (by_gradient,) = explain(bundle, bundle.pipeline(), x, Question(target="guard:ood"))
    assert by_gradient.method == "integrated_gradients"
    assert by_gradient.values is not None
    assert by_gradient.label is None
    assert by_gradient.output_value == pytest.approx(verdict.score[1, 0].item(), rel=1e-5)
    (by_causes,) = explain(bundle, bundle.pipeline(), x, Question(target="guard:quality"))
    said = ("length", "length: looks 100 times too large")
    assert (by_causes.method, by_causes.causes, by_causes.values) == ("causes", said, None)
    assert by_causes.output_value == pytest.approx(verdict.score[0, 0].item(), rel=1e-5)
    assert by_causes.document(bundle.schema)["attributions"] is None


def test_rows_without_an_answer_are_not_explained() -> None:
    """Rows that abstain are named with their action, unless the config says otherwise."""
    bundle = tiny_models.fitted("tensor").bundle
    x = torch.cat([rows("tensor", bundle, 1), torch.full((1, 5), 60.0)])
    with pytest.raises(WithheldError) as withheld:
        explain(bundle, bundle.pipeline(), x, Question())
    assert withheld.value.actions == {1: Action.ABSTAIN}


@pytest.mark.parametrize("show_rows", [False, True])
def test_neighbours_are_the_nearest_in_feature_space(show_rows: bool) -> None:
    """A reference row's nearest neighbour is the row itself, by index, label and distance 0; rows only if allowed."""
    section = {**NEAR, "methods": [{**NEAR["methods"][0], "kept": 300, "show_rows": show_rows}], "rejected": True}
    train = tiny_models.rows("tabular")
    bundle = tiny_models.fitted("tabular", explain=section, store_reference_rows=show_rows).bundle
    answers = explain(bundle, bundle.pipeline(), train.x[[5, 17]], Question())
    for answer, index in zip(answers, (5, 17), strict=True):
        near = answer.neighbours
        assert answer.values is None
        assert len(near) == 3
        assert near[0]["index"] == index
        assert near[0]["distance"] == pytest.approx(0, abs=1e-5)
        assert near[0]["label"] == bundle.classes[int(train.y[index])]
        assert [each["distance"] for each in near] == sorted(each["distance"] for each in near)
        assert all(("row" in each) is show_rows for each in near)
        if show_rows:
            shown = near[0]["row"]
            assert shown["colour"] in {*tiny_models.COLOURS, None}
            assert shown["length"] == (None if math.isnan(train.x[index, 0]) else train.x[index, 0].item())


def test_neighbours_come_with_other_methods_where_they_are_allowed() -> None:
    """Once the bundle has what it takes, every answer names neighbours."""
    section = {"methods": [{"method": "integrated_gradients"}, {"method": "neighbours", "count": 2}]}
    bundle = tiny_models.fitted("tensor", explain=section).bundle
    (answer,) = explain(bundle, bundle.pipeline(), rows("tensor", bundle, 1), Question())
    assert answer.values is not None
    assert len(answer.neighbours) == 2


@pytest.mark.parametrize(
    ("question", "parameter"),
    [
        (Question(method="shap"), "method"),
        (Question(method="neighbours"), "method"),
        (Question(target="dog"), "target"),
        (Question(target="guard:dog"), "target"),
        (Question(steps=0), "steps"),
        (Question(steps=10**9), "steps"),
        (Question(method="occlusion", steps=3), "steps"),
        (Question(top_k=0), "top_k"),
    ],
)
def test_unfit_questions_are_told_by_their_parameter(bundle: Bundle, question: Question, parameter: str) -> None:
    """Before a model is run, what does not fit is named."""
    with pytest.raises(UnfitQuestionError) as unfit:
        check(question, bundle.config, bundle.schema, bundle.classes)
    assert unfit.value.parameter == parameter


def test_hidden_guard_is_no_target() -> None:
    """A guard that no answer shows is not explained either, and not listed."""
    guards = [{"name": "seen", "detector": {"kind": "ranges"}},
              {"name": "unseen", "detector": {"kind": "mahalanobis"}, "visible": False}]  # fmt: skip
    bundle = tiny_models.fitted("tensor", guards=guards).bundle
    with pytest.raises(UnfitQuestionError, match=r"no such guard; there are \['seen'\]"):
        check(Question(target="guard:unseen"), bundle.config, bundle.schema, bundle.classes)


def test_methods_are_listed_with_their_parameters(bundle: Bundle) -> None:
    """Each allowed method says its parameters' values and meanings, and which is the default."""
    listed = {each["method"]: each for each in methods(bundle.config, bundle.schema)}
    assert list(listed) == list(bundle.config.explain.allowed)
    assert [name for name, each in listed.items() if each["default"]] == ["integrated_gradients"]
    assert listed["integrated_gradients"]["parameters"]["tolerance"]["value"] == 1e-3
    assert all(each["description"] for name in listed for each in listed[name]["parameters"].values())


def test_a_method_that_explains_no_row_is_not_listed(bundle: Bundle) -> None:
    """Exact Shapley values take up to ten columns: beyond, they are not listed, and refused before any model is run."""
    assert "shapley" in fitting(bundle.config, bundle.schema)
    for shape in ((10,), (11,), (1, 8, 8)):
        kind = "tensor" if len(shape) == 1 else "image"
        wide = InputSchema.model_validate({"kind": kind, "shape": shape})
        listed = [each["method"] for each in methods(bundle.config, wide)]
        assert ("shapley" in listed) == (shape == (10,))
        assert "kernel_shap" in listed
        if shape != (10,):
            with pytest.raises(UnfitQuestionError, match=r"up to 10 columns, not \d+: use kernel_shap"):
                check(Question(method="shapley"), bundle.config, wide, bundle.classes)


# Pictures


def png_size(picture: bytes) -> tuple[int, int]:
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big")


@pytest.mark.parametrize("kind", tiny_models.KINDS)
@pytest.mark.parametrize("target", [None, "guard:ood"])
def test_picture_of_an_explanation(kind: str, target: str | None) -> None:
    """Every kind of row has a picture: a PNG of a sensible size, the same bytes each time."""
    method = {"method": "kernel_shap"}
    bundle = tiny_models.fitted(kind, explain=method).bundle
    (answer,) = explain(bundle, bundle.pipeline(), rows(kind, bundle, 1), Question(target=target))
    drawn = picture(answer, bundle.schema, title=bundle.config.name)
    width, height = png_size(drawn)
    assert 600 <= width <= 2000
    assert 300 <= height <= 2000
    assert drawn == picture(answer, bundle.schema, title=bundle.config.name)
    import io

    from PIL import Image

    colours = Image.open(io.BytesIO(drawn)).convert("RGB").getcolors(maxcolors=2**24)
    assert len(colours) > 20  # it is not blank


def test_awkward_names_are_drawn() -> None:
    """A label in another script, with markup of a formula, or very long, is text like any other."""
    from guards.explanations.explain import Explanation
    from guards.input.schema import InputSchema

    values = torch.zeros(2, 1, 1)
    for label in ("$x_1^", "猫" * 40, "a label " * 40, ""):
        made = Explanation(values, label, None, "saliency", values, 0.5, None, None)
        assert png_size(picture(made, InputSchema(kind="image", shape=(2, 1, 1)), title="$"))


def test_neighbours_have_no_picture() -> None:
    """A method that attributes nothing to inputs has no picture, and the error says so."""
    bundle = tiny_models.fitted("tensor", explain=NEAR).bundle
    (answer,) = explain(bundle, bundle.pipeline(), rows("tensor", bundle, 1), Question())
    with pytest.raises(NoPictureError, match="neighbours: there are no contributions to draw"):
        picture(answer, bundle.schema)


# The command line


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a bundle and the data file of a table beside its config."""
    folder = tmp_path_factory.mktemp("explained")
    config = tiny_models.write(folder, "tabular", explain={"method": "kernel_shap", "rejected": True})
    from rich.console import Console

    from guards.cli.fit import run

    run(config, folder / "bundle", Console(quiet=True))
    return folder


def test_command_explains_and_draws(guardhouse: "Guardhouse", written: Path) -> None:
    """One row of a file is explained in JSON and in a picture."""
    out = written / "why.png"
    row = f"{written / 'test.npz'}:17"
    status, said, _ = guardhouse("explain", written / "bundle", "--row", row, "--out", out, "--json")
    assert status == 0
    document = json.loads(said)
    assert document["method"] == "kernel_shap"
    assert list(document["attributions"]) == list(tiny_models.COLUMNS)
    assert png_size(out.read_bytes())
    status, said, _ = guardhouse("explain", written / "bundle", "--row", row, "--target", "guard:quality")
    assert status == 0
    assert "causes" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--row", "nowhere.npz:3"], "nowhere.npz"),
        (["--row", "test.npz"], "counted from 0, such as test.csv:17"),
        (["--row", "{test}:9999"], "the file has 400 rows"),
        (["--row", "{test}:1", "--method", "guess"], "--method: not one of"),
        (["--row", "{test}:1", "--target", "dog"], "--target: no label"),
        (["--row", "{test}:1", "--method", "saliency"], "explain.embeddings"),
    ],
)
def test_mistakes_of_the_command_are_sentences(
    guardhouse: "Guardhouse", written: Path, arguments: list[str], sentence: str
) -> None:
    """A row, method or target that is not there ends with status 2 and its name."""
    filled = [argument.replace("{test}", str(written / "test.npz")) for argument in arguments]
    status, _, said = guardhouse("explain", written / "bundle", *filled)
    assert status == 2
    assert sentence in said


def test_command_refuses_a_row_without_an_answer(guardhouse: "Guardhouse", tmp_path: Path) -> None:
    """A row that abstains is explained only if the config allows it."""
    tiny_models.fitted("tensor").bundle.save(tmp_path / "bundle")
    import numpy as np

    np.savez(tmp_path / "far.npz", x=np.full((1, 5), 60.0))
    status, _, said = guardhouse("explain", tmp_path / "bundle", "--row", f"{tmp_path / 'far.npz'}:0")
    assert status == 2
    assert "its verdict is abstain; set `explain.rejected: true`" in said


def test_mistaken_embedding_is_told() -> None:
    """A layer under `explain.embeddings` that is not there is named with those that are."""
    with pytest.raises(Mistake, match="embeddings are"):
        tiny_models.fitted("tabular", explain={"embeddings": ["nowhere"]})
