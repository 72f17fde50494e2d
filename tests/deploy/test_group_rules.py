"""The recording rules of groups against fairlearn, run by promtool over two replicas, one of which restarts."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import fairlearn.metrics as fl
import numpy as np
import pytest
import yaml
from sklearn.metrics import accuracy_score, precision_score

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "groups.rules.yaml"
PROMTOOL = shutil.which("promtool")
LEVELS, LABELS = ("a", "b", "c"), ("no", "yes")
HOURS, RESTART = 24, 13
RATES = {
    "selection_rate": fl.selection_rate,
    "true_positive_rate": fl.true_positive_rate,
    "false_positive_rate": fl.false_positive_rate,
    "positive_predictive_value": precision_score,
}
DIFFERENCES = {
    "demographic_parity_difference": fl.demographic_parity_difference,
    "demographic_parity_ratio": fl.demographic_parity_ratio,
    "equal_opportunity_difference": fl.equal_opportunity_difference,
    "equalized_odds_difference": fl.equalized_odds_difference,
}
pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
Cells = np.ndarray[Any, np.dtype[np.int64]]


def counts(seed: int) -> Cells:
    """Make up rows an hour by replica, group, predicted and actual label."""
    return np.random.default_rng(seed).integers(1, 40, (2, len(LEVELS), 2, 2))


def series(metric: str, an_hour: int, replica: int, **labels: str) -> dict[str, str]:
    """Write a counter that grows by so many rows an hour; the second replica starts anew in the middle."""
    hours = [hour if not replica or hour < RESTART else hour - RESTART + 1 for hour in range(HOURS + 1)]
    names = ",".join(f'{name}="{value}"' for name, value in {**labels, "job": "g", "instance": str(replica)}.items())
    return {"series": f"{metric}{{{names}}}", "values": " ".join(str(an_hour * hour) for hour in hours)}


def sample(value: float, **labels: str) -> dict[str, Any]:
    names = ",".join(f'{key}="{text}"' for key, text in {**labels, "job": "g", "attribute": "sex"}.items())
    return {"labels": f"{{{names}}}", "value": round(float(value), 6)}


def traffic(cells: Cells) -> dict[str, Any]:
    """Write the counters of a day."""
    inputs = []
    for replica, g, predicted, actual in np.ndindex(*cells.shape):
        labels = {"attribute": "sex", "group": LEVELS[g], "predicted": LABELS[predicted], "actual": LABELS[actual]}
        inputs.append(
            series("guardhouse_group_outcomes_total", cells[replica, g, predicted, actual], replica, **labels)
        )
    answered = cells.sum(3)
    for replica, g, label in np.ndindex(*answered.shape):
        labels = {"attribute": "sex", "group": LEVELS[g], "label": LABELS[label]}
        inputs.append(series("guardhouse_group_predictions_total", answered[replica, g, label], replica, **labels))
    for replica, group in ((0, "other"), (1, "unknown")):  # never compared
        labels = {"attribute": "sex", "group": group, "label": "yes"}
        inputs.append(series("guardhouse_group_predictions_total", 500, replica, **labels))
    return {"interval": "1h", "input_series": inputs}


def scenario(cells: Cells, *, off: float = 0.0) -> dict[str, Any]:
    """Write a promtool test of which every expectation is fairlearn's, or ``off`` from it."""
    total = cells.sum(0)
    group, predicted, actual = (np.repeat(index.ravel(), total.ravel()) for index in np.indices(total.shape))
    frame = fl.MetricFrame(metrics=RATES, y_true=actual, y_pred=predicted, sensitive_features=group)
    tests = []
    for name in RATES:
        expected = [sample(frame.by_group[name][g] + off, group=LEVELS[g], label="yes") for g in range(len(LEVELS))]
        query = f'round(guardhouse:{name}:ratio1d{{label="yes",group!~"other|unknown"}}, 1e-6)'
        tests.append({"expr": query, "eval_time": "1d", "exp_samples": expected})
    right = fl.MetricFrame(metrics=accuracy_score, y_true=actual, y_pred=predicted, sensitive_features=group)
    expected = [sample(right.by_group[g], group=LEVELS[g]) for g in range(len(LEVELS))]
    tests.append({"expr": "round(guardhouse:group_accuracy:ratio1d, 1e-6)", "eval_time": "1d", "exp_samples": expected})
    for name, metric in DIFFERENCES.items():
        value = metric(actual, predicted, sensitive_features=group)
        query = f'round(guardhouse:{name}:1d{{label="yes"}}, 1e-6)'
        tests.append({"expr": query, "eval_time": "1d", "exp_samples": [sample(value, label="yes")]})
    return traffic(cells) | {"promql_expr_test": tests}


def promtool(folder: Path, *scenarios: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run rule tests."""
    order = [group["name"] for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]]
    document = {
        "rule_files": [str(RULES)], "evaluation_interval": "1h", "group_eval_order": order, "tests": list(scenarios),
    }  # fmt: skip
    path = folder / "groups.test.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return subprocess.run([str(PROMTOOL), "test", "rules", str(path)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("seed", range(3))
def test_rules_agree_with_fairlearn(seed: int, tmp_path: Path) -> None:
    """Rates, differences and ratios over two replicas, one restarted, are fairlearn's on the same rows."""
    done = promtool(tmp_path, scenario(counts(seed)))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_mutated_expectation_fails(tmp_path: Path) -> None:
    """An expectation that is off by a hundredth of a percent fails the test."""
    done = promtool(tmp_path, scenario(counts(0), off=1e-4))
    assert done.returncode != 0
    assert "selection_rate" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("lacking", "absent"),
    [
        ("positives", {"equal_opportunity_difference", "equalized_odds_difference"}),
        ("negatives", {"equalized_odds_difference"}),
        ("everything", set(DIFFERENCES)),
    ],
)
def test_what_one_group_lacks_is_not_compared(lacking: str, absent: set[str], tmp_path: Path) -> None:
    """If only one group has a rate, there is no difference and no ratio of it, and not one of 0 or 1."""
    cells = counts(0)[:, :2]
    cells[:, 1, :, {"positives": [1], "negatives": [0], "everything": [0, 1]}[lacking]] = 0
    asked = []
    for name in DIFFERENCES:
        query = f'count(guardhouse:{name}:1d{{label="yes"}})'
        expected = [] if name in absent else [{"labels": "{}", "value": 1}]
        asked.append({"expr": query, "eval_time": "1d", "exp_samples": expected})
    done = promtool(tmp_path, traffic(cells) | {"promql_expr_test": asked})
    assert done.returncode == 0, done.stdout + done.stderr


def alert(name: str, *firing: str) -> dict[str, Any]:
    alerts = [
        {"exp_labels": {"job": "g", "attribute": "sex", "label": label, "severity": "warning"}} for label in firing
    ]
    return {"alertname": name, "eval_time": "1d", "exp_alerts": alerts}


def alerted(cells: Cells, **firing: tuple[str, ...]) -> dict[str, Any]:
    tests = []
    for name, labels in firing.items():
        test = alert(name, *labels)
        for each in test["exp_alerts"]:
            each["exp_annotations"] = annotations(name, each["exp_labels"]["label"], cells)
        tests.append(test)
    return traffic(cells) | {"alert_rule_test": tests}


def annotations(name: str, label: str, cells: Cells) -> dict[str, str]:
    total, k = cells.sum(0), LABELS.index(label)
    url = f"https://github.com/guardhouse/guardhouse/blob/main/docs/runbook.md#{name.lower()}"
    if name == "GuardhouseLabelsDependOnDecision":
        return {
            "summary": f"sex: no label ever comes for rows predicted {label}",
            "description": (
                f"g predicted {label} for {HOURS * total[:, k].sum()} rows in a day, other rows got their labels, and "
                "none of these did: rates that need labels mislead."
            ),
            "runbook_url": url,
        }
    selection = "Selection" in name
    rates = total.sum(2)[:, k] / total.sum((1, 2)) if selection else total[:, k, k] / total[:, :, k].sum(1)
    apart = f"{100 * (rates.max() - rates.min()):.4g}%"
    told = (
        f"Over the last day two groups of sex got {label} from g at rates that differ by {apart} (limit 10% and four "
        "standard errors, 500 rows a group)."
        if selection
        else f"Over the last day g found {label} where it is the truth at rates that differ by {apart} between two "
        "groups of sex (limit 10% and four standard errors, 500 labelled rows a group)."
    )
    what = "selection rates" if selection else "true positive rates"
    return {"summary": f"sex: {what} of {label} differ by {apart}", "description": told, "runbook_url": url}


def test_alerts(tmp_path: Path) -> None:
    """Large differences of large groups alert; the same of small groups, and small ones of large groups, do not."""
    apart = np.array([[[[30, 10], [10, 30]], [[30, 10], [10, 30]], [[60, 15], [3, 2]]]] * 2)
    alike = np.array([[[[30, 10], [10, 30]], [[30, 10], [10, 30]], [[30, 10], [10, 28]]]] * 2)
    rare = np.array([[[[1, 0], [0, 1]], [[1, 0], [0, 1]], [[2, 0], [0, 0]]]] * 2)
    selection, rates = "GuardhouseSelectionRatesDiffer", "GuardhouseTruePositiveRatesDiffer"
    done = promtool(
        tmp_path,
        alerted(apart, **{selection: ("no", "yes"), rates: ("no", "yes")}),
        alerted(alike, **{selection: (), rates: (), "GuardhouseLabelsDependOnDecision": ()}),
        alerted(rare, **{selection: (), rates: ()}),
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_labels_that_never_come_alert(tmp_path: Path) -> None:
    """If no row that was predicted ``no`` ever gets a label, an alert fires."""
    cells = counts(3)
    made = traffic(cells)
    never = [s for s in made["input_series"] if 'predicted="no"' in s["series"]]
    for one in never:
        one["values"] = " ".join(["0"] * (HOURS + 1))
    test = alert("GuardhouseLabelsDependOnDecision", "no")
    test["exp_alerts"][0]["exp_annotations"] = annotations("GuardhouseLabelsDependOnDecision", "no", cells)
    done = promtool(tmp_path, {**made, "alert_rule_test": [test]})
    assert done.returncode == 0, done.stdout + done.stderr
