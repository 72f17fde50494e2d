"""Drift in PromQL: promtool runs the rules over made-up scrapes, and scipy computes the expected figures."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import drift_figures
import numpy as np
import pytest
import yaml
from drift_figures import ORDERED, Counts, figures, spell
from scipy.stats import chi2, norm

from guards.cli.rules import PSI_CRITICAL, PSI_WARNING, ROWS, RUNBOOK, SIGNIFICANCE, Z, render
from guards.config.load import load_config
from guards.monitors.streams import StreamParams

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "drift.rules.yaml"
NASTY = 'column:say "hi" \\ back\nline {{ $labels.job }} é漢'
COLOURS = ('"', "\\", "a\nb", "é漢", "below", "0", "bin=~'.*'", "unseen", "missing")
FIGURES = '__name__=~"guardhouse:drift_(psi|jensen.*|chi.*|ks.*)"'

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


@dataclass(frozen=True, slots=True)
class Deployment:
    """What two replicas of one model counted in an hour: by stream, the live rows of each and the reference's.

    ``instances`` are scraped once a minute, ``until`` a minute after which they are gone.
    """

    streams: Mapping[str, tuple[Counts, ...]]
    labels: Mapping[str, str] = field(default_factory=lambda: {"namespace": "shop", "job": "shop/guardhouse"})
    model: Mapping[str, str] = field(default_factory=lambda: {"bundle": "sha256:one", "model": "digits"})
    instances: tuple[str, str] = ("10.0.0.1:3000", "10.0.0.2:3000")
    until: int = 60

    def series(self) -> Iterator[dict[str, str]]:
        """Spell the scrapes; the second replica restarts in the middle of its rows."""
        for replica, instance in enumerate(self.instances):
            where = {**self.labels, "instance": instance}
            yield self._series("build_info", [1] * 61, **where, version="0.1.0", model_version="1", **self.model)
            for stream, (*live, reference) in self.streams.items():
                total = sum(reference.values())
                yield self._series("reference_rows", [total] * 61, **where, stream=stream)
                for name, count in live[replica].items():
                    labels = {**where, "stream": stream, "bin": name}
                    first, rest = count // 3, count - count // 3
                    restarting = [0] * 11 + [first] * 10 + [0] * 5 + [rest] * 35
                    values = restarting if replica else [0] * 16 + [first] * 10 + [count] * 35
                    yield self._series("stream_bin_total", values, **labels)
                    yield self._series("reference_bin_ratio", [reference[name] / total] * 61, **labels)

    def _series(self, name: str, values: Sequence[float], **labels: str) -> dict[str, str]:
        scrapes = [*map(repr, values[: self.until + 1]), "stale"]
        return {"series": spell(f"guardhouse_{name}", **labels), "values": " ".join(scrapes)}

    def expected(self) -> Iterator[tuple[str, str, float]]:
        """Give every figure of every stream: its name, the stream, the value."""
        for stream, (one, other, reference) in self.streams.items():
            for name, value in figures({bin_: one[bin_] + other[bin_] for bin_ in one}, reference).items():
                yield name, stream, value

    def identity(self, stream: str) -> dict[str, str]:
        return {**self.labels, **self.model, "stream": stream, "window": "1h"}


def _equals(name: str, labels: Mapping[str, str], value: float) -> dict[str, Any]:
    """Say whether a figure equals a value: to 1e-6 of it, or to 1e-9 if the value is 0 up to rounding."""
    off = f"abs({spell(f'guardhouse:drift_{name}', **labels)} - ({value!r}))"
    return _asks(f"{off} <= bool {max(1e-6 * abs(value), 1e-9)!r}", labels)


def _asks(expr: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {"expr": expr, "eval_time": "60m", "exp_samples": [{"labels": spell("", **labels), "value": 1}]}


def _number(selector: str, number: int) -> dict[str, Any]:
    """Ask how many series there are."""
    asked: dict[str, Any] = {"expr": f"count({{{selector}}})", "eval_time": "60m"}
    return asked | ({"exp_samples": [{"labels": "{}", "value": number}]} if number else {})


def all_of(*deployments: Deployment) -> list[dict[str, str]]:
    return [series for deployment in deployments for series in deployment.series()]


def figures_of(deployment: Deployment) -> list[dict[str, Any]]:
    return [_equals(name, deployment.identity(stream), value) for name, stream, value in deployment.expected()]


def run(
    folder: Path,
    series: Sequence[Mapping[str, str]],
    asked: Sequence[Any] = (),
    alerts: Sequence[Any] = (),
    *,
    every: str = "1h",
) -> subprocess.CompletedProcess[str]:
    """Let promtool evaluate the rules on an hour of scrapes: at the end, or more often if alerts must hold."""
    test = {"input_series": series, "interval": "1m", "promql_expr_test": asked, "alert_rule_test": alerts}
    path = folder / "drift.test.yaml"
    document = {"rule_files": [str(RULES)], "evaluation_interval": every, "tests": [test]}
    path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    return subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False)


def passes(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


NONE = dict.fromkeys(ORDERED, 0)
EVEN = NONE | dict.fromkeys(map(str, range(drift_figures.BINS)), 97) | {"missing": 30}
ALIKE = dict.fromkeys(("a", "unseen", "missing"), 0)


def drawn(rng: np.random.Generator, names: Sequence[str], shares: Any, rows: int) -> Counts:
    return dict(zip(names, rng.multinomial(rows, shares).tolist(), strict=True))


def ordered(seed: int, *, shift: float, rows: int, missing: float = 0.03, beyond: float = 0.0) -> tuple[Counts, ...]:
    """Draw two replicas' rows and a reference of ten equal bins; ``beyond`` rows lie outside all the reference."""
    rng = np.random.default_rng(seed)
    slope = 1 + shift * np.linspace(-1, 1, drift_figures.BINS)
    inside = (1 - missing - beyond) * slope / slope.sum()
    shares = [beyond / 2, *inside, beyond / 2, missing]
    return drawn(rng, ORDERED, shares, rows // 2), drawn(rng, ORDERED, shares, rows - rows // 2), EVEN


def discrete(seed: int, rows: int, concentration: float) -> tuple[Counts, ...]:
    """Draw categories with names that PromQL, YAML and regular expressions could trip over, some of them never seen."""
    rng = np.random.default_rng(seed)
    shares = [*rng.dirichlet(np.full(len(COLOURS) - 3, concentration)), 0, 0.01, 0]
    shares = np.array(shares) / sum(shares)
    reference = rng.dirichlet(np.full(len(COLOURS) - 3, 5.0))
    return (
        drawn(rng, COLOURS, shares, rows // 2),
        drawn(rng, COLOURS, shares, rows - rows // 2),
        drawn(rng, COLOURS, [*reference, 0, 0, 0], 1500),
    )


STREAMS = {
    "column:steady": ordered(1, shift=0.0, rows=3000),
    "column:drifting": ordered(2, shift=0.2, rows=3001),
    "feature:0": ordered(3, shift=0.7, rows=900, beyond=0.05),
    "guard:ood": ordered(4, shift=0.01, rows=40),
    "statistic:mean": ordered(5, shift=0.0, rows=20_000, missing=0.3),
    "confidence": (NONE | {"4": 7}, NONE, EVEN),
    "column:gone": (NONE | {"missing": 700}, NONE, EVEN),
    "column:constant": (ALIKE | {"a": 40}, ALIKE | {"a": 2}, ALIKE | {"a": 90}),
    "label": discrete(7, 2500, 5.0),
    NASTY: discrete(8, 1800, 0.7),
}  # fmt: skip


def test_the_rules_that_are_checked_in_are_those_of_the_demo() -> None:
    """`deploy/prometheus/drift.rules.yaml` is what `guardhouse rules` writes for the digits example, to the byte."""
    (params,) = load_config(ROOT / "examples" / "digits" / "gateway.yaml").monitors
    assert isinstance(params, StreamParams)
    assert RULES.read_text(encoding="utf-8") == render(params.bins)


@promtool
@pytest.mark.parametrize(("bins", "windows"), [(10, ("1h", "1d")), (2, ("30s",)), (100, ("5m", "2w", "6h"))])
def test_promtool_accepts_the_rules(bins: int, windows: tuple[str, ...], tmp_path: Path) -> None:
    """The rules parse, and promtool's linter finds no two alike, for any number of bins and any windows."""
    path = tmp_path / "rules.yaml"
    path.write_text(render(bins, windows), encoding="utf-8")
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, check=False)
    passes(done)
    assert f"SUCCESS: {len(windows) * 22} rules found" in done.stdout
    assert "lint" not in done.stderr


@promtool
def test_figures_are_scipys(tmp_path: Path) -> None:
    """Over two replicas, one of which restarts, every figure is scipy's of the rows put together, to 1e-6."""
    deployment = Deployment(STREAMS)
    asked = figures_of(deployment)
    assert len(asked) > 70
    passes(run(tmp_path, all_of(deployment), asked))


@promtool
@pytest.mark.parametrize("seed", range(3))
def test_figures_of_random_histograms(seed: int, tmp_path: Path) -> None:
    """Whatever the histograms, sparse or full, small or large, with an order or without, the figures are numpy's."""
    rng = np.random.default_rng(seed)
    streams: dict[str, tuple[Counts, ...]] = {}
    for i in range(12):
        names = ORDERED if i % 2 else [f"category {j}" for j in range(int(rng.integers(1, 30)))] + ["unseen", "missing"]
        weights = [rng.dirichlet(np.full(len(names), rng.choice([0.1, 1.0, 20.0]))) for _ in range(3)]
        streams[f"column:{i}"] = tuple(drawn(rng, names, share, int(10 ** rng.uniform(0, 5))) for share in weights)
    deployment = Deployment(streams)
    passes(run(tmp_path, all_of(deployment), figures_of(deployment)))


def test_the_approximate_z_errs_to_the_quiet_side() -> None:
    """At the level of the alert Wilson and Hilferty's z is below the exact one, by 0.1 with ten bins, 0.3 with two."""
    for degrees, most in ((1, 0.31), (2, 0.24), (9, 0.1), (12, 0.08), (50, 0.03)):
        statistic, share = chi2.isf(SIGNIFICANCE, degrees), 2 / (9 * degrees)
        z = (np.cbrt(statistic / degrees) - 1 + share) / np.sqrt(share)
        assert norm.isf(SIGNIFICANCE) - most < z < norm.isf(SIGNIFICANCE) == pytest.approx(Z, abs=1e-4)


@promtool
@pytest.mark.parametrize(
    "figure", ["rows", "psi", "jensen_shannon_distance", "chi_squared_z", "ks_statistic", "ks_p_value"]
)
def test_a_wrong_expectation_fails(figure: str, tmp_path: Path) -> None:
    """An expectation that is off by a hundred thousandth fails: the tests here can."""
    deployment = Deployment({"column:drifting": STREAMS["column:drifting"]})
    series = all_of(deployment)
    (value,) = (value for name, _, value in deployment.expected() if name == figure)
    labels = deployment.identity("column:drifting")
    passes(run(tmp_path, series, [_equals(figure, labels, value)]))
    done = run(tmp_path, series, [_equals(figure, labels, value * (1 + 1e-5))])
    assert done.returncode != 0
    assert "FAILED" in done.stdout + done.stderr


@promtool
def test_models_behind_one_prometheus_are_kept_apart(tmp_path: Path) -> None:
    """Streams of one name in two jobs, and in two bundles of one job during a rollout, have figures of their own."""
    one = Deployment({"confidence": ordered(1, shift=0.0, rows=3000)})
    other_job = replace(one, streams={"confidence": ordered(2, shift=0.5, rows=900)}, labels={"job": "other"})
    next_bundle = replace(
        one,
        streams={"confidence": ordered(3, shift=0.3, rows=700)},
        model={"bundle": "sha256:two", "model": "digits"},
        instances=("10.0.0.3:3000", "10.0.0.4:3000"),
    )
    asked = [question for deployment in (one, other_job, next_bundle) for question in figures_of(deployment)]
    passes(run(tmp_path, all_of(one, other_job, next_bundle), [*asked, _number('__name__="guardhouse:drift_psi"', 6)]))


@promtool
def test_an_instance_that_changed_its_bundle_is_left_out(tmp_path: Path) -> None:
    """Rows that may belong to either of two bundles count for neither, and the other replica's figures stay right."""
    deployment = Deployment({"confidence": ordered(1, shift=0.2, rows=3000)})
    info = spell(
        "guardhouse_build_info", **deployment.labels, instance="10.0.0.2:3000", model="digits", bundle="before"
    )
    series = [*all_of(deployment), {"series": info, "values": "1+0x5 stale"}]
    one, _, reference = deployment.streams["confidence"]
    rest = replace(deployment, streams={"confidence": (one, NONE, reference)})
    passes(run(tmp_path, series, [*figures_of(rest), _number('__name__="guardhouse:drift_psi"', 2)]))


@promtool
@pytest.mark.parametrize(("until", "there"), [(57, True), (50, False)])
def test_figures_outlive_a_gap_and_not_the_bundle(until: int, there: bool, tmp_path: Path) -> None:
    """A few minutes without any scrape change nothing; a bundle that no server serves any more has no figures."""
    deployment = Deployment({"confidence": ordered(1, shift=0.2, rows=3000)}, until=until)
    asked = [_number(f'{FIGURES}, window="1h"', 7 if there else 0)]
    for name, stream, value in deployment.expected() if there else ():
        if name in {"jensen_shannon_distance", "ks_statistic"}:  # of shares; rows are extrapolated into the gap
            asked.append(_equals(name, deployment.identity(stream), value))
    passes(run(tmp_path, all_of(deployment), asked))


@promtool
def test_without_rows_there_are_no_figures(tmp_path: Path) -> None:
    """No traffic is no drift and no NaN; a stream that knows one bin alone has no z."""
    alike = (ALIKE | {"a": 40}, ALIKE | {"a": 2}, ALIKE | {"a": 90})
    deployment = Deployment({"confidence": (NONE, NONE, EVEN), "label": alike})
    silent = {**deployment.identity("confidence"), "window": "1h"}
    asked = [
        _asks(f"{spell('guardhouse:drift_rows', **silent)} == bool 0", silent),
        _number(f'{FIGURES}, stream="confidence"', 0),
        _number('__name__="guardhouse:drift_psi"', 2),
        _number('__name__="guardhouse:drift_chi_squared_z"', 0),
    ]
    passes(run(tmp_path, all_of(deployment), asked))


def levels(number: int, live: Any, rows: int, reference_rows: int) -> tuple[Counts, ...]:
    """Draw categories of an even reference; ``live`` are their shares now."""
    rng, names = np.random.default_rng(0), [f"level {i}" for i in range(number)]
    even = np.full(number, 1 / number)
    one, other, reference = (
        drawn(rng, names, share, n)
        for share, n in ((live, rows // 2), (live, rows - rows // 2), (even, reference_rows))
    )
    more = {"unseen": 0, "missing": 0}
    return dict(one) | more, dict(other) | more, dict(reference) | more


LEVELS = 400  # promtool does not load many more series


@promtool
@pytest.mark.parametrize(("rows", "has_index"), [(20 * LEVELS, True), (2 * LEVELS, False)])
def test_clean_rows_of_many_levels(rows: int, has_index: bool, tmp_path: Path) -> None:
    """Well filled, they have a PSI near 0; sparse, they have none, and neither is an alarm."""
    deployment = Deployment({"column:city": levels(LEVELS, np.full(LEVELS, 1 / LEVELS), rows, rows)})
    psi = {name: value for name, _, value in deployment.expected()}.get("psi")
    assert (abs(psi) < 0.02) if has_index else (psi is None)  # type: ignore[arg-type]
    asked = [*figures_of(deployment), _number('__name__="guardhouse:drift_psi",window="1h"', int(has_index))]
    passes(run(tmp_path, all_of(deployment), asked, every="10m"))


@promtool
def test_a_level_that_takes_over_is_found_among_many(tmp_path: Path) -> None:
    """A level with a fifth of the rows is drift and raises the alarm, even if all other levels are too rare."""
    share = np.full(LEVELS, 0.8 / LEVELS)
    share[7] += 0.2
    deployment = Deployment({"column:city": levels(LEVELS, share, 2 * LEVELS, 2 * LEVELS)})
    found = {name: value for name, _, value in deployment.expected()}
    assert found["psi"] > PSI_CRITICAL
    assert found["pooled_ratio"] > 0.5
    firing = [
        {
            "exp_labels": {**deployment.identity("column:city"), "severity": severity},
            "exp_annotations": _annotations("column:city", found["psi"], limit),
        }
        for severity, limit in (("warning", PSI_WARNING), ("critical", PSI_CRITICAL))
    ]
    alerts = [{"alertname": "GuardhouseDrift", "eval_time": "60m", "exp_alerts": firing}]
    passes(run(tmp_path, all_of(deployment), figures_of(deployment), alerts, every="10m"))


@promtool
def test_alerts_need_significance_size_and_rows(tmp_path: Path) -> None:
    """An alarm needs significance, size and 500 rows together, and shows names in full."""
    streams = {
        **STREAMS,
        "significant and small": ordered(11, shift=0.42, rows=50_000),
        "large on few rows": ordered(12, shift=0.9, rows=450),
        "neither": ordered(13, shift=0.0, rows=600),
        "warning": ordered(14, shift=0.6, rows=2000),
        "critical": ordered(15, shift=0.95, rows=2000),
    }
    deployment = Deployment(streams)
    found: dict[str, dict[str, float]] = {}
    for name, stream, value in deployment.expected():
        found.setdefault(stream, {})[name] = value
    significant = {
        stream
        for stream, f in found.items()
        if f.get("chi_squared_z", 0) > norm.isf(SIGNIFICANCE) or f.get("ks_p_value", 1) < SIGNIFICANCE
    }
    assert {"significant and small", "large on few rows", "warning", "critical", NASTY} <= significant
    firing = []
    for stream in significant:
        for severity, limit in (("warning", PSI_WARNING), ("critical", PSI_CRITICAL)):
            psi = found[stream]["psi"]
            if psi > limit and found[stream]["rows"] >= ROWS:
                # Those of the day are still pending: they hold for two hours.
                labels = {**deployment.identity(stream), "severity": severity}
                firing.append({"exp_labels": labels, "exp_annotations": _annotations(stream, psi, limit)})
    alarmed = {(alert["exp_labels"]["stream"], alert["exp_labels"]["severity"]) for alert in firing}
    assert {("warning", "warning"), ("critical", "critical"), (NASTY, "critical")} <= alarmed
    assert not {("warning", "critical")} & alarmed
    assert not {"significant and small", "large on few rows", "neither", "column:steady"} & {
        name for name, _ in alarmed
    }
    alerts = [{"alertname": "GuardhouseDrift", "eval_time": "60m", "exp_alerts": firing}]
    at_first = [{"alertname": "GuardhouseDrift", "eval_time": "10m", "exp_alerts": []}]
    passes(run(tmp_path, all_of(deployment), alerts=[*at_first, *alerts], every="10m"))


def _annotations(stream: str, psi: float, limit: float) -> dict[str, str]:
    return {
        "summary": f"{stream} of digits is not distributed as its reference is",
        "description": (
            f"Over the last 1h the stream {stream} of digits (shop/guardhouse) has a PSI of {psi:.3f}, above "
            f"{limit}, and chance is an unlikely cause (p < 1e-06, 500 rows or more)."
        ),
        "runbook_url": RUNBOOK,
    }
