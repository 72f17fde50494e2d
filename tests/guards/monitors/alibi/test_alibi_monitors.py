"""Monitors of alibi-detect: quiet on clean rows, and an alarm on shifted rows, at the declared rate."""

import json
import logging
import math
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from alibi_here import LACKING

from guards import Batch, Bundle, Mistake, ModelOutput, Result
from guards.config.config import parse
from guards.config.plugins import registered
from guards.monitors.alibi.base import LICENCE, AlibiMonitor
from guards.monitors.alibi.interpreter import alibi_python
from guards.monitors.base import Context, Monitor
from guards.monitors.slow_work.work import Work
from guards.testing import Example, example
from guards.testing.example import take, with_strange_row

pytestmark = pytest.mark.skipif(LACKING is not None, reason=str(LACKING))
ROOT = Path(__file__).parents[4]
WINDOW: dict[str, Any] = {"window": 50, "average_run_length": 5000, "reference_rows": 200}
WINDOW_KINDS: dict[str, dict[str, Any]] = {
    "alibi_mmd": {},
    "alibi_lsdd": {},
    "alibi_context_mmd": {"reference_rows": 100},
    "alibi_classifier": {"epochs": 20},
    "alibi_spot_the_diff": {"epochs": 20},
    "alibi_ks": {},
    "alibi_cvm": {},
    "alibi_tabular": {},
    "alibi_chi2": {},
}
ONLINE: dict[str, Any] = {"window": 10, "every": 1, "expected_run_time": 80, "reference_rows": 150}
ONLINE_KINDS = ("alibi_mmd_online", "alibi_lsdd_online", "alibi_cvm_online")
QUICK_WINDOWS = {
    ("alibi_mmd", "features"),
    ("alibi_ks", "inputs"),
    ("alibi_cvm", "features"),
    ("alibi_tabular", "inputs"),
    ("alibi_chi2", "features"),
}
QUICK_ONLINE = "alibi_lsdd_online"
"""The kind that is tested every time; of the others, long tests are slow."""
MADE = example("tabular", count=250)


def monitor(kind: str, where: Context = MADE.context, **params: Any) -> AlibiMonitor[Any]:
    made = registered("monitors")[kind]
    chosen = made.Params.model_validate({"name": "drift", "kind": kind, **params})
    built = made(chosen, where)
    assert isinstance(built, AlibiMonitor)
    return built


def fitted(kind: str, made: Example = MADE, **params: Any) -> AlibiMonitor[Any]:
    held_out = replace(made.reference, batch=made.calibration, y=None)
    return monitor(kind, made.context, **params).fit(held_out, made.outcome(made.calibration))


def show(watching: Monitor, rows: Batch, made: Example = MADE) -> None:
    with torch.inference_mode():
        watching.observe(rows, made.outcome(rows))


def shifted(rows: Batch, *, logits: float = 4.0) -> Batch:
    """Move inputs, features and logits."""
    moved = take(rows, torch.arange(len(rows)))
    assert moved.output is not None
    moved.x[:, :3] += 2
    moved.output.features.add_(0.8)
    moved.output.logits.add_(torch.tensor([logits, 0, 0]))
    return moved


def figures(watching: Monitor) -> dict[str, float | None]:
    return {s.name: s.value for s in watching.report() if not s.labels}


def counted(watching: Monitor) -> dict[str, float]:
    return {s.labels.get("result", s.metric): s.value for s in watching.series()}


@pytest.mark.parametrize(
    ("kind", "on"),
    [
        pytest.param(kind, on, marks=[] if (kind, on) in QUICK_WINDOWS else [pytest.mark.slow])
        for kind in WINDOW_KINDS
        for on in ("features", "inputs")
    ],
)
def test_a_window_test_alarms_on_shifted_rows_alone(kind: str, on: str) -> None:
    """Clean windows raise no alarm, shifted windows do, and no p-value is ever 0."""
    allowed = {"alibi_tabular": "inputs", "alibi_chi2": "prediction"}.get(kind, on)
    if allowed != on == "inputs":
        pytest.skip("the other parameter is this one")
    watching = fitted(kind, **{**WINDOW, **WINDOW_KINDS[kind], "on": allowed})
    assert watching.state() == "insufficient_data"
    assert figures(watching)["p_value"] is None
    show(watching, MADE.rows[:150])
    assert watching.state() == "ok"
    assert counted(watching)["tested"] == 3
    # Where the context itself is not to be met in the reference, nothing can be said given it.
    show(watching, shifted(MADE.rows, logits=0.0 if kind == "alibi_context_mmd" else 4.0)[:100])
    assert watching.state() == "alarm"
    found = figures(watching)
    assert found["alarms"] == counted(watching)["drift_alarms_total"] == 2
    assert found["p_value"] is not None
    assert 0 < found["p_value"] <= 50 / 5000 == found["threshold"]
    assert found["evidence"] == pytest.approx(math.log(0.5 / math.sqrt(found["p_value"])))


def test_an_alarm_stays_for_as_many_windows_as_stated() -> None:
    """After the last window that raised one, so many others have to pass."""
    watching = fitted("alibi_ks", **WINDOW, hold=2)
    states = []
    for rows in (MADE.rows[:50], shifted(MADE.rows)[:50], MADE.rows[50:100], MADE.rows[100:150], MADE.rows[150:200]):
        show(watching, rows)
        states.append(watching.state())
    assert states == ["ok", "alarm", "alarm", "ok", "ok"]


def test_univariate_tests_name_the_columns_that_drift() -> None:
    """One moved column, a category and missing values are named, with corrected p-values; other columns are not."""
    made = example("tabular", count=600)
    rows = take(made.rows, torch.arange(500))
    rows.x[:, 0] += 1
    rows.x[:250, 1] = torch.nan
    for kind, streams in (
        ("alibi_tabular", {"column:height", "column:weight"}),
        ("alibi_ks", {"column:height", "column:weight"}),
        ("alibi_cvm", {"column:height", "column:weight"}),
    ):
        watching = fitted(kind, made, window=500, on="inputs")
        show(watching, rows, made)
        assert {s.labels["stream"] for s in watching.report() if s.labels} == streams, kind
    rows.x[:, 3] = 0.0
    watching = fitted("alibi_chi2", made, window=500, on="inputs")
    show(watching, rows, made)
    assert [s.labels for s in watching.report() if s.labels] == [{"stream": "column:colour"}]


def test_spot_the_diff_names_the_difference() -> None:
    """The column that moved most leads the list, with the sign of its move."""
    made = example("tabular", count=600)
    rows = take(made.rows, torch.arange(500))
    rows.x[:, 1] -= 3
    watching = fitted("alibi_spot_the_diff", made, window=500, on="inputs", epochs=30)
    show(watching, rows, made)
    first = next(s for s in watching.report() if s.name == "difference")
    assert first.labels == {"stream": "column:weight"}
    assert first.value is not None
    assert first.value < 0
    names = [watching._stream(i) for i in range(11)]
    assert names == [*(f"column:{n}" for n in ("height", "weight", "age") * 2), *["column:colour"] * 5]


def test_context_explains_a_drift_away() -> None:
    """Drift that a change of context explains is none to the context-aware test, and is drift to the plain test."""
    made = example("tabular", count=600)
    assert made.rows.output is not None
    chosen = (made.rows.x[:, 0] > 0.5).nonzero()[:, 0][:100]
    rows = take(made.rows, chosen)
    common = {"window": 100, "average_run_length": 10_000, "reference_rows": 150, "on": "inputs"}
    plain = fitted("alibi_mmd", made, **common)
    aware = fitted("alibi_context_mmd", made, **common, context={"column": "height"})
    for watching in (plain, aware):
        show(watching, rows, made)
    assert plain.state() == "alarm"
    assert aware.state() == "ok"
    coloured = fitted(
        "alibi_context_mmd", made, **{**common, "window": 20, "average_run_length": 400}, context={"column": "colour"}
    )
    show(coloured, made.rows[:20], made)
    assert counted(coloured)["tested"] == 1


@pytest.mark.parametrize("kind", ONLINE_KINDS)
def test_an_online_test_alarms_on_shifted_rows_again_and_again(kind: str) -> None:
    """The test starts again after an alarm: few alarms on clean rows, many on shifted ones; the last are kept."""
    watching = fitted(kind, **ONLINE)
    assert watching.state() == "insufficient_data"
    show(watching, MADE.rows[:200])
    clean = counted(watching)["drift_alarms_total"]
    assert clean <= 8
    show(watching, shifted(MADE.rows)[:200])
    assert counted(watching)["drift_alarms_total"] - clean >= 8
    assert watching.state() == "alarm"
    assert figures(watching)["average_run_length"] == 80
    assert counted(watching)["tested"] == 40


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind == QUICK_ONLINE else [pytest.mark.slow]) for kind in ONLINE_KINDS]
)
def test_an_online_test_is_put_together_again_exactly(kind: str, tmp_path: Path) -> None:
    """From its tensors, window after window, it says what one detector says that was never taken apart."""
    watching = fitted(kind, **ONLINE)
    rows = torch.cat([MADE.outcome(part).output.features for part in (MADE.rows[:80], shifted(MADE.rows)[:40])]).numpy()
    task, arrays = watching._task(), dict(watching._arrays(rows))
    whole = watching._work("watch", arrays).run()
    state: dict[str, Any] = {}
    alarms = []
    for start in range(0, len(rows), 10):
        found = watching._work("watch", {**arrays, **state, "window": rows[start : start + 10]}).run()
        state = {name: value for name, value in found.items() if name.startswith("state.")}
        alarms += [start + place for place in found["alarms"].tolist()]
    assert alarms == whole["alarms"].tolist() != []
    assert found["statistic"] == pytest.approx(float(whole["statistic"]), nan_ok=True)
    configuring_seed = monitor(kind, **ONLINE)._task()["seed"]
    (tmp_path / "task.json").write_text(json.dumps({"task": task, "configuring_seed": configuring_seed}))
    np.savez(tmp_path / "arrays.npz", allow_pickle=False, **arrays)
    command = [alibi_python(), "-W", "ignore", ROOT / "tests" / "support" / "online_scores.py", ROOT, tmp_path]
    told = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    original, restored = told["thresholds"]
    if kind != "alibi_cvm_online":  # its thresholds come from numpy's generator, its scores from the rows alone
        assert original == restored
    original, restored = told["scores"]
    assert restored == pytest.approx(original, rel=1e-5)  # another memory layout, another last bit


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind == QUICK_ONLINE else [pytest.mark.slow]) for kind in ONLINE_KINDS]
)
def test_an_online_test_does_not_grow(kind: str) -> None:
    """The test's state is as large after hundreds of rows as after a few windows."""
    watching = fitted(kind, **{**ONLINE, "on": "logits"})
    sizes = []
    for start in range(0, 250, 10):
        show(watching, MADE.rows[start : start + 10])
        sizes.append(sum(value.nbytes for value in watching._arrays(np.zeros((10, 3), np.float32)).values()))
    assert max(sizes[12:]) <= max(sizes[:12])


def test_an_online_test_may_look_at_some_rows_alone() -> None:
    """The test sees one row in `every`, however rows are batched, and the run length counts all rows."""
    watching = monitor("alibi_cvm_online", **{**ONLINE, "every": 7})
    seen = []
    for start in range(0, 250, 9):
        seen += watching._shown(np.arange(start, min(start + 9, 250))[:, None]).flatten().tolist()
    assert seen == list(range(0, 250, 7))
    assert figures(watching)["average_run_length"] == 560


def one_number(rng: np.random.Generator, count: int) -> tuple[Batch, Result]:
    """Make rows whose one feature is noise."""
    drawn = torch.from_numpy(rng.normal(size=(count, 1)).astype(np.float32))
    batch = Batch(torch.zeros(count, 4), output=ModelOutput(torch.zeros(count, 3), drawn))
    outcome = MADE.outcome(take(MADE.rows, torch.zeros(count, dtype=torch.int64)))
    assert batch.output is not None
    return batch, replace(outcome, output=batch.output)


def test_the_run_length_is_what_was_asked_for() -> None:
    """Over references and windows, overlapping ones too, there is a false alarm in as many rows as stated, or more."""
    rng = np.random.default_rng(0)
    for every in (None, 25):
        rows = alarms = 0
        for _ in range(40):
            watching = monitor("alibi_ks", window=50, every=every, average_run_length=500)
            batch, outcome = one_number(rng, 300)
            watching.fit(replace(MADE.reference, batch=batch, y=None), outcome)
            watching.observe(*one_number(rng, 500))
            rows += 500
            alarms += int(counted(watching)["drift_alarms_total"])
        # The expected number is 40; the windows share references and rows, so its deviation is above the binomial's.
        assert rows == 20_000
        assert 20 <= alarms <= 58, alarms


FAR = np.full((50, 8), 1e6, np.float32) + np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)


@pytest.mark.parametrize("kind", ["alibi_mmd", pytest.param("alibi_lsdd", marks=pytest.mark.slow)])
def test_permutation_p_values_are_never_zero(kind: str) -> None:
    """However far the window is, the observed order counts as one of those drawn."""
    watching = fitted(kind, **WINDOW, permutations=199)
    assert float(watching._work("test", watching._arrays(FAR)).run()["p_value"]) == 1 / 200


@pytest.mark.parametrize("kind", ["alibi_ks", pytest.param("alibi_classifier", marks=pytest.mark.slow)])
def test_p_values_of_a_far_window_are_small_and_not_zero(kind: str) -> None:
    """A p-value that is computed, and not counted, does not vanish either."""
    watching = fitted(kind, **WINDOW)
    assert 0 < float(watching._work("test", watching._arrays(FAR)).run()["p_value"]) < 1e-6


@pytest.mark.parametrize("on", ["inputs", pytest.param("features", marks=pytest.mark.slow)])
def test_strange_rows_are_tested_too(on: str) -> None:
    """Infinite, huge and missing numbers give a p-value like others, and warn of nothing."""
    watching = fitted("alibi_mmd", **WINDOW, on=on)
    rows = MADE.rows
    for row, value in enumerate((math.nan, math.inf, -math.inf, 1e30)):
        rows = with_strange_row(rows, row, value)
    show(watching, rows[:50])
    assert counted(watching)["tested"] == 1


def test_the_same_rows_give_the_same_figures_and_disturb_no_generator() -> None:
    """Every window has a seed of its own; the global generators, which alibi-detect draws from, are put back."""
    first, second = (fitted("alibi_classifier", **WINDOW, epochs=1) for _ in range(2))
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the generator in question
    show(first, MADE.rows)
    drawn = torch.rand(1), np.random.random()  # noqa: NPY002
    show(second, MADE.rows)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    assert (torch.rand(1), np.random.random()) == drawn  # noqa: NPY002
    assert first.report() == second.report()
    other = fitted("alibi_classifier", **WINDOW, epochs=1, seed=1)
    show(other, MADE.rows)
    assert other.report() != first.report()


def test_work_is_left_to_somebody_else() -> None:
    """A deferred monitor only gathers; untaken work is bounded and counted, and lost windows show in the state."""
    watching = fitted("alibi_ks", **WINDOW)
    watching.defer()
    show(watching, MADE.rows)
    assert watching.waiting == 2
    assert counted(watching)["dropped"] == 3
    work = watching.pending()
    assert isinstance(work, Work)
    watching.settle(work.run())
    assert (watching.state(), watching.waiting) == ("ok", 1)
    for _ in range(3):
        watching.settle(None)
    assert watching.state() == "insufficient_data"
    assert counted(watching)["dropped"] == 6
    watching.settle({"p_value": np.asarray(math.nan), "statistic": np.asarray(0.0)})
    assert counted(watching)["dropped"] == 7
    assert watching.pending() is not None
    assert watching.pending() is None
    online = monitor("alibi_cvm_online", **ONLINE)
    online.settle(None)
    assert figures(online)["windows_dropped"] == 1


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (
            {"average_run_length": 900},
            "average_run_length: 900 rows are too few for a test every 500 rows: at least 1000",
        ),
        ({"permutations": 100}, "permutations: 100 cannot give a p-value of 0.005, the level of a test; at least 199"),
        ({"every": 1}, "average_run_length: a level of 1e-05 would take 199999 permutations a window; raise `every`"),
        ({"on": "inputs"}, "the monitor 'drift' keeps rows of the reference in the bundle: allow it with"),
        ({"kind": "alibi_tabular"}, "the monitor 'drift' keeps rows of the reference in the bundle: allow it with"),
        (
            {"kind": "alibi_context_mmd", "context": {"column": "age"}},
            "the monitor 'drift' keeps rows of the reference in the bundle: allow it with",
        ),
        ({"windows": 3}, "unknown key"),
    ],
)
def test_mistakes_in_a_config(params: dict[str, Any], sentence: str) -> None:
    """A contradiction is refused in one sentence, with the number or key that would do."""
    document = tiny_models.document("tabular", monitors=[{"name": "drift", "kind": "alibi_mmd", **params}])
    with pytest.raises(Mistake, match=re.escape(sentence)):
        parse(document)


@pytest.mark.parametrize(
    ("kind", "params", "made", "sentence"),
    [
        ("alibi_tabular", {}, example("image"), "on: alibi_tabular compares columns, and the input is of kind image"),
        ("alibi_chi2", {}, example("tensor", "regression"), "on: a regression predicts no class"),
        ("alibi_context_mmd", {"context": {"column": "size"}}, MADE, "context.column: no column 'size'; there are"),
        ("alibi_mmd", {}, example("tensor", count=40), "alibi_mmd needs at least 50 calibration rows, there are 40"),
        ("alibi_mmd_online", {}, example("tensor", count=100), "a window of 50 needs more than 150 reference rows"),
    ],
)
def test_monitors_that_do_not_fit(kind: str, params: dict[str, Any], made: Example, sentence: str) -> None:
    """A monitor that does not fit the model or the reference is refused at fit, with what would do."""
    with pytest.raises(ValueError, match=re.escape(sentence)):
        fitted(kind, made, **params)


def test_no_column_to_compare() -> None:
    """A table of numbers alone has no categories to compare."""
    columns = MADE.context.schema.columns[:3]
    schema = MADE.context.schema.model_copy(update={"columns": columns, "shape": (3,)})
    with pytest.raises(ValueError, match="alibi_chi2 compares categories, and no column of the inputs is one"):
        monitor("alibi_chi2", replace(MADE.context, schema=schema), on="inputs")


def test_a_test_that_cannot_be_computed_is_told_at_fit() -> None:
    """Features that never vary have no density to compare."""
    still = replace(MADE.calibration, output=ModelOutput(torch.zeros(250, 3), torch.zeros(250, 8)))
    outcome = MADE.outcome(still)
    with pytest.raises(ValueError, match="alibi_lsdd cannot be computed on the reference: no column of it varies"):
        monitor("alibi_lsdd", **WINDOW).fit(replace(MADE.reference, batch=still, y=None), outcome)


def test_a_bundle_holds_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Fitted with a word about the licence, saved as tensors, and loaded to say the same of the same rows."""
    params = [
        {"name": "drift", "kind": "alibi_ks", **WINDOW},
        {"name": "online", "kind": "alibi_mmd_online", **ONLINE},
        {"name": "inputs", "kind": "alibi_tabular", **WINDOW},
    ]
    done = tiny_models.fitted("tabular", monitors=params, store_reference_rows=True)
    assert done.notices.warnings.count(LICENCE) == 1
    assert LICENCE not in tiny_models.fitted("tabular").notices.warnings
    done.bundle.save(tmp_path / "bundle")
    loaded = Bundle.load(tmp_path / "bundle")
    batch = Batch(tiny_models.inputs("tabular", 120, 5))
    with torch.no_grad(), caplog.at_level(logging.ERROR):
        outcome = done.bundle.pipeline()(batch)
        for before, after in zip(done.bundle.monitors, loaded.monitors, strict=True):
            before.observe(batch, outcome)
            after.observe(batch, outcome)
            assert not after.name.startswith(("drift", "online", "inputs")) or counted(after)["tested"] >= 2
            assert before.report() == after.report()
    assert {file.suffix for file in (tmp_path / "bundle").iterdir()} == {".json", ".safetensors"}


def test_a_monitor_of_clean_rows_gathers_neither_flagged_rows_nor_flagged_reference_rows() -> None:
    """With `include: clean` flagged rows fill no window, and the reference is drawn from clean rows."""
    outcome = MADE.outcome(MADE.calibration)
    flagged = torch.arange(len(MADE.calibration)) % 2 == 0
    verdict = replace(outcome.verdict, flagged=flagged[None].expand_as(outcome.verdict.flagged).clone())
    outcome = replace(outcome, verdict=verdict)
    held_out = replace(MADE.reference, batch=MADE.calibration, y=None)
    watching = monitor("alibi_ks", **{**WINDOW, "include": "clean"}).fit(held_out, outcome)
    assert len(watching.reference) == int((~flagged & (verdict.action == 0)).sum())
    watching.observe(MADE.calibration, outcome)
    assert watching.windows.rows == len(watching.reference)
