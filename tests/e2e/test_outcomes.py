"""Statistics of outcomes over HTTP: whose they are, in which unit, and how soon a fall is reported."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import example_folders
import pytest
from feedback_totals import NO, YES, feedback
from gateways import fit_all
from waiting import until

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

VALUE_MONITORS = "/v1/models/value/monitors"


def write(folder: Path, **changes: Any) -> Path:
    """Write the regression model of a folder, with rows of its own noise, and give its config."""
    config = example_folders.write_values(folder, server={}, **changes)
    noise = float(folder.name.partition("-")[2])
    for name in ("train.csv", "heldout.csv"):
        head, *lines = (folder / name).read_text().splitlines()
        moved = [
            (row, float(value) + noise * (i % 2 * 2 - 1))
            for i, (row, _, value) in enumerate(line.rpartition(",") for line in lines)
        ]
        (folder / name).write_text("\n".join([head, *(f"{row},{value}" for row, value in moved)]) + "\n")
    return config


def statistics(gateway: "Gateway", path: str, monitor: str, **query: str) -> dict[str, Any]:
    """Ask for the monitors, and give one monitor's statistics without labels by their name."""
    response = gateway.client.get(path, params=query)
    assert response.status_code == 200, response.text
    return {s["name"]: s for s in response.json()["monitors"][monitor]["statistics"] if not s["labels"]}


def test_a_refit_moves_no_figure_of_the_bundle_before(bundles: "Bundles", tmp_path: Path) -> None:
    """A mean error is the same after a refit under the same version; the new bundle begins without rows or alarm."""
    configs = [write(bundles.folder / noise) for noise in ("values-0", "values-40")]
    fit_all({config: config.parent / "bundle" for config in configs}, PYTHONPATH=bundles.python_path)
    state = {"GUARDHOUSE_STATE": str(tmp_path / "state")}
    gateway = bundles.serve("values-0", **state).wait_ready()
    rows = [[1 + i / 100, 1, 1] for i in range(60)]
    ids = [f"r-{i}" for i in range(60)]
    predicted = gateway.predict(rows, ids=ids)
    outcomes = [{"id": one["id"], "label": one["value"] - 3.961 - i % 5} for i, one in enumerate(predicted)]
    body = {"outcomes": outcomes[:50]}
    assert gateway.client.post("/v1/models/value:feedback", json=body).json()["accepted"] == 50
    before = statistics(gateway, VALUE_MONITORS, "accuracy")["mean_error"]
    assert before["value"] == pytest.approx(3.961 + 2, abs=1e-4)
    gateway.stop()

    gateway = bundles.serve("values-40", **state).wait_ready()
    document = gateway.client.get(VALUE_MONITORS).json()
    assert (document["of"], document["version"]) == ("bundle", "1")
    assert document["monitors"]["accuracy"]["state"] == "insufficient_data"
    fresh = statistics(gateway, VALUE_MONITORS, "accuracy")
    assert (fresh["mean_error"]["n"], fresh["flagged_share"]["n"]) == (0, 0)
    assert statistics(gateway, VALUE_MONITORS, "accuracy", of="version")["mean_error"] == before
    late = {"outcomes": outcomes[50:]}
    assert gateway.client.post("/v1/models/value:feedback", json=late).json()["accepted"] == 10
    assert statistics(gateway, VALUE_MONITORS, "accuracy")["mean_error"]["n"] == 0
    for scope in ("version", "lifetime"):
        whole = statistics(gateway, VALUE_MONITORS, "accuracy", of=scope)["mean_error"]
        assert (whole["n"], whole["value"]) == (60, pytest.approx(3.961 + 2, abs=1e-4))
    gateway.predict(rows[:1])
    document = gateway.client.get(VALUE_MONITORS, params={"of": "version"}).json()
    assert (document["of"], len(document["bundles"])) == ("version", 2)
    for query in ("of=all", "of=", "off=bundle", "of=bundle&of=version", "x"):
        assert gateway.client.get(f"{VALUE_MONITORS}?{query}").status_code == 400
    gateway.stop()


@pytest.fixture(scope="module")
def gateway(bundles: "Bundles", ledger: str) -> Iterator["Gateway"]:
    """Serve a classifier."""
    gateway = bundles.serve(ledger).wait_ready()
    yield gateway
    gateway.stop()


def test_a_fall_reaches_metrics_and_log_by_itself(gateway: "Gateway") -> None:
    """After many right labels and some wrong ones, the gauge is in alarm and the log has one line, without a report."""

    def label(start: int, rows: int, *, right: bool) -> None:
        ids = [f"fall-{i}" for i in range(start, start + rows)]
        gateway.predict([YES, NO] * (rows // 2), ids=ids)
        for which, label in ((ids[::2], "yes" if right else "no"), (ids[1::2], "no" if right else "yes")):
            feedback(gateway, which, label)

    def states() -> dict[str, float]:
        start = 'guardhouse_monitor_state{monitor="accuracy",state="'
        return {name[len(start) : -2]: value for name, value in gateway.metrics().items() if name.startswith(start)}

    for start in range(0, 4000, 1000):
        label(start, 1000, right=True)
    gateway.wait_for(lambda _: states()["ok"] + states()["warning"] == 1)
    label(4000, 400, right=False)
    gateway.wait_for(lambda _: states() == {"ok": 0, "warning": 0, "alarm": 1, "insufficient_data": 0})
    until(lambda: "monitor accuracy: from" in gateway.log(), 60)
    lines = [line for line in gateway.log().splitlines() if "monitor accuracy: from" in line and "to alarm" in line]
    assert len(lines) == 1
    assert "recent_accuracy_drop is " in lines[0]
    assert '"level": "warning"' in lines[0]
    recent = statistics(gateway, "/v1/models/loans/monitors", "accuracy")
    assert recent["recent_accuracy"]["n"] <= 2500
    assert recent["recent_accuracy"]["value"] < recent["realised_accuracy"]["value"]
