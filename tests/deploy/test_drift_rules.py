"""Drift in PromQL: promtool runs the rules over made-up scrapes, and scipy says what must come out."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import drift
import numpy as np
import pytest
import yaml
from drift import ORDERED, Counts, figures, spell

from guards.cli.configs import load_config
from guards.cli.rules import render
from guards.streams import StreamParams

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "drift.rules.yaml"
NASTY = 'column:say "hi" \\ back\nline {{ $labels.job }} é漢'
COLOURS = ('"', "\\", "a\nb", "é漢", "below", "0", "bin=~'.*'", "unseen", "missing")
EXACT = {"bundle": "sha256:one", "model": "digits"}

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


@dataclass(frozen=True, slots=True)
class Deployment:
    """What two replicas of one model counted in the hour: by stream, the live rows of each and the reference."""

    streams: Mapping[str, tuple[Counts, Counts, Counts]]
    labels: Mapping[str, str] = field(default_factory=lambda: {"namespace": "shop", "job": "shop/guardhouse"})
    model: Mapping[str, str] = field(default_factory=lambda: EXACT)

    def series(self) -> Iterator[dict[str, str]]:
        """Spell the scrapes of an hour, one a minute; the second replica restarts in the middle of its rows."""
        for replica, instance in enumerate(("10.0.0.1:3000", "10.0.0.2:3000")):
            where = {**self.labels, "instance": instance}
            yield _series("build_info", "1+0x60", **where, version="0.1.0", model_version="1", **self.model)
            for stream, (*live, reference) in self.streams.items():
                total = sum(reference.values())
                yield _series("reference_rows", f"{total}+0x60", **where, stream=stream)
                for name, count in live[replica].items():
                    labels = {**where, "stream": stream, "bin": name}
                    before, after = count // 3, count - count // 3
                    restarting = f"0+0x20 {before}+0x9 0+0x5 {after}+0x23"
                    values = restarting if replica else f"0+0x30 {before}+0x9 {count}+0x19"
                    yield _series("stream_bin_total", values, **labels)
                    yield _series("reference_bin_ratio", f"{reference[name] / total!r}+0x60", **labels)

    def expected(self) -> Iterator[tuple[str, str, float]]:
        """Give every figure of every stream: its name, the stream, the value."""
        for stream, (one, other, reference) in self.streams.items():
            for name, value in figures({bin_: one[bin_] + other[bin_] for bin_ in one}, reference).items():
                yield name, stream, value

    def identity(self, stream: str) -> dict[str, str]:
        return {**self.labels, **self.model, "stream": stream, "window": "1h"}


def _series(name: str, values: str, **labels: str) -> dict[str, str]:
    return {"series": spell(f"guardhouse_{name}", **labels), "values": values}


def _equals(name: str, labels: Mapping[str, str], value: float) -> dict[str, Any]:
    """Ask whether a figure is a value: to 1e-6 of it, or to 1e-9 where rounding is all there is."""
    off = f"abs({spell(f'guardhouse:drift_{name}', **labels)} - ({value!r}))"
    return _asks(f"{off} <= bool {max(1e-6 * abs(value), 1e-9)!r}", labels)


def _asks(expr: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {"expr": expr, "eval_time": "60m", "exp_samples": [{"labels": spell("", **labels), "value": 1}]}


def run(
    folder: Path,
    series: Sequence[Mapping[str, str]],
    asked: Sequence[Any] = (),
    alerts: Sequence[Any] = (),
    *,
    every: str = "1h",
) -> subprocess.CompletedProcess[str]:
    """Let promtool evaluate the rules on an hour of scrapes: at its end, or more often where alerts are to be held."""
    test = {"input_series": series, "interval": "1m", "promql_expr_test": asked, "alert_rule_test": alerts}
    path = folder / "drift.test.yaml"
    document = {"rule_files": [str(RULES)], "evaluation_interval": every, "tests": [test]}
    path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    return subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False)


def passes(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


NONE = dict.fromkeys(ORDERED, 0)
EVEN = NONE | dict.fromkeys(map(str, range(drift.BINS)), 97) | {"missing": 30}
ALIKE = dict.fromkeys(("a", "unseen", "missing"), 0)


def drawn(rng: np.random.Generator, names: Sequence[str], shares: Any, rows: int) -> Counts:
    return dict(zip(names, rng.multinomial(rows, shares).tolist(), strict=True))


def ordered(seed: int, *, shift: float, rows: int, missing: float = 0.0, beyond: float = 0.0) -> tuple[Counts, ...]:
    """Draw two replicas' rows and a reference of ten equal bins; ``beyond`` rows lie outside all the reference."""
    rng = np.random.default_rng(seed)
    slope = 1 + shift * np.linspace(-1, 1, drift.BINS)
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
    assert f"SUCCESS: {len(windows) * 18} rules found" in done.stdout
    assert "lint" not in done.stderr


@promtool
def test_figures_are_scipys(tmp_path: Path) -> None:
    """Over two replicas, one of which restarts, every figure is scipy's of the rows put together, to 1e-6."""
    deployment = Deployment(STREAMS)
    asked = [_equals(name, deployment.identity(stream), value) for name, stream, value in deployment.expected()]
    assert len(asked) > 70
    passes(run(tmp_path, list(deployment.series()), asked))


@promtool
@pytest.mark.parametrize(
    "figure", ["rows", "psi", "jensen_shannon_distance", "chi_squared_z", "ks_statistic", "ks_p_value"]
)
def test_a_wrong_expectation_fails(figure: str, tmp_path: Path) -> None:
    """An expectation that is off by a hundred thousandth fails: the tests here can."""
    deployment = Deployment({"column:drifting": STREAMS["column:drifting"]})
    series = list(deployment.series())
    (value,) = (value for name, _, value in deployment.expected() if name == figure)
    labels = deployment.identity("column:drifting")
    passes(run(tmp_path, series, [_equals(figure, labels, value)]))
    done = run(tmp_path, series, [_equals(figure, labels, value * (1 + 1e-5))])
    assert done.returncode != 0
    assert "FAILED" in done.stdout + done.stderr
