"""Replay of a stream: every alarm at its exact row, for every monitor, and the output and plots of it."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import yaml
from alarming_monitors import Bell, BellParams, Forgetful, Lamp, excess
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from guards import Batch, Bundle, Rows
from guards.cli.replay import run, show
from guards.cli.replay_plots import draw
from guards.cli.replay_tables import pivot
from guards.monitors.base import Context, Statistic
from guards.monitors.bins import Bins
from guards.monitors.groups.monitor import Groups
from guards.replay import Alarm, replay

Guardhouse = Callable[..., tuple[int, str, str]]
ROWS = 700
"""Two whole chunks and a part of one."""


def ringing(bundle: Bundle, kind: type[Bell] = Bell, **params: Any) -> Bundle:
    """Give a bundle whose only monitor is a bell."""
    context = Context(bundle.schema, bundle.classes, tuple(guard.name for guard in bundle.config.guards))
    return replace(bundle, monitors=(kind(BellParams(name="bell", **params), context),))


def expected(rows: Rows, limit: float, epoch: int) -> list[Alarm]:
    """Work the bell's alarms out, row by row and column by column."""
    alarms: list[Alarm] = []
    for column, values in zip(tiny_models.COLUMNS, excess(rows.x).T.tolist(), strict=True):
        evidence = 0.0
        for row, value in enumerate(values):
            evidence = max(0.0, evidence + value)
            if (row + 1) % epoch == 0 and evidence >= limit:
                alarms.append({"monitor": "bell", "stream": f"column:{column}", "row": row})
                evidence = 0.0
    return alarms


def by_row(alarms: list[Alarm]) -> list[tuple[int, str]]:
    return sorted((alarm["row"], alarm["stream"] or "") for alarm in alarms)


@settings(max_examples=12, deadline=None)
@given(limit=st.floats(1, 40), epoch=st.sampled_from([1, 7, 50, 256]), samples=st.integers(0, 300))
def test_alarms_are_at_their_rows(limit: float, epoch: int, samples: int) -> None:
    """However often and in however many streams at once, each alarm is found at the row, or the epoch's last, alone."""
    bundle, rows = (
        ringing(tiny_models.fitted("tabular").bundle, limit=limit, epoch=epoch),
        tiny_models.rows("tabular", ROWS, 3),
    )
    found, _ = replay(bundle, rows, samples=samples)
    assert found["rows"] == ROWS
    assert by_row(found["alarms"]) == by_row(expected(rows, limit, epoch))
    assert [alarm["row"] for alarm in found["alarms"]] == sorted(alarm["row"] for alarm in found["alarms"])
    assert [statistic["n"] for statistic in found["monitors"]["bell"]["statistics"][:4]] == [ROWS] * 4


def test_a_monitor_without_snapshots_is_shown_single_rows(table: Bundle) -> None:
    """A monitor without snapshots gets one row at a time, and the same alarms are found."""
    rows = tiny_models.rows("tabular", ROWS, 3)
    bell, forgetful = ringing(table, limit=30), ringing(table, Forgetful, limit=30)
    assert replay(forgetful, rows)[0] == replay(bell, rows)[0]
    calls = [bundle.monitors[0].calls for bundle in (bell, forgetful)]  # type: ignore[attr-defined] # a bell's own
    assert calls[1] == ROWS
    assert calls[0] < ROWS / 3


def test_a_state_that_comes_and_goes_is_an_alarm_each_time(table: Bundle) -> None:
    """Without a counter, an alarm is a state's becoming one, at that row, in no stream."""
    rows = tiny_models.rows("tabular", ROWS, 3)
    evidence, on, expected_rows = np.zeros(4), False, []
    for row, values in enumerate(excess(rows.x)):
        evidence = (evidence + values).clip(0)
        above = bool((evidence >= 5).any())
        expected_rows += [row] if above and not on else []
        on = above
        evidence[evidence >= 10] = 0
    found, _ = replay(ringing(table, Lamp, limit=10), rows)
    assert len(expected_rows) > 3
    assert found["alarms"] == [{"monitor": "bell", "stream": None, "row": row} for row in expected_rows]


def test_a_monitor_that_cannot_go_back_is_found_out(table: Bundle) -> None:
    """A snapshot that does not bring a monitor back would move alarms to other rows: it is refused by name."""

    class Stubborn(Bell):
        def restore(self, state: object) -> None:
            pass

    with pytest.raises(RuntimeError, match="monitor bell: with its own snapshot restored, it counts differently"):
        replay(ringing(table, Stubborn, limit=5), tiny_models.rows("tabular", 300, 3))


def test_the_same_rows_are_counted_as_when_served(table: Bundle) -> None:
    """Streams and groups count what they count when shown the rows at once, the groups of the file included."""
    rows = tiny_models.rows("tabular", ROWS, 3)
    bundle = tiny_models.fitted("tabular").bundle
    found, trace = replay(bundle, rows, samples=10)
    assert found["alarms"] == []
    bins, groups, _ = bundle.monitors
    assert isinstance(bins, Bins)
    assert isinstance(groups, Groups)
    assert bins.counts.sum() == ROWS * len(bins.streams.bins)
    told = [s for s in groups.series() if s.metric == "group_predictions_total"]
    by_group = {level: sum(s.value for s in told if s.labels["group"] == level) for level in groups.levels}
    named = rows.groups["region"]
    assert by_group == {"north": named.count("north"), "south": named.count("south"), "other": 0, "unknown": 0}
    outcome = table.pipeline()(Batch(rows.x))
    unanswered = sum(s.value for s in told if s.labels["label"] == "none")
    assert unanswered == int((outcome.verdict.action >= 2).sum())
    assert found["monitors"]["region"]["state"] == "ok"
    labelled = sum(s.value for s in groups.series() if s.metric == "group_outcomes_total")
    assert labelled == ROWS
    assert trace.rows[-1] == ROWS
    assert 10 <= len(trace.rows) <= 14


def test_rows_without_groups_are_unknown() -> None:
    """A file need not have the groups."""
    bundle = tiny_models.fitted("tabular").bundle
    replay(bundle, Rows(tiny_models.inputs("tabular", 20, 3)))
    told = [s for s in bundle.monitors[1].series() if s.metric == "group_predictions_total"]
    assert {s.labels["group"] for s in told if s.value} == {"unknown"}
    assert sum(s.value for s in told) == 20


# Drawn


def test_what_is_drawn() -> None:
    """Evidence is a map of all streams; what only counts the rows, and what was never known, is not drawn."""
    reports = [
        [
            *(Statistic("evidence", float(i) if at else None, None, 1, {"stream": f"${i}"}) for i in range(9)),
            Statistic("threshold", 5.0),
            Statistic("rows", at + 1.0),
            Statistic("psi", 0.1 * at, (0.0, 0.2), 1, {"stream": "$1"}),
            Statistic("rate", None),
        ]
        for at in range(3)
    ]
    alarms: list[Alarm] = [
        {"monitor": "m", "stream": "$3", "row": 2},
        {"monitor": "m", "stream": "$3", "row": 1},
        {"monitor": "m", "stream": "gone", "row": 1},
    ]
    figures = draw([1, 2, 3], reports, alarms)
    assert set(figures) == {"evidence", "psi"}
    lines, whole = figures["evidence"].axes[:2]
    named = [label.get_text() for label in whole.get_yticklabels()]
    assert named[:3] == [r"\$3", "gone", r"\$8"]
    assert len(named) == 10
    assert "6 streams that alarmed first" in lines.get_title(loc="left")


def test_a_replay_of_one_row_is_drawn(table: Bundle, tmp_path: Path) -> None:
    """The shortest stream has its page too."""
    np.savez(tmp_path / "one.npz", x=tiny_models.inputs("tabular", 1, 3).numpy())
    run(ringing(table), tmp_path / "one.npz", tmp_path / "out", Console(file=io.StringIO()))
    assert (tmp_path / "out" / "bell.evidence.png").is_file()


def test_report_as_a_table() -> None:
    """One line for what the statistics are of, one column for each of their names."""
    columns, lines = pivot(
        {
            "kind": "k",
            "state": "ok",
            "statistics": [
                {"name": "evidence", "value": 1.5, "interval": None, "n": 7, "labels": {"stream": "a"}},
                {"name": "psi", "value": 0.25, "interval": [0.0, None], "n": 7, "labels": {"stream": "a"}},
                {"name": "psi", "value": None, "interval": None, "n": 0, "labels": {"stream": "b"}},
            ],
        }
    )
    assert columns == ["of", "evidence", "psi", "n"]
    assert lines == [["a", "1.5", "0.25 [0, -]", "7"], ["b", "", "-", "0"]]


# The command


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a bundle and a stream; every bundle that is loaded has one more monitor, a bell."""
    tiny_models.fitted("tabular").bundle.save(tmp_path / "b")
    rows = tiny_models.rows("tabular", ROWS, 3)
    assert rows.y is not None
    np.savez(tmp_path / "stream.npz", x=rows.x.numpy(), y=rows.y.numpy(), group_region=np.array(rows.groups["region"]))
    tiny_models.write_csv(tmp_path / "stream.csv", rows)
    load = Bundle.load

    def with_bell(path: Path, **more: Any) -> Bundle:
        loaded = load(path, **more)
        return replace(loaded, monitors=(*loaded.monitors, *ringing(loaded, limit=30).monitors))

    monkeypatch.setattr(Bundle, "load", with_bell)
    return tmp_path


def test_json_is_all_there_is_on_standard_output(project: Path, guardhouse: Guardhouse) -> None:
    """`--json` prints one document with the contract's keys, from an .npz and from the same rows in a table."""
    status, out, err = guardhouse("replay", project / "b", "--stream", project / "stream.npz", "--json")
    document = json.loads(out)
    assert (status, err) == (0, "")
    assert document["rows"] == ROWS
    assert by_row(document["alarms"]) == by_row(expected(tiny_models.rows("tabular", ROWS, 3), 30, 1))
    assert set(document["alarms"][0]) == {"monitor", "stream", "row"}
    assert {name: told["kind"] for name, told in document["monitors"].items()} == {
        "streams": "bins",
        "region": "groups",
        "accuracy": "accuracy",
        "bell": "bell",
    }
    _, again, _ = guardhouse("replay", project / "b", "--stream", project / "stream.csv", "--json")
    table = json.loads(again)
    assert table["alarms"] == document["alarms"]
    assert table["monitors"]["region"] == document["monitors"]["region"]


def test_a_replay_is_printed(project: Path, guardhouse: Guardhouse) -> None:
    """Without --json the first and last alarms of each stream, and every monitor's report."""
    status, out, _ = guardhouse("replay", project / "b", "--stream", project / "stream.npz")
    first = expected(tiny_models.rows("tabular", ROWS, 3), 30, 1)
    assert status == 0
    for word in (
        f"{len(first)} alarms in {ROWS} rows",
        "column:colour",
        str(first[0]["row"]),
        "bell (bell): alarm",
        "region (groups): ok",
    ):
        assert word in out
    console = Console(record=True, width=200, file=io.StringIO())
    quiet = replay(tiny_models.fitted("tabular").bundle, tiny_models.rows("tabular", 5, 3))[0]
    show(quiet, console)
    assert "no alarm in 5 rows" in console.export_text()


def test_long_reports_are_cut(table: Bundle) -> None:
    """A table for people ends somewhere, and says what was left out."""
    found, _ = replay(ringing(table), tiny_models.rows("tabular", 5, 3))
    statistic = found["monitors"]["bell"]["statistics"][0]
    found["monitors"]["bell"]["statistics"] = [{**statistic, "labels": {"stream": f"[red]{i}"}} for i in range(130)]
    console = Console(record=True, width=200, file=io.StringIO())
    show(found, console)
    text = console.export_text()
    assert "[red]99" in text
    assert "[red]100" not in text
    assert "... and 30 more, which --json lists" in text


def test_plots_and_page(project: Path, guardhouse: Guardhouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--out` gets a picture of the evidence, the document, and one page that needs no other file."""
    monkeypatch.setattr("guards.cli.replay_plots.SAMPLES", 8)  # a report of groups takes a tenth of a second
    out = project / "deep" / "er"
    status, _, err = guardhouse("replay", project / "b", "--stream", project / "stream.npz", "--out", out)
    assert status == 0, err
    names = {path.name for path in out.iterdir()}
    assert names >= {"bell.evidence.png", "region.selection_rate.png", "replay.html", "replay.json"}
    with Image.open(out / "bell.evidence.png") as image:
        assert image.width > 1000
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 100
    page = (out / "replay.html").read_text()
    assert page.count("data:image/png;base64,") == len(names) - 2
    assert "column:colour" in page
    assert not [word for word in ('src="http', "href=", "<script") if word in page]
    assert json.loads((out / "replay.json").read_text())["rows"] == ROWS


def test_deploy_time_changes(project: Path, guardhouse: Guardhouse) -> None:
    """A config beside the bundle may change what a server's may."""
    (project / "shadow.yaml").write_text(yaml.safe_dump(tiny_models.document("tabular", mode="shadow")))
    arguments = ["replay", project / "b", "--stream", project / "stream.npz", "--json"]
    _, enforced, _ = guardhouse(*arguments)
    status, shadow, err = guardhouse(*arguments, "--config", project / "shadow.yaml")
    assert status == 0, err
    answered = [
        sum(s["n"] for s in json.loads(text)["monitors"]["accuracy"]["statistics"] if s["name"] == "expected_accuracy")
        for text in (enforced, shadow)
    ]
    assert answered[0] < answered[1] == ROWS


def test_mistakes(project: Path, guardhouse: Guardhouse) -> None:
    """A missing file, wrong columns, no rows, and a folder that is a file end with status 2 and one sentence."""
    (project / "empty.csv").write_text("length,mass,age,colour\n")
    (project / "other.csv").write_text("length,mass,age\n1,2,3\n")
    np.savez(project / "none.npz", x=np.zeros((0, 4)))
    np.savez(project / "wide.npz", x=np.zeros((3, 9)))
    for stream, word in (
        ("nowhere.npz", "no such file"),
        ("nowhere.csv", "no such file"),
        ("empty.csv", "no rows"),
        ("none.npz", "no rows"),
        ("other.csv", "no column 'colour'"),
        ("wide.npz", "shape [9]"),
    ):
        status, out, err = guardhouse("replay", project / "b", "--stream", project / stream, "--json")
        assert (status, out) == (2, "")
        assert err.count("\n") == 1
        assert word in err
    out_folder = ["--out", project / "empty.csv"]
    status, _, err = guardhouse("replay", project / "b", "--stream", project / "stream.npz", *out_folder)
    assert status == 2
    assert err.count("\n") == 1
    assert "choose another folder" in err
