"""Every rule of deploy/prometheus has unit tests for promtool; these tests pass, and each of them can fail."""

import copy
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.telemetry.metrics.engine import P_VALUES
from service.telemetry.metrics.seat_counts import SECONDS, STAGE_SECONDS

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "deploy" / "prometheus").glob("*.rules.yaml"))
TESTS = sorted((Path(__file__).parent / "prometheus").glob("*.test.yaml"))
RUNBOOK = ROOT / "docs" / "runbook.md"
URL = "https://github.com/guardhouse/guardhouse/blob/main/docs/runbook.md#"
ELSEWHERE = {"drift.rules.yaml": "test_drift_rules.py", "groups.rules.yaml": "test_group_rules.py"}
"""Rules that are tested against scipy and fairlearn, in files of their own."""

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
Document = dict[str, Any]


@cache
def load(path: Path) -> Document:
    document: Document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def rules(kind: str, *, everywhere: bool = True) -> Iterator[Document]:
    """Give all rules of a kind, or those whose tests are beside this file."""
    for path in RULES:
        if everywhere or path.name not in ELSEWHERE:
            yield from (rule for group in load(path)["groups"] for rule in group["rules"] if kind in rule)


def identity(alert: Document) -> str:
    return " ".join([alert["alert"], *map(str, alert["labels"].values())])


def promtool(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", "test", "rules", path.name], cwd=path.parent, capture_output=True, text=True, check=False
    )


@needs_promtool
@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_promtool_accepts_the_rules(path: Path) -> None:
    """Prometheus' own linter has nothing to say of a rule file."""
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "duplicate" not in done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_rules_do_what_their_unit_tests_say(path: Path) -> None:
    """Figures and alerts over made-up scrapes are what the tests beside this file expect."""
    done = promtool(path)
    assert done.returncode == 0, done.stdout + done.stderr[-6000:]


@needs_promtool
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_every_altered_expectation_fails(path: Path, tmp_path: Path) -> None:
    """A figure that is off by a part in a thousand, a figure too many, an alert too few and one too many: all fail."""
    document = copy.deepcopy(load(path))
    altered = 0
    for test in document["tests"]:
        for expected in test.get("promql_expr_test", ()):
            samples = expected["exp_samples"]
            expected["exp_samples"] = samples or [{"labels": "{}", "value": 1}]
            if samples:
                samples[-1]["value"] = samples[-1]["value"] * 1.001 or 0.001
            altered += 1
        for expected in test.get("alert_rule_test", ()):
            expected["exp_alerts"] = expected["exp_alerts"][1:] if expected["exp_alerts"] else [{"exp_labels": {}}]
            altered += 1
    document["rule_files"] = [str((path.parent / rule_file).resolve()) for rule_file in document["rule_files"]]
    mutant = tmp_path / path.name
    mutant.write_text(yaml.safe_dump(document), encoding="utf-8")
    done = promtool(mutant)
    assert done.returncode != 0
    failed = re.findall(r"^    (?:expr: .*|alertname: .*), time: ", done.stderr, re.MULTILINE)
    assert len(failed) == altered, done.stderr[-6000:]


def expectations(kind: str) -> list[Document]:
    return [expected for path in TESTS for test in load(path)["tests"] for expected in test.get(kind, ())]


def test_every_record_is_expected_somewhere() -> None:
    """There is a unit test that wants a value of each recording rule."""
    expected = " ".join(each["expr"] for each in expectations("promql_expr_test") if each["exp_samples"])
    recorded = {rule["record"] for rule in rules("record", everywhere=False)}
    assert recorded
    assert recorded <= set(re.findall(r"[a-z_]+:[a-z0-9_:]+", expected))


def test_every_alert_fires_in_a_unit_test_and_holds_its_tongue_in_another() -> None:
    """There is a unit test in which each alert fires, at each of its severities, and one in which it does not."""
    fires, quiet = set(), set()
    for expected in expectations("alert_rule_test"):
        for alert in rules("alert", everywhere=False):
            if alert["alert"] == expected["alertname"]:
                firing = [a for a in expected["exp_alerts"] if alert["labels"].items() <= a["exp_labels"].items()]
                (fires if firing else quiet).add(identity(alert))
    named = set(map(identity, rules("alert", everywhere=False)))
    assert named
    assert fires == quiet == named
    for rule_file, module in ELSEWHERE.items():
        text = (Path(__file__).parent / module).read_text(encoding="utf-8")
        path = next(path for path in RULES if path.name == rule_file)
        assert all(
            rule["alert"] in text for group in load(path)["groups"] for rule in group["rules"] if "alert" in rule
        )


@pytest.mark.parametrize("alert", list(rules("alert")), ids=identity)
def test_every_alert_says_what_to_do(alert: Document) -> None:
    """An alert has a severity, names its job and its value, and points at a section of the runbook that is there."""
    assert alert["labels"]["severity"] in {"warning", "critical"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    told = alert["annotations"]["summary"] + alert["annotations"]["description"]
    assert "$labels.job" in told
    assert "$value" in told or alert["alert"] == "GuardhouseAbsent"  # which has nothing to count
    headings = re.findall(r"^## (.+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    url, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert url + "#" == URL
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


def test_the_runbook_has_no_section_without_its_alert() -> None:
    """The runbook has a section for each alert and no other, and each has a meaning, checks and a remedy."""
    text = RUNBOOK.read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (Guardhouse\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    anchors = {alert["annotations"]["runbook_url"].partition("#")[2] for alert in rules("alert")}
    assert {name.lower() for name in sections} == anchors - {"drift"}
    for name, section in sections.items():
        assert all(part in section for part in ("**Means**", "**Look at**", "**Do**")), name


def test_bounds_in_rules_are_bounds_of_the_histograms() -> None:
    """The rules compare p-values at every bound that their histogram has, and times at bounds of theirs."""
    expressions = {rule["record"]: rule["expr"] for rule in rules("record")}
    compared = re.findall(r'le="([0-9.]+)"} - ([0-9.]+)', expressions["guardhouse:guard_p_value:excess1h"])
    assert [(float(le), float(bound)) for le, bound in compared] == [(p, p) for p in P_VALUES[:-1]]
    (latency,) = re.findall(r'le="([0-9.]+)"', expressions["guardhouse:slo_bad_requests:total"])
    assert float(latency) in SECONDS
    (wait,) = (rule["expr"] for rule in rules("alert") if rule["alert"] == "GuardhouseQueueWait")
    assert float(wait.rpartition("> ")[2]) in STAGE_SECONDS


def test_objectives_are_stated_once() -> None:
    """The routes of predictions are the same wherever they are counted; each objective is one number in one rule."""
    text = (ROOT / "deploy" / "prometheus" / "slo.rules.yaml").read_text(encoding="utf-8")
    assert len(set(re.findall(r'route=~"([^"]+)"', text))) == 1
    assert re.findall(r"expr: vector\((.+)\)", text) == ["0.001", "0.01"]
    assert text.count('le="0.25"') == 1
