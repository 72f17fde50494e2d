"""The commands: fit, evaluate and schema, from the user's files to what is printed, and every mistake's status."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import tiny_models
import yaml
from forged_bundles import forge
from rich.console import Console
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

import guards
from guards import Batch, Bundle
from guards.cli.evaluate import evaluate, show
from guards.statistics.proportions import proportion, with_interval

Guardhouse = Callable[..., tuple[int, str, str]]
CSV = {"path": "train.csv", "calibration": "heldout.csv", "label": "y"}


def printed(text: str) -> str:
    """Take the line breaks out that a narrow terminal puts in."""
    return " ".join(text.split())


def change(config: Path, **sections: Any) -> None:
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | sections))


def test_version_and_help(guardhouse: Guardhouse) -> None:
    """The version is printed, and without a command the help."""
    assert guardhouse("--version") == (0, f"guardhouse {guards.__version__}\n", "")
    status, out, err = guardhouse()
    assert status == 2
    assert "evaluate" in out + err


def test_schema_is_a_json_schema(guardhouse: Guardhouse) -> None:
    """`schema` prints a JSON Schema of the config, and nothing else."""
    status, out, err = guardhouse("schema")
    document = json.loads(out)
    assert (status, err) == (0, "")
    jsonschema.Draft202012Validator.check_schema(document)
    jsonschema.validate(tiny_models.document("image"), document)


@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_fit_writes_a_bundle_and_says_what_it_did(kind: str, tmp_path: Path, guardhouse: Guardhouse) -> None:
    """`fit` writes a bundle, and prints each guard's budget, threshold and measured false alarms."""
    status, out, err = guardhouse("fit", tiny_models.write(tmp_path, kind), "--out", tmp_path / "b")
    assert status == 0
    bundle = Bundle.load(tmp_path / "b")
    assert out.splitlines()[-1] == f"{tmp_path / 'b'}  {bundle.id}"
    for word in ("quality", "25.0%", "ood", "50.0%", "unsure", "any", "toy 1: false-alarm budget 5.000%, marginal"):
        assert word in printed(out)
    for stage in ("data", "reference", "calibration", "guards", "monitors", "saving"):
        assert stage in err
    assert (tmp_path / "b" / "gateway.yaml").read_text() == (tmp_path / "gateway.yaml").read_text()


OF_BUNDLES = [
    ("evaluate", "{bundle}", "--clean", "heldout.npz"),
    ("predict", "{bundle}", "heldout.npz", "--out", "answers.csv"),
    ("explain", "{bundle}", "--row", "heldout.npz:0"),
    ("report", "{bundle}", "--out", "report.html"),
    ("replay", "{bundle}", "--stream", "heldout.npz"),
    ("attack", "{bundle}", "--data", "heldout.npz", "--rows", "3", "--budget", "20", "--attacks", "nes.plain"),
]


@pytest.mark.parametrize("command", OF_BUNDLES, ids=lambda command: command[0])
def test_commands_take_only_the_bundle_that_was_asked_for(
    command: tuple[str, ...], tmp_path: Path, guardhouse: Guardhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --bundle-id every command that runs a bundle refuses any other bundle, and names both ids."""
    config = tiny_models.write(tmp_path, "tensor")
    found = tiny_models.fitted("tensor").bundle.save(tmp_path / "b")
    monkeypatch.chdir(tmp_path)
    arguments = [argument.format(bundle="b") for argument in command] + ["--config", str(config)]
    other = f"sha256:{64 * '0'}"
    said = f"b: the id of this bundle is {found}, and the bundle id that was asked for is {other}; name the folder of"
    status, out, err = guardhouse(*arguments, "--bundle-id", other)
    assert (status, out, err.startswith(said)) == (2, "", True), err
    status, _, err = guardhouse(*arguments, "--bundle-id", found)
    assert status == 0, err


@pytest.mark.parametrize("command", OF_BUNDLES, ids=lambda command: command[0])
def test_commands_run_no_bundle_that_fails_its_self_test(
    command: tuple[str, ...], tmp_path: Path, guardhouse: Guardhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle whose answers to the known rows are others is refused by every command, as a server refuses it."""
    config = tiny_models.write(tmp_path, "tensor")
    tiny_models.fitted("tensor").bundle.save(tmp_path / "b")
    forge(tmp_path / "b", lambda manifest: manifest.update(temperature=9.7))
    monkeypatch.chdir(tmp_path)
    status, out, err = guardhouse(*(argument.format(bundle="b") for argument in command), "--config", config)
    assert (status, out) == (2, "")
    assert printed(err).startswith("self-test: this device and build gave other verdicts on known rows; fit the bundle")


def test_fit_is_that_of_the_library(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """The command fits what the library fits on the same rows."""
    guardhouse("fit", tiny_models.write(tmp_path, "tensor"), "--out", tmp_path / "b")
    rows = Batch(tiny_models.inputs("tensor", 40, 3))
    one, two = Bundle.load(tmp_path / "b").pipeline()(rows), tiny_models.fitted("tensor").bundle.pipeline()(rows)
    assert one.verdict.p_value.tolist() == two.verdict.p_value.tolist()


def test_fit_from_tables(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """A table in CSV is fitted with its columns and labels inferred."""
    model = {"builder": "tiny_models:tabular_net", "device": "cpu"}
    config = tiny_models.write(
        tmp_path, "tabular", reference=CSV, model=model, input={"kind": "tabular", "columns": []}
    )
    status, _, err = guardhouse("fit", config, "--out", tmp_path / "b")
    assert status == 0, err
    loaded = Bundle.load(tmp_path / "b")
    assert loaded.classes == tiny_models.CLASSES
    assert loaded.schema.names == tiny_models.COLUMNS
    assert loaded.schema.columns[3].categories == tiny_models.COLOURS


def test_fit_with_weights_beside_the_config(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """Paths in the config are relative to it, wherever the command runs."""
    model = {
        "builder": "tiny_models:tensor_net",
        "weights": "w.safetensors",
        "classes": list(tiny_models.CLASSES),
        "device": "cpu",
    }
    status, _, err = guardhouse("fit", tiny_models.write(tmp_path, "tensor", model=model), "--out", tmp_path / "b")
    assert status == 0, err
    (tmp_path / "w.safetensors").unlink()
    status, _, err = guardhouse("fit", tmp_path / "gateway.yaml", "--out", tmp_path / "b")
    assert (status, err.splitlines()[-1]) == (2, f"model.weights: no file {tmp_path / 'w.safetensors'}")


def test_fit_of_a_program(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """A program is fitted like a builder's module."""
    from guards.model.program import save_program

    save_program(tiny_models.program("image"), tmp_path / "m.pt2")
    config = tiny_models.write(
        tmp_path, "image", model={"program": "m.pt2", "classes": list(tiny_models.CLASSES), "device": "cpu"}
    )
    status, _, err = guardhouse("fit", config, "--out", tmp_path / "b")
    assert status == 0, err
    assert (tmp_path / "b" / "model.pt2").is_file()


def test_fit_of_a_regression(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """A regression has no labels to resolve, and its guards and intervals are fitted."""
    model = {"builder": "tiny_models:value_net", "task": "regression", "device": "cpu"}
    guards = [{"name": "ood", "detector": {"kind": "mahalanobis"}}]
    status, _, err = guardhouse(
        "fit", tiny_models.write(tmp_path, "tabular", model=model, guards=guards), "--out", tmp_path / "b"
    )
    assert status == 0, err
    loaded = Bundle.load(tmp_path / "b")
    assert loaded.classes == ()
    assert loaded.pipeline()(Batch(tiny_models.inputs("tabular", 2, 0))).prediction.interval is not None


def test_fit_without_calibration_rows(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """Without held-out rows a part of the reference is split off, with a warning."""
    config = tiny_models.write(tmp_path, "tensor", reference={"path": "train.npz", "calibration_fraction": 0.4})
    status, _, err = guardhouse("fit", config, "--out", tmp_path / "b")
    assert status == 0
    assert "warning: reference.calibration is not given: calibration rows are split off" in printed(err)
    assert Bundle.load(tmp_path / "b").scores.shape == (3, 96)
    change(config, reference={"path": "train.npz", "calibration_fraction": 0.001})
    status, _, err = guardhouse("fit", config, "--out", tmp_path / "b")
    assert status == 2
    assert "reference.calibration_fraction: 0.001 of 300 rows leaves one of the two parts without rows" in err


def test_labels_that_only_the_model_knows(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """Without declared or named labels there are as many as the model has logits, numbered."""
    config = tiny_models.write(tmp_path, "tensor", model={"builder": "tiny_models:tensor_net", "device": "cpu"})
    assert guardhouse("fit", config, "--out", tmp_path / "b")[0] == 0
    assert Bundle.load(tmp_path / "b").classes == ("0", "1", "2")


def test_names_of_labels_in_an_npz(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """Labels that are names are sorted, and found again in the other files."""
    config = tiny_models.write(tmp_path, "tensor", model={"builder": "tiny_models:tensor_net", "device": "cpu"})
    for name in ("train.npz", "heldout.npz"):
        with np.load(tmp_path / name) as file:
            arrays = dict(file)
        np.savez(tmp_path / name, **{**arrays, "y": np.array(tiny_models.CLASSES)[arrays["y"]]})
    status, _, err = guardhouse("fit", config, "--out", tmp_path / "b")
    assert status == 0, err
    assert Bundle.load(tmp_path / "b").classes == tiny_models.CLASSES


@pytest.mark.parametrize(("label", "said"), [("", "the empty string"), ("a\n", "a control character")])
def test_a_reference_whose_label_is_no_name_is_refused(
    tmp_path: Path, guardhouse: Guardhouse, label: str, said: str
) -> None:
    """A class that an answer could not name is refused at fit, whether the config or the reference names it."""
    config = tiny_models.write(tmp_path, "image", model={"builder": "tiny_models:image_net", "device": "cpu"})
    path = tmp_path / tiny_models.document("image")["reference"]["path"]
    arrays = dict(np.load(path))
    names = np.array([label, "b", "c"])
    np.savez(path, **{**arrays, "y": names[arrays["y"] % 3]})
    status, _, err = guardhouse("fit", config, "--out", tmp_path / "b")
    assert status == 2
    assert "reference.label: the" in err
    assert said in err


def test_single_label_is_refused(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """A reference with one label alone cannot tell the classes."""
    reference = CSV | {"path": "t.csv"}
    config = tiny_models.write(
        tmp_path, "tabular", reference=CSV, model={"builder": "tiny_models:tabular_net", "device": "cpu"}
    )
    (tmp_path / "t.csv").write_text("length,mass,age,colour,y\n1,2,3,red,ant\n1,2,3,red,ant\n")
    change(config, reference=reference)
    status, _, err = guardhouse("fit", config, "--out", tmp_path / "b")
    assert status == 2
    assert "model.classes: the reference has no label but 'ant': list every class, in the order of the outputs" in err


def test_fit_prints_brackets_as_they_are(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """Data that looks like markup is printed, and not obeyed."""
    folder = tmp_path / "[red]"
    folder.mkdir()
    model = {"builder": "tiny_models:tolerant_net", "device": "cpu", "classes": list(tiny_models.CLASSES)}
    config = tiny_models.write(folder, "tabular", reference=CSV, model=model, input={"kind": "tabular"}, monitors=[])
    text = (folder / "train.csv").read_text().splitlines()
    text[1] = "[/bold]" + text[1][text[1].index(",") :]
    (folder / "train.csv").write_text("\n".join(text) + "\n")
    status, out, err = guardhouse("fit", config, "--out", folder / "b")
    assert status == 0, err
    assert "row 0: '[/bold]'" in printed(err)
    assert str(folder / "b") in out


def test_fit_says_that_rows_are_too_few_to_measure_on(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """If the false alarms cannot be measured, or a guard never flags, the table says so."""
    columns = tiny_models.document("tabular")["input"]["columns"]
    columns[0]["maximum"] = 1.0
    guards = [
        {"name": "ood", "detector": {"kind": "mahalanobis"}, "share": 1000.0},
        {"name": "quality", "detector": {"kind": "ranges"}},
    ]
    changes = {"guards": guards, "false_alarm_budget": 0.0043, "input": {"kind": "tabular", "columns": columns}}
    status, out, err = guardhouse("fit", tiny_models.write(tmp_path, "tabular", **changes), "--out", tmp_path / "b")
    assert status == 0, err
    assert "too few rows" in out
    assert "never" in out
    assert "declared bounds" in out
    assert "guards.1: quality cannot flag by its p-value" in printed(err)
    assert "calibration rows break a declared bound" in printed(err)


@pytest.mark.parametrize(
    ("sections", "sentences"),
    [
        ({"guards": [{"name": "o", "detector": {"kind": "mahalanobis", "shrinkag": 1}}]}, 1),
        ({"guards": [{"name": "o", "detector": {"kind": "mahalanobis", "shrinkag": 1}, "share": 0}]}, 2),
        ({"reference": {"path": "nowhere.npz"}}, 1),
        ({"reference": {"path": "train.npz", "calibration": "nowhere.npz"}}, 1),
        ({"reference": {"path": "train.csv"}}, 1),
        ({"model": {"builder": "tiny_models:not_a_net"}}, 1),
        ({"model": {"builder": "tiny_models:image_net"}}, 1),
        ({"model": {"builder": "tiny_models:tensor_net", "classes": ["a", "b"]}}, 1),
        ({"model": {"program": "nowhere.pt2"}}, 1),
        ({"model": {"builder": "tiny_models:tensor_net", "device": "cuda:99"}}, 1),
        ({"model": {"builder": "tiny_models:tensor_net", "features": "nowhere"}}, 1),
        ({"input": {"kind": "tensor", "shape": [4]}}, 1),
        ({"false_alarm_budget": 0.0001}, 1),
        ({"coverage": 0.9999}, 1),
        ({"monitors": [{"name": "g", "kind": "groups", "attribute": "a", "source": {"column": "a"}}]}, 1),
    ],
)
def test_mistake_ends_with_status_2(
    sections: dict[str, Any], sentences: int, tmp_path: Path, guardhouse: Guardhouse
) -> None:
    """Every mistake ends with status 2 and a line of its own, and leaves no bundle."""
    config = tiny_models.write(tmp_path, "tensor")
    change(config, **sections)
    status, out, err = guardhouse("fit", config, "--out", tmp_path / "b")
    assert (status, out) == (2, "")
    said = [line for line in err.splitlines() if line.strip() and not re.search(r"\d+/\d+ [\d:-]+$|^note: ", line)]
    assert len(said) == sentences, err
    assert all(": " in line for line in said)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("arguments", [["fit"], ["fit", "x.yaml"], ["nonsense"], ["evaluate", "b"], ["fit", "--oot"]])
def test_wrong_arguments(arguments: list[str], guardhouse: Guardhouse) -> None:
    """A wrong command line ends with status 2 and its usage."""
    status, _, err = guardhouse(*arguments)
    assert status == 2
    assert "Usage" in err


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the tensor toy's files and its bundle."""
    folder = tmp_path_factory.mktemp("evaluated")
    tiny_models.write(folder, "tensor")
    tiny_models.fitted("tensor").bundle.save(folder / "b")
    return folder


def test_evaluation_by_scikit_learn(project: Path) -> None:
    """Every figure is what scikit-learn, scipy and a count by hand give."""
    bundle = Bundle.load(project / "b")
    found = evaluate(bundle, project / "test.npz", project / "suspect.npz")
    pipeline = bundle.pipeline()
    runs = [pipeline(Batch(tiny_models.inputs("tensor", 400, seed) + shift)) for seed, shift in ((90, 0), (91, 5))]
    truth = np.repeat([0, 1], 400)
    assert found["rows"] == {"clean": 400, "suspect": 400}
    for index, name in enumerate(pipeline.names):
        scores = np.concatenate([run.verdict.score[index].numpy() for run in runs])
        flagged = [run.verdict.flagged[index].numpy() for run in runs]
        check(found["guards"][name], truth, scores, flagged)
    weights = np.array([[0.25], [0.5], [0.25]])
    joint = np.concatenate([-(run.verdict.p_value.double().numpy() / weights).min(0) for run in runs])
    check(found["any"], truth, joint, [run.verdict.flagged.any(0).numpy() for run in runs])
    y = tiny_models.rows("tensor", 400, 90).y
    prediction = runs[0].prediction
    assert y is not None
    assert prediction.label is not None
    assert prediction.members is not None
    assert found["accuracy"] == (prediction.label == y).double().mean().item()
    assert found["coverage"] == prediction.members.gather(1, y[:, None]).double().mean().item()
    assert found["r2"] is None


def check(found: Any, truth: Any, scores: Any, flagged: list[Any]) -> None:
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-6)
    assert found["aupr"] == pytest.approx(average_precision_score(truth, scores), abs=1e-6)
    suspect, clean = np.sort(scores[truth == 1])[::-1], scores[truth == 0]
    threshold = suspect[int(np.ceil(0.95 * len(suspect))) - 1]
    assert found["fpr_at_95_tpr"] == pytest.approx((clean >= threshold).mean(), abs=0.003)
    assert found["tpr"] == flagged[1].mean()
    assert found["false_alarm_rate"] == flagged[0].mean()
    interval = binomtest(int(flagged[0].sum()), len(clean)).proportion_ci(method="exact")
    assert found["false_alarm_interval"] == pytest.approx((interval.low, interval.high))


def test_json_is_all_there_is_on_standard_output(project: Path, guardhouse: Guardhouse) -> None:
    """`--json` prints one document with the contract's keys, and nothing else."""
    files = ["--clean", project / "test.npz", "--suspect", project / "suspect.npz"]
    status, out, err = guardhouse("evaluate", project / "b", *files, "--json")
    document = json.loads(out)
    assert (status, err) == (0, "")
    assert {"rows", "accuracy", "coverage", "guards", "any"} <= set(document)
    figures = {"auroc", "aupr", "fpr_at_95_tpr", "tpr"}
    keys = {f"{name}{end}" for name in figures for end in ("", "_interval")}
    keys |= {"false_alarm_rate", "false_alarm_interval"}
    assert all(set(found) == keys for found in (document["any"], *document["guards"].values()))
    assert document["guards"]["ood"]["auroc"] > 0.9


def test_evaluation_of_clean_rows_alone(project: Path, guardhouse: Guardhouse) -> None:
    """Without suspect rows there are false alarms, and null for what needs both."""
    _, out, _ = guardhouse("evaluate", project / "b", "--clean", project / "test.npz", "--json")
    found = json.loads(out)
    assert found["rows"] == {"clean": 400, "suspect": 0}
    assert found["any"]["auroc"] is found["any"]["tpr"] is None
    assert found["any"]["false_alarm_rate"] > 0


def test_evaluation_is_printed(project: Path, guardhouse: Guardhouse) -> None:
    """Without --json a table and the predictions' quality are printed."""
    files = ["--clean", project / "test.npz", "--suspect", project / "suspect.npz"]
    status, out, _ = guardhouse("evaluate", project / "b", *files)
    assert status == 0
    for word in (
        "400 clean rows, 400 suspect rows",
        "quality",
        "ood",
        "unsure",
        "any",
        "accuracy of the clean rows: 0.",
    ):
        assert word in printed(out)


def test_evaluation_with_deploy_time_changes(project: Path, guardhouse: Guardhouse, tmp_path: Path) -> None:
    """A config beside the bundle changes the budget; a config that needs a refit is refused."""
    config = tmp_path / "deploy.yaml"
    config.write_text(yaml.safe_dump(tiny_models.document("tensor", false_alarm_budget=0.5)))
    _, out, _ = guardhouse("evaluate", project / "b", "--clean", project / "test.npz", "--config", config, "--json")
    assert json.loads(out)["any"]["false_alarm_rate"] > 0.3
    change(config, version="2")
    status, _, err = guardhouse("evaluate", project / "b", "--clean", project / "test.npz", "--config", config)
    assert (status, err) == (2, "the config differs from the fitted one in version: fit the bundle anew\n")


def test_evaluation_of_unlabelled_rows_that_cannot_be_judged(project: Path, tmp_path: Path) -> None:
    """Rows without labels have no accuracy; rows with NaN are the strangest, and are evaluated."""
    x = tiny_models.inputs("tensor", 30, 3).numpy()
    np.savez(tmp_path / "clean.npz", x=x)
    x = x.copy()
    x[:, 2] = np.nan
    np.savez(tmp_path / "suspect.npz", x=x)
    found = evaluate(Bundle.load(project / "b"), tmp_path / "clean.npz", tmp_path / "suspect.npz")
    assert found["accuracy"] is found["coverage"] is None
    assert found["guards"]["ood"]["auroc"] == 1
    assert found["guards"]["ood"]["tpr"] == 1


def test_suspects_may_have_labels_that_the_model_does_not_know(project: Path, tmp_path: Path) -> None:
    """Labels of suspect rows are not read: rows of an unknown class are suspects like others."""
    np.savez(tmp_path / "suspect.npz", x=tiny_models.inputs("tensor", 30, 3).numpy() + 5, y=np.full(30, 17))
    found = evaluate(Bundle.load(project / "b"), project / "test.npz", tmp_path / "suspect.npz")
    assert found["rows"]["suspect"] == 30


def test_evaluation_without_guards(project: Path) -> None:
    """Without guards there is accuracy, and null for the rest."""
    bundle = tiny_models.fitted("tensor", guards=[], monitors=[]).bundle
    found = evaluate(bundle, project / "test.npz", project / "suspect.npz")
    assert found["guards"] == {}
    assert set(found["any"].values()) == {None}
    assert found["accuracy"] is not None
    console = Console(record=True, width=200, file=io.StringIO())
    show(found, console)
    assert "any" in console.export_text()


def test_evaluation_of_regression(tmp_path: Path) -> None:
    """A regression has R2 and the coverage of its intervals, and no accuracy."""
    labeller = tiny_models.model("tabular", "tiny_models:value_net", task="regression")
    parts = [tiny_models.rows("tabular", 400, seed, labeller=labeller) for seed in (0, 50, 90)]
    guards = [{"name": "ood", "detector": {"kind": "mahalanobis"}}]
    model = {"builder": "tiny_models:value_net", "task": "regression", "device": "cpu"}
    bundle = tiny_models.fitted("tabular", model=model, guards=guards, train=parts[0], heldout=parts[1]).bundle
    assert parts[2].y is not None
    np.savez(tmp_path / "test.npz", x=parts[2].x.numpy(), y=parts[2].y.numpy())
    found = evaluate(bundle, tmp_path / "test.npz", None)
    value = labeller(parts[2].x).logits[:, 0]
    y = parts[2].y
    expected = 1 - ((y - value) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert found["accuracy"] is None
    assert found["r2"] == pytest.approx(expected.item(), abs=1e-5)
    assert found["coverage"] == pytest.approx(0.9, abs=0.06)
    np.savez(tmp_path / "flat.npz", x=parts[2].x.numpy(), y=np.ones(400))
    assert evaluate(bundle, tmp_path / "flat.npz", None)["r2"] is None
    unlabelled = tiny_models.fitted(
        "tabular", model=model, guards=guards, train=parts[0], heldout=type(parts[1])(parts[1].x)
    ).bundle
    assert evaluate(unlabelled, tmp_path / "test.npz", None)["coverage"] is None


def test_evaluation_mistakes(project: Path, guardhouse: Guardhouse, tmp_path: Path) -> None:
    """A missing bundle, file or config ends with status 2 and a sentence."""
    for arguments in (
        [tmp_path / "nowhere", "--clean", project / "test.npz"],
        [project / "b", "--clean", tmp_path / "nowhere.npz"],
        [project / "b", "--clean", project / "test.npz", "--suspect", tmp_path / "nowhere.npz"],
        [project / "b", "--clean", project / "test.npz", "--config", tmp_path / "nowhere.yaml"],
    ):
        status, out, err = guardhouse("evaluate", *arguments)
        assert (status, out) == (2, "")
        assert err.count("\n") == 1
        assert "nowhere" in err


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 50), (50, 50)])
def test_proportion(hits: int, n: int) -> None:
    """A share has its Clopper-Pearson interval."""
    share = proportion(hits, n)
    interval = binomtest(hits, n).proportion_ci(method="exact")
    assert (share.value, share.low, share.high) == pytest.approx((hits / n, interval.low, interval.high))
    assert with_interval(share)[0] == f"{hits / n:.2%} ({hits}/{n})"
