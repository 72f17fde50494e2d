"""`tune`: the search on one half of the rows, the figures on the other half, and the new config."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import yaml

from guards import Bundle

Guardhouse = Callable[..., tuple[int, str, str]]
PNG = b"\x89PNG\r\n\x1a\n"
GUARDS = [
    {"name": "quality", "detector": {"kind": "ranges"}, "action": "reject"},
    {"name": "ood", "detector": {"kind": "mahalanobis", "normalise": True}, "action": "abstain"},
]


def write(folder: Path, **changes: Any) -> Path:
    """Write a toy whose features of length 1 hide that suspect rows are longer."""
    config = tiny_models.write(folder, "tensor", guards=GUARDS, false_alarm_budget=0.05, **changes)
    x = tiny_models.inputs("tensor", 300, 7).numpy()
    np.savez(folder / "suspect.npz", x=2.5 * x, y=np.full(300, 99))
    return config


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("tuned")).parent


def tuned(guardhouse: Guardhouse, project: Path, *options: object) -> tuple[int, dict[str, Any], str]:
    files = ["tune", project / "gateway.yaml", "--suspect", project / "suspect.npz", "--json"]
    trials = [] if "--trials" in options else ["--trials", "15"]
    status, out, err = guardhouse(*files, *trials, *options)
    return status, json.loads(out) if out else {}, err


def test_a_better_detector_is_found_and_can_be_fitted(project: Path, guardhouse: Guardhouse, tmp_path: Path) -> None:
    """The winner is better on rows that were not searched on, and its config differs in the guard alone, and fits."""
    status, found, err = tuned(guardhouse, project)
    assert status == 0, err
    assert found["improved"] is True
    assert found["guard"] == "ood"
    assert found["rows"]["suspect_searched"] + found["rows"]["suspect_reported"] == 300
    assert found["difference"]["tpr_interval"][0] > 0
    difference = found["winner"]["detection"]["tpr"] - found["baseline"]["detection"]["tpr"]
    assert found["difference"]["tpr"] == pytest.approx(difference)
    assert found["winner"]["detection"]["false_alarm_interval"][0] <= 0.05
    assert Path(found["picture"]).read_bytes().startswith(PNG)
    assert found["left_out"]["ranges"] == "another guard has this detector"
    before, after = (yaml.safe_load((project / name).read_text()) for name in ("gateway.yaml", "gateway.tuned.yaml"))
    assert after["guards"][0] == before["guards"][0]
    assert {**after["guards"][1], "detector": None, "share": None} == {
        **before["guards"][1],
        "detector": None,
        "share": None,
    }
    assert after["guards"][1]["detector"] == found["winner"]["detector"]
    assert after["model"].pop("features", None) == found["winner"]["features"]
    assert {**after, "guards": None} == {**before, "guards": None}
    assert guardhouse("fit", project / "gateway.tuned.yaml", "--out", tmp_path / "b")[0] == 0
    assert Bundle.load(tmp_path / "b").config.guards[1].name == "ood"


def test_a_seed_gives_the_same_trials(project: Path, guardhouse: Guardhouse) -> None:
    """Two runs with one seed choose and find the same; only latencies differ."""

    def trials(*options: object) -> list[dict[str, Any]]:
        found = tuned(guardhouse, project, "--trials", "7", *options)[1]["trials"]
        return [{key: value for key, value in each.items() if key != "latency_us"} for each in found]

    first = trials("--seed", "1")
    assert trials("--seed", "1") == first
    assert trials("--seed", "2") != first


def test_a_latency_limit_leaves_slower_trials_out(project: Path, guardhouse: Guardhouse) -> None:
    """If no trial is fast enough, there is no winner and no config, and the exit status says that nothing is better."""
    out = project / "fast.yaml"
    status, found, _ = tuned(guardhouse, project, "--latency-us", "0.000001", "--out", out)
    assert status == 3
    assert (found["winner"], found["improved"], found["config"]) == (None, False, None)
    assert not out.exists()
    assert out.with_suffix(".png").exists()


def test_nothing_is_claimed_where_nothing_differs(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """For suspects that are clean rows the search finds something by chance, and the other half says so."""
    config = write(tmp_path)
    np.savez(tmp_path / "suspect.npz", x=tiny_models.inputs("tensor", 200, 8).numpy())
    status, out, err = guardhouse("tune", config, "--suspect", tmp_path / "suspect.npz", "--trials", "12")
    assert status == 3, err
    assert "no config was written" in out
    assert not (tmp_path / "gateway.tuned.yaml").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--guard", "oood"], 'no such guard; there are ["quality", "ood"]'),
        (["--out", "/nowhere/new.yaml"], "needs a name of its own in the folder of"),
        (["--out", "{}/gateway.yaml"], "needs a name of its own in the folder of"),
    ],
)
def test_mistakes(options: list[str], said: str, project: Path, guardhouse: Guardhouse) -> None:
    """A guard that is not there, and a place where the config's paths would lead elsewhere, are refused."""
    status, found, err = tuned(guardhouse, project, *(option.format(project) for option in options))
    assert (status, found) == (2, {})
    assert said in err.replace("\n", " ")


def test_a_guard_that_abstains_on_purpose_is_left_as_it_is(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """A guard with a target_error has no share of the budget: it is neither tuned nor measured, and stays."""
    unsure = {"name": "unsure", "detector": {"kind": "confidence"}, "action": "abstain", "target_error": 0.3}
    config = write(tmp_path, model={**tiny_models.document("tensor")["model"]})
    document = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**document, "guards": [unsure, *GUARDS]}))
    status, found, err = tuned(guardhouse, tmp_path)
    assert status == 0, err
    assert found["guard"] == "ood"
    after = yaml.safe_load((tmp_path / "gateway.tuned.yaml").read_text())
    assert after["guards"][0] == unsure
    assert tuned(guardhouse, tmp_path, "--guard", "unsure")[0] == 2


def test_too_few_rows_are_refused_with_their_number(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """Too few suspects, and too few calibration rows for half of them to support the budget, are both refused."""
    config = tiny_models.write(tmp_path, "tensor", guards=GUARDS, false_alarm_budget=0.004)
    np.savez(tmp_path / "suspect.npz", x=np.repeat(tiny_models.inputs("tensor", 39, 8).numpy(), 3, axis=0))
    status, _, err = guardhouse("tune", config, "--suspect", tmp_path / "suspect.npz")
    assert status == 2
    assert "39 different suspect rows are too few" in err
    assert "give at least 40 different rows" in err
    assert "cannot support a budget of 0.004" in err
    assert "tune searches on 200 of the 400 rows" in err


def test_a_regression_of_a_table(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """A regression's guard is tuned for rows of a CSV, and detectors that need classes are left out with the reason."""
    labeller = tiny_models.model("tabular", "tiny_models:value_net", task="regression")
    for name, seed in (("train.npz", 0), ("heldout.npz", 50)):
        rows = tiny_models.rows("tabular", 400, seed, labeller=labeller)
        assert rows.y is not None
        np.savez(tmp_path / name, x=rows.x.numpy(), y=rows.y.numpy())
    model = {"builder": "tiny_models:value_net", "task": "regression", "device": "cpu"}
    document = tiny_models.document("tabular", model=model, guards=GUARDS[1:], monitors=[])
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(document))
    suspects = tiny_models.rows("tabular", 120, 8)
    suspects.x[:, :2] += 4
    tiny_models.write_csv(tmp_path / "suspect.csv", suspects)
    status, out, err = guardhouse(
        "tune", tmp_path / "gateway.yaml", "--suspect", tmp_path / "suspect.csv", "--trials", "8", "--json"
    )
    assert status in (0, 3), err
    assert "confidence" in json.loads(out)["left_out"]


def test_prediction_sets_by_group_do_not_hinder_the_search(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """A config whose prediction sets are made by the attribute of a groups monitor is tuned, and keeps both."""
    config = write(tmp_path, model={**tiny_models.document("tensor")["model"]})
    document = yaml.safe_load(config.read_text())
    by_group = {
        "prediction_sets": {"method": "aps", "by": "site"},
        "monitors": [
            {
                "name": "sites",
                "kind": "groups",
                "attribute": "site",
                "source": {"request": "site"},
                "levels": ["a", "b"],
            }
        ],
    }
    config.write_text(yaml.safe_dump(document | by_group))
    status, _, err = tuned(guardhouse, tmp_path)
    assert status == 0, err
    after = yaml.safe_load((tmp_path / "gateway.tuned.yaml").read_text())
    assert {key: after[key] for key in by_group} == by_group
