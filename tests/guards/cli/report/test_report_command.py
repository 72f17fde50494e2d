"""The command, from the user's files to the page, for tables, images and tensors, classes and values."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
import yaml
from chromium import Chromium, chromium
from page_parser import Page

Guardhouse = Callable[..., tuple[int, str, str]]
CSV = {"path": "train.csv", "calibration": "heldout.csv", "label": "y"}
HOSTILE = "<script>alert('$ant$')</script>"
SECTIONS = ("data", "fit", "confidence", "guards", "groups", "limits", "cost", "about")


@pytest.fixture
def report(tmp_path: Path, guardhouse: Guardhouse, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Fit a config, report on its bundle with the options given, and give the page."""
    from guards.cli.report.measures import stage_cost

    monkeypatch.setattr(stage_cost, "ROUNDS", 5)

    def write(config: Path, *options: str | Path) -> str:
        status, _, err = guardhouse("fit", config, "--out", tmp_path / "b")
        assert status == 0, err
        status, out, err = guardhouse(
            "report", tmp_path / "b", "--config", config, "--out", tmp_path / "report.html", *options
        )
        assert status == 0, err
        assert out == f"{tmp_path / 'report.html'}\n"
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return write


def sound(page: str) -> Page:
    """Check what holds of every page, and give the page as it is read."""
    parsed = Page.of(page)
    assert not parsed.tags & {"script", "img", "iframe", "object", "embed", "link", "base", "form", "image"}
    assert all(link.startswith("#") and link[1:] in parsed.ids for link in parsed.links)
    assert "http:" not in page
    assert "https:" not in page
    assert "None" not in parsed.text
    assert "nan" not in parsed.text.split()
    assert len(page) < 1_000_000
    return parsed


@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_every_kind_of_rows(kind: str, tmp_path: Path, report: Callable[..., str]) -> None:
    """Tables, images and tensors have every section, with a clean and a suspect file."""
    config = tiny_models.write(tmp_path, kind)
    page = report(config, "--clean", tmp_path / "test.npz", "--suspect", tmp_path / "suspect.npz")
    parsed = sound(page)
    assert parsed.ids >= set(SECTIONS)
    for said in ("of 400 clean rows; the budget is 5.00", "of the suspect rows", "Reliability diagram", "AUROC"):
        assert said in parsed.text.replace("\u00a0", " "), said
    assert "Rows by region" in parsed.text
    assert ("Learning curve of boosted trees" in parsed.text) == (kind == "tabular")


def test_regression(tmp_path: Path, report: Callable[..., str]) -> None:
    """A regression has R2, RMSE, errors and intervals in place of classes, ROC curves apart."""
    model = {"builder": "tiny_models:value_net", "task": "regression", "device": "cpu"}
    guards = tiny_models.document("tabular")["guards"][:2]
    config = tiny_models.write(tmp_path, "tabular", model=model, guards=guards)
    for name, seed in (("train", 0), ("heldout", 50), ("test", 90)):
        made = tiny_models.rows(
            "tabular", 300, seed, labeller=tiny_models.model("tabular", "tiny_models:value_net", task="regression")
        )
        np.savez(
            tmp_path / f"{name}.npz", x=made.x.numpy(), y=made.y.numpy(), group_region=np.array(made.groups["region"])
        )
    parsed = sound(report(config, "--clean", tmp_path / "test.npz"))
    for said in (
        "of the variance of training rows",
        "Root mean squared error",
        "Errors over predicted values",
        "Mean error by region",
    ):
        assert said in parsed.text, said
    for unsaid in ("Rows by class", "Reliability diagram", "Prediction sets"):
        assert unsaid not in parsed.text, unsaid


def test_hostile_names(tmp_path: Path, report: Callable[..., str]) -> None:
    """Names of columns, classes and groups that hold HTML or mathematics are shown as they are, in texts and charts."""
    classes = [HOSTILE, "b&b", '"cat"']
    model = {"builder": "tiny_models:tabular_net", "device": "cpu", "classes": classes}
    groups = {"kind": "groups", "name": "g", "attribute": "g", "source": {"column": "colour<b>"}}
    config = tiny_models.write(
        tmp_path, "tabular", reference=CSV, model={**model, "classes": list(tiny_models.CLASSES)},
        input={"kind": "tabular", "columns": []}, monitors=[],
    )  # fmt: skip
    for name in ("train", "heldout", "test"):
        path = tmp_path / f"{name}.csv"
        made = tiny_models.rows("tabular", 300, {"train": 0, "heldout": 50, "test": 90}[name])
        tiny_models.write_csv(path, made)
        text = path.read_text()
        for old, new in zip(tiny_models.CLASSES, classes, strict=True):
            text = text.replace(f",{old},", f',"{new.replace(chr(34), 2 * chr(34))}",')
        path.write_text(
            text.replace("mass", HOSTILE, 1).replace("colour", "colour<b>", 1).replace("blue", "<i>blue</i>")
        )
    document = yaml.safe_load(config.read_text()) | {"model": model, "monitors": [groups]}
    config.write_text(yaml.safe_dump(document))
    page = report(config, "--clean", tmp_path / "test.csv")
    parsed = sound(page)
    assert not parsed.tags & {"i", "b", "script"}
    assert "<script" not in page
    assert HOSTILE in parsed.text
    assert "<i>blue</i>" in parsed.text


def test_without_labels(tmp_path: Path, report: Callable[..., str]) -> None:
    """Without labels the page says which figures are unknown, and still audits rows and guards."""
    config = tiny_models.write(tmp_path, "tensor")
    for name, seed in (("train", 0), ("heldout", 50)):
        np.savez(tmp_path / f"{name}.npz", x=tiny_models.inputs("tensor", 300, seed).numpy())
    parsed = sound(report(config))
    assert "over- and underfitting are unknown" in parsed.text
    assert "calibration and coverage are unknown" in parsed.text
    assert "p-values of ood" in parsed.text


def test_rows_split_off_and_suspects_alone(tmp_path: Path, report: Callable[..., str]) -> None:
    """If calibration rows were split off the training file, the page warns, and row numbers are those of the file."""
    config = tiny_models.write(tmp_path, "image", reference={"path": "train.npz"})
    made = tiny_models.rows("image", 600)
    x = made.x.clone()
    x[7] = 0.5
    np.savez(tmp_path / "train.npz", x=x.numpy(), y=made.y.numpy())
    parsed = sound(report(config, "--suspect", tmp_path / "suspect.npz"))
    assert "split off the training file" in parsed.text
    assert "rows is blank, with one value everywhere: row 7." in parsed.text
    assert "was not tested on rows that no step has seen" in parsed.text
    assert "of the suspect rows" in parsed.text


def test_suspects_may_have_labels_that_the_model_does_not_know(tmp_path: Path, report: Callable[..., str]) -> None:
    """Labels of suspect rows are not read: rows of an unknown class are suspects like others."""
    config = tiny_models.write(tmp_path, "tensor")
    x = np.load(tmp_path / "suspect.npz")["x"]
    np.savez(tmp_path / "unknown.npz", x=x, y=np.full(len(x), 17))
    parsed = sound(report(config, "--suspect", tmp_path / "unknown.npz"))
    assert "of the suspect rows" in parsed.text


def test_no_guards(tmp_path: Path, report: Callable[..., str]) -> None:
    """A bundle without guards needs action, and has all other sections."""
    parsed = sound(report(tiny_models.write(tmp_path, "tensor", guards=[])))
    assert "No guard is configured" in parsed.text
    assert "Reliability diagram" in parsed.text


def test_leaks_and_wrong_labels_are_said(tmp_path: Path, report: Callable[..., str]) -> None:
    """Held-out rows that are training rows need action, and so do conflicting labels."""
    config = tiny_models.write(tmp_path, "tensor")
    train, held = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("train", "heldout"))
    held["x"][:100], held["y"][:100] = train["x"][:100], train["y"][:100]
    train["x"][200:240], train["y"][200:240] = train["x"][:40], (train["y"][:40] + 1) % 3
    for name, arrays in (("train", train), ("heldout", held)):
        np.savez(tmp_path / f"{name}.npz", **arrays)
    text = sound(report(config)).text.replace("\u00a0", " ")
    assert "100 of 400 (25.0 %) held-out rows are also training rows" in text
    assert "80 of 300 (26.7 %) training rows have the inputs of another row and a different label" in text
    assert "right on more than 86.67 % of the training rows" in text
    assert "0 and 200" in text


def test_overfitting_is_said(tmp_path: Path, report: Callable[..., str]) -> None:
    """A model that is right on all training rows and on half of the held-out rows needs action, first of all."""
    config = tiny_models.write(tmp_path, "tensor")
    model = tiny_models.model("tensor")
    for name, seed, right in (("train", 0, 1.0), ("heldout", 50, 0.5)):
        x = tiny_models.inputs("tensor", 300, seed)
        y = model(x).logits.argmax(1).numpy()
        wrong = np.random.default_rng(seed).random(300) >= right
        np.savez(tmp_path / f"{name}.npz", x=x.numpy(), y=np.where(wrong, (y + 1) % 3, y))
    text = sound(report(config)).text.replace("\u00a0", " ")
    summary = text[text.index("What needs attention first") : text.index("The data")]
    assert "The model is right on 100.0 % of training rows and 5" in summary
    assert "says that it overfits." in summary
    assert "needs action" in summary


def test_rare_events(tmp_path: Path, report: Callable[..., str]) -> None:
    """A model that never predicts a rare class, but ranks its rows first, is not said to underfit."""
    model = {"builder": "tiny_models:binary_net", "device": "cpu", "classes": ["no", "yes"]}
    config = tiny_models.write(tmp_path, "tensor", model=model)
    net = tiny_models.binary_net()
    for name, seed in (("train", 0), ("heldout", 50)):
        x = tiny_models.inputs("tensor", 4000, seed)
        logit = net(x)[:, 0]
        x = x[logit < 0]
        y = (logit[logit < 0] > torch.quantile(logit[logit < 0], 0.95)).long()
        np.savez(tmp_path / f"{name}.npz", x=x.numpy(), y=y.numpy())
    text = sound(report(config)).text
    assert "and still tells the classes apart (AUROC" in text
    assert "underfits, or is misread" not in text


def test_columns_that_say_nothing(tmp_path: Path, report: Callable[..., str]) -> None:
    """Constant, missing and redundant columns of a table need a look, each with its name."""
    config = tiny_models.write(tmp_path, "tabular")
    for name, seed in (("train", 0), ("heldout", 50)):
        arrays = dict(np.load(tmp_path / f"{name}.npz"))
        x = np.nan_to_num(arrays["x"], nan=1.0)
        x[:, 1], x[:, 2] = 0.25, 2 * x[:, 0]
        if seed == 0:
            x[np.random.default_rng(0).random(len(x)) < 0.3, 0] = np.nan
        np.savez(tmp_path / f"{name}.npz", **{**arrays, "x": x})
    text = sound(report(config)).text.replace("\u00a0", " ")
    assert "1 column of the training rows never varies: 'mass'." in text
    assert "1 column of the training rows has missing values; most are missing in 'length', " in text
    assert "Values of 'length' are missing more often in one of the two files" in text
    assert "Columns say the same as others: 'length' and 'age' (correlation 1.000)." in text


def test_broken_promises_need_action(tmp_path: Path, report: Callable[..., str]) -> None:
    """Strange rows with random labels, given as clean, break the budget, the coverage and the calibration."""
    config = tiny_models.write(tmp_path, "tensor")
    x = np.load(tmp_path / "suspect.npz")["x"]
    np.savez(tmp_path / "odd.npz", x=x, y=np.random.default_rng(0).integers(3, size=len(x)))
    text = sound(report(config, "--clean", tmp_path / "odd.npz")).text.replace("\u00a0", " ")
    summary = text[text.index("What needs attention first") : text.index(" findings ")]
    assert "more than a budget of 5.00 % and chance explain" in summary
    assert "fewer than chance explains if 90.0 % are promised" in summary
    assert "The model is too sure by" in summary
    assert "The clean rows look stranger to" in summary


def test_adaptive_sets_and_a_target_error(tmp_path: Path, report: Callable[..., str]) -> None:
    """Randomised sets by group, and a guard that abstains for a target error, are judged by their own promises."""
    guards = [
        {"name": "ood", "detector": {"kind": "gaussian"}},
        {"name": "unsure", "detector": {"kind": "gen"}, "action": "abstain", "target_error": 0.4},
    ]
    sets = {"method": "aps", "by": "region"}
    config = tiny_models.write(tmp_path, "tensor", guards=guards, prediction_sets=sets)
    text = sound(report(config, "--clean", tmp_path / "test.npz")).text.replace("\u00a0", " ")
    assert "'unsure' answers" in text
    assert "and its target is 40.0 %" in text
    assert "100.0 %" in text
    assert "none: abstains for a target error of 40.0 %" in text
    assert "Size of prediction sets" in text
    assert "Coverage by region" in text
    assert "The promise holds for each group by region." in text
    assert "is for all rows together" not in text


def test_a_broken_promise_to_a_group_needs_action(tmp_path: Path, report: Callable[..., str]) -> None:
    """If one group's labels are wrong, its coverage is too low for what it was promised, and the page names it."""
    config = tiny_models.write(tmp_path, "tensor", prediction_sets={"method": "least", "by": "region"})
    rows = dict(np.load(tmp_path / "test.npz"))
    north = rows["group_region"] == "north"
    rows["y"][north] = (rows["y"][north] + 1) % 3
    np.savez(tmp_path / "wrong.npz", **rows)
    text = sound(report(config, "--clean", tmp_path / "wrong.npz")).text.replace("\u00a0", " ")
    assert "Of region north only" in text
    assert "fewer than chance explains if 90.0 % are promised for each group by region" in text


def test_refusals(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """Files that are absent, or are not those of the fit, are refused in one sentence each, and no page is written."""
    config = tiny_models.write(tmp_path, "tensor")
    assert guardhouse("fit", config, "--out", tmp_path / "b")[0] == 0
    out = tmp_path / "report.html"
    ask: list[Any] = ["report", tmp_path / "b", "--config", config, "--out", out]
    assert guardhouse("report", tmp_path / "b", "--config", config)[0] == 2
    status, _, err = guardhouse(*ask, "--clean", "nowhere.npz")
    assert (status, err) == (2, "--clean: no file nowhere.npz\n")
    status, _, err = guardhouse(*ask[:-1], tmp_path)
    assert status == 2
    assert err == f"--out {tmp_path}: this is a folder; name a file, such as {tmp_path / 'report.html'}\n"
    assert guardhouse(*ask[:-1], tmp_path / "no" / "r.html")[0] == 2
    np.savez(tmp_path / "heldout.npz", x=tiny_models.inputs("tensor", 400, 51).numpy(), y=np.zeros(400, np.int64))
    status, _, err = guardhouse(*ask)
    assert status == 2
    assert "does not hold the rows that this bundle was calibrated on" in err
    (tmp_path / "train.npz").unlink()
    status, _, err = guardhouse(*ask)
    assert status == 2
    assert err.startswith(f"reference.path: no file {tmp_path / 'train.npz'}: a report needs the rows")
    assert "Traceback" not in err
    assert not out.exists()


def test_another_folder_needs_the_config(
    tmp_path: Path, guardhouse: Guardhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a config paths start from the working directory, and a refusal says how to name the config."""
    config = tiny_models.write(tmp_path, "tensor")
    assert guardhouse("fit", config, "--out", tmp_path / "b")[0] == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    status, _, err = guardhouse("report", tmp_path / "b", "--out", "report.html")
    assert status == 2
    assert "--config names the config" in err
    monkeypatch.chdir(tmp_path)
    assert guardhouse("report", tmp_path / "b", "--out", "report.html")[0] == 0


@pytest.mark.skipif(chromium() is None, reason="Chromium is not installed (Debian: apt-get install chromium)")
def test_in_a_browser(tmp_path: Path, report: Callable[..., str]) -> None:
    """Chromium finds no fault in the page, asks no host, and shows the page on a phone and in the dark."""
    config = tiny_models.write(tmp_path, "tabular")
    report(config, "--clean", tmp_path / "test.npz", "--suspect", tmp_path / "suspect.npz")
    page = tmp_path / "report.html"
    with Chromium(chromium() or "", tmp_path / "profile") as browser:
        shades = set()
        for width, scheme in ((1280, "light"), (390, "light"), (390, "dark")):
            browser.open(page, width=width, scheme=scheme)
            assert browser.complaints() == []
            assert browser.requests() == [page.as_uri()]
            assert browser.value("document.documentElement.scrollWidth") <= width
            assert browser.value("document.querySelectorAll('figure svg').length") >= 8
            cut = (
                "[...document.querySelectorAll('.scroll')].filter(each => each.scrollHeight > each.clientHeight + 1)"
                ".filter(each => each.querySelectorAll('tr').length < 25).length"
            )
            assert browser.value(cut) == 0, "a short table is cut at the bottom"
            smallest = (
                "Math.min(...[...document.querySelectorAll('figure svg')].map("
                "svg => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width * 8))"
            )
            assert browser.value(smallest) >= 8.5, "letters of a chart have fewer pixels"
            shades.add(browser.value("getComputedStyle(document.body).backgroundColor"))
            shades.add(browser.value("getComputedStyle(document.querySelector('figure text')).fill"))
        assert len(shades) == 4


@pytest.mark.data
@pytest.mark.slow
def test_adult(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """The report of the census table finds that education is told twice."""
    root = Path(__file__).parents[4]
    data = Path(os.environ.get("GUARDHOUSE_DATA", root.parent / "shared" / "data"))
    if not (data / "adult" / "adult_train.csv.gz").is_file():
        pytest.skip(f"no {data / 'adult'}: set GUARDHOUSE_DATA")
    import shutil

    from example_training import train

    folder = tmp_path / "adult"
    shutil.copytree(root / "examples" / "adult", folder, ignore=shutil.ignore_patterns("build"))
    (folder / "build").mkdir()
    assert train("adult", folder / "build", GUARDHOUSE_DATA=str(data)).returncode == 0
    assert guardhouse("fit", folder / "gateway.yaml", "--out", tmp_path / "b")[0] == 0
    out = tmp_path / "report.html"
    clean, suspect = folder / "build" / "test.csv", folder / "build" / "suspect.csv"
    done = guardhouse(
        "report",
        tmp_path / "b",
        "--config",
        folder / "gateway.yaml",
        "--out",
        out,
        "--clean",
        clean,
        "--suspect",
        suspect,
    )
    assert done[0] == 0, done[2]
    parsed = sound(out.read_text(encoding="utf-8"))
    assert "'education' and 'education-num'" in parsed.text
