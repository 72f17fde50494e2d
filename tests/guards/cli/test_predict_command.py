"""`predict`: what the file of answers holds, how it is written, and what is refused."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_models
import torch

from guards import Batch, Bundle
from guards.calibration.draws import uniform_draws
from guards.cli.answer_columns import TOP, AnswerColumns
from guards.types import Prediction, Result

Guardhouse = Callable[..., tuple[int, str, str]]
COLUMNS = ["id", "group_region", "label", *(f"probabilities.{name}" for name in tiny_models.CLASSES)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the files and the bundle of a toy of tables."""
    folder = tmp_path_factory.mktemp("predicted")
    tiny_models.write(folder, "tabular")
    fitted = tiny_models.fitted("tabular", server={"max_batch_rows": 32})
    fitted.bundle.save(folder / "b")
    tiny_models.write_csv(folder / "rows.csv", tiny_models.rows("tabular", 100, 90))
    return folder


def test_answers_are_those_of_the_pipeline(project: Path, guardhouse: Guardhouse, tmp_path: Path) -> None:
    """Each row of the file has what the pipeline says of it; a withheld answer is empty."""
    status, out, err = guardhouse(
        "predict", project / "b", project / "rows.csv", "--out", tmp_path / "a.parquet", "--json"
    )
    assert (status, err) == (0, "")
    found = pd.read_parquet(tmp_path / "a.parquet")
    assert list(found.columns[:6]) == COLUMNS
    bundle = Bundle.load(project / "b")
    x = tiny_models.rows("tabular", 100, 90).x
    results = [bundle.pipeline()(Batch(part)) for part in x.split(32)]  # the last part has 4 rows, a power of two
    action = torch.cat([each.verdict.action for each in results])
    withheld = (action >= 2).numpy()
    assert withheld.any()
    probabilities = torch.cat(
        [each.prediction.probabilities for each in results if each.prediction.probabilities is not None]
    )
    assert np.array_equal(found.iloc[:, 3:6].to_numpy()[~withheld], probabilities.numpy()[~withheld])
    assert found.iloc[withheld, 2:7].isna().all(axis=None)
    assert found["id"].tolist() == list(map(str, range(100)))
    assert found["group_region"].tolist() == list(tiny_models.rows("tabular", 100, 90).groups["region"])
    assert found["action"].tolist() == [("allow", "flag", "abstain", "reject")[each] for each in action.tolist()]
    for index, name in enumerate(bundle.pipeline().names):
        p_value = torch.cat([each.verdict.p_value[index] for each in results])
        flagged = torch.cat([each.verdict.flagged[index] for each in results])
        assert found[f"guards.{name}.p_value"].tolist() == p_value.tolist()
        assert found[f"guards.{name}.flagged"].tolist() == flagged.tolist()
        assert all((name in reasons) == flag for reasons, flag in zip(found["reasons"], flagged.tolist(), strict=True))
    document = json.loads(out)
    assert document["rows"] == 100
    assert (
        document["actions"]
        == {"allow": 0, "flag": 0, "abstain": 0, "reject": 0} | found["action"].value_counts().to_dict()
    )
    assert document["touched"] == (found["action"] != "allow").mean()


def test_randomised_sets_are_those_of_the_ids(guardhouse: Guardhouse, tmp_path: Path) -> None:
    """A row of a file draws by its id, and has the bound of its group, as in a server; in batches of any size."""
    heldout = tiny_models.rows("tabular", 800, 50)
    sets = {"prediction_sets": {"method": "aps", "by": "region"}, "guards": [], "server": {"max_batch_rows": 8}}
    tiny_models.fitted("tabular", heldout=heldout, **sets).bundle.save(tmp_path / "b")
    rows = tiny_models.rows("tabular", 50, 90)
    tiny_models.write_csv(tmp_path / "rows.csv", rows)
    ids = [f"order-{row % 37}" for row in range(50)]
    pd.read_csv(tmp_path / "rows.csv").assign(id=ids).to_csv(tmp_path / "named.csv", index=False)
    bundle = Bundle.load(tmp_path / "b")
    region = torch.tensor([("north", "south").index(each or "") for each in rows.groups["region"]])
    for name, names in (("rows", [str(row) for row in range(50)]), ("named", ids)):
        arguments = tmp_path / f"{name}.csv", "--out", tmp_path / f"{name}.parquet"
        assert guardhouse("predict", tmp_path / "b", *arguments)[0] == 0
        found = pd.read_parquet(tmp_path / f"{name}.parquet")["prediction_set"]
        batch = Batch(rows.x, {"region": region}, draws=torch.from_numpy(uniform_draws(names, bundle.id)))
        members = bundle.pipeline()(batch).prediction.members
        assert members is not None
        expected = [{tiny_models.CLASSES[place] for place in row.nonzero()[:, 0].tolist()} for row in members]
        assert [set(each) for each in found] == expected


def test_csv_and_parquet_hold_the_same(project: Path, guardhouse: Guardhouse, tmp_path: Path) -> None:
    """Answers in CSV, plain or compressed, are the answers in Parquet; lists are JSON."""
    for name in ("a.parquet", "a.csv", "a.csv.gz"):
        assert guardhouse("predict", project / "b", project / "rows.csv", "--out", tmp_path / name)[0] == 0
    assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()) == (tmp_path / "a.csv").read_bytes()
    table, text = pd.read_parquet(tmp_path / "a.parquet"), pd.read_csv(tmp_path / "a.csv", dtype={"id": str})
    assert list(table.columns) == list(text.columns)
    for name in table.columns:
        if name == "prediction_set":
            lists = [None if each is None else list(each) for each in table[name]]
            assert lists == [None if each != each else json.loads(each) for each in text[name]]  # noqa: PLR0124 - NaN
        elif table[name].dtype == np.float32:
            assert np.array_equal(table[name], text[name].astype(np.float32), equal_nan=True)


def test_regression(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """A regression has values and the ends of their intervals, and no labels."""
    labeller = tiny_models.model("tabular", "tiny_models:value_net", task="regression")
    parts = [tiny_models.rows("tabular", 400, seed, labeller=labeller) for seed in (0, 50)]
    model = {"builder": "tiny_models:value_net", "task": "regression", "device": "cpu"}
    guards = [{"name": "ood", "detector": {"kind": "mahalanobis"}}]
    tiny_models.fitted("tabular", model=model, guards=guards, train=parts[0], heldout=parts[1]).bundle.save(
        tmp_path / "b"
    )
    np.savez(tmp_path / "rows.npz", x=parts[0].x.numpy())
    assert guardhouse("predict", tmp_path / "b", tmp_path / "rows.npz", "--out", tmp_path / "a.parquet")[0] == 0
    found = pd.read_parquet(tmp_path / "a.parquet")
    assert list(found.columns[:6]) == ["id", "value", "interval_low", "interval_high", "action", "reasons"]
    assert (found["interval_low"] <= found["value"]).all()


def test_many_labels_have_the_most_likely_in_columns() -> None:
    """With more than 100 labels there are columns for the five most likely alone, and sets are whole."""
    bundle = tiny_models.fitted("tensor").bundle
    one = bundle.pipeline()(Batch(tiny_models.inputs("tensor", 4, 90)))
    columns = AnswerColumns(bundle)
    columns._classes = np.array([f"c{place}" for place in range(120)], dtype=object)
    logits = torch.arange(480).remainder(7).reshape(4, 120).float()
    members = logits > 5
    prediction = Prediction(torch.softmax(logits, 1), logits.argmax(1), members)
    table = columns.table([Result(one.output, prediction, one.verdict)], list("abcd"), {})
    assert [name for name in table.column_names if name.startswith("top_")] == [
        f"top_{place}.{what}" for place in range(1, TOP + 1) for what in ("label", "probability")
    ]
    assert table["top_1.label"].to_pylist() == table["label"].to_pylist()
    sizes = [None if names is None else len(names) for names in table["prediction_set"].to_pylist()]
    assert all(size in (None, int(row.sum())) for size, row in zip(sizes, members, strict=True))


def test_a_gate_of_the_answers(project: Path, guardhouse: Guardhouse, tmp_path: Path) -> None:
    """`predict --require` ends as `evaluate --require` does; an unknown name is refused before a row is answered."""
    files = ["predict", project / "b", project / "rows.csv", "--out", tmp_path / "a.csv"]
    assert guardhouse(*files, "--require", "rows>=101")[0] == 1
    assert guardhouse(*files, "--require", "touched<=0.06")[0] in (1, 3)
    (tmp_path / "a.csv").unlink()
    status, _, err = guardhouse(*files, "--require", "guards.odd.flag_rate<=0.1")
    assert (status, (tmp_path / "a.csv").exists()) == (2, False)
    assert "guards.ood.flag_rate" in err


def test_a_file_appears_whole_or_not_at_all(project: Path, guardhouse: Guardhouse, tmp_path: Path) -> None:
    """After a mistake in a late row the earlier file is still there, and no part of the new file."""
    text = (project / "rows.csv").read_text().splitlines()
    bad = tmp_path / "bad.csv"
    bad.write_text("\n".join([*text, *text[1:], text[1].replace(text[1].split(",")[0], "heavy", 1)]) + "\n")
    out = tmp_path / "a.csv"
    assert guardhouse("predict", project / "b", project / "rows.csv", "--out", out)[0] == 0
    before = out.read_bytes()
    status, _, err = guardhouse("predict", project / "b", bad, "--out", out)
    assert status == 2
    assert "'heavy' is no number" in err
    assert out.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"bad.csv", "a.csv"}


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("a.json", "the name must end in .parquet, .csv or .csv.gz"),
        ("nowhere/a.csv", "cannot be written"),
        ("rows.csv", "this is the file of the rows"),
        ("folder.csv", "a folder has this name"),
    ],
)
def test_other_places_are_refused(out: str, said: str, project: Path, guardhouse: Guardhouse, tmp_path: Path) -> None:
    """A place where answers cannot be written is refused in one sentence."""
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "rows.csv").write_bytes((project / "rows.csv").read_bytes())
    status, printed, err = guardhouse("predict", project / "b", tmp_path / "rows.csv", "--out", tmp_path / out)
    assert (status, printed) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_counts_are_printed(project: Path, guardhouse: Guardhouse, tmp_path: Path) -> None:
    """Without --json the counts and the share of touched rows are printed."""
    status, out, _ = guardhouse("predict", project / "b", project / "rows.csv", "--out", tmp_path / "a.csv")
    assert status == 0
    assert "100 rows: " in out
    assert "rows touched" in out
