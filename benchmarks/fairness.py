"""False alarms and delays of the groups monitor's intervals, beside a z-test looked at as often; what counting costs.

The seeds are not those the mixture was tuned on.
"""

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.harness.report import print_document, print_table
from guards.input.column import Column
from guards.input.schema import InputSchema
from guards.monitors.base import Context
from guards.monitors.groups.monitor import Groups
from guards.monitors.groups.params import GroupsParams
from guards.statistics.rate_comparisons import least_log_evidence, log_evidence
from guards.types import Batch, ModelOutput, Prediction, Result, Verdict

Floats = npt.NDArray[np.float64]
ALPHA, Z95 = 0.05, 1.959963984540054
NULLS = {"equal groups at .3": (0.3, 1), "groups of 1 to 5 at .3": (0.3, 5), "equal groups at .05": (0.05, 1)}
GAPS = {
    "COMPAS false positive rates": (0.4485, 0.2345),
    "a gap of .10 around .3": (0.35, 0.25),
    "a gap of .10 around .45": (0.5, 0.4),
}
SHARES = {"one statistic": ALPHA, "two statistics": ALPHA / 2}
SEED = 2024


def main(*, quick: bool) -> None:
    """Measure, print tables and the JSON document."""
    runs, labels = (40, 10_000) if quick else (1000, 100_000)
    false_alarms = [_false_alarms(name, *null, runs, labels) for name, null in NULLS.items()]
    delays = [_delays(name, *gap, share, runs) for name, gap in GAPS.items() for share in SHARES]
    cost = _cost(200 if quick else 2000)
    print_table(
        "runs with a false alarm, though groups are equal",
        {row["null"]: {"intervals": row["false_alarms"], "z-test": row["z_test_false_alarms"]} for row in false_alarms},
    )
    print_table(
        "rows a group until a gap is found",
        {f"{row['gap']}, {row['alarmed']}": {key: row[key] for key in ("median", "mean", "p90")} for row in delays},
    )
    print_table("cost", {"groups": cost})
    print_document(
        "fairness", quick=quick, runs=runs, labels=labels, false_alarms=false_alarms, delays=delays, cost=cost
    )


def _false_alarms(name: str, rate: float, ratio: int, runs: int, labels: int) -> dict[str, Any]:
    """Count the runs that ever alarm while both groups have the same rate, looking often and at the end."""
    generator = np.random.default_rng(SEED)
    looks = np.unique(np.concatenate([np.arange(20, 1000, 10), np.geomspace(1000, labels, 400).astype(int)]))
    second_looks = looks // (ratio + 1)
    first_looks = looks - second_looks
    alarmed, fooled = np.zeros(runs, bool), np.zeros(runs, bool)
    for run in range(runs):
        h1 = np.cumsum(generator.random(first_looks[-1]) < rate)[first_looks - 1].astype(np.float64)
        h2 = np.cumsum(generator.random(second_looks[-1]) < rate)[second_looks - 1].astype(np.float64)
        n1, n2 = first_looks.astype(np.float64), second_looks.astype(np.float64)
        alarmed[run] = _alarms(h1, n1, h2, n2, ALPHA).any()
        pooled = (h1 + h2) / (n1 + n2)
        deviation = np.sqrt(np.maximum(pooled * (1 - pooled) * (1 / n1 + 1 / n2), 1e-12))
        fooled[run] = (abs(h1 / n1 - h2 / n2) > Z95 * deviation).any()
    return {
        "null": name,
        "looks": len(looks),
        "false_alarms": float(alarmed.mean()),
        "z_test_false_alarms": float(fooled.mean()),
    }


def _alarms(h1: Floats, n1: Floats, h2: Floats, n2: Floats, alpha: float) -> npt.NDArray[np.bool_]:
    """Test a difference of zero at each of the counts (s,): at one point first, since the least is no larger there."""
    pooled = np.clip((h1 + h2) / (n1 + n2), 1e-7, 1 - 1e-7)[:, None]
    found: npt.NDArray[np.bool_] = log_evidence(h1, n1, h2, n2, pooled, pooled)[:, 0] >= -np.log(alpha)
    at = np.flatnonzero(found)
    if len(at):
        counts = (h1[at], n1[at], h2[at], n2[at])
        found[at] = least_log_evidence(_no_difference, counts, np.zeros(len(at)), np.full(len(at), alpha)) >= -np.log(
            alpha
        )
    return found


def _no_difference(d: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    return d, np.ones_like(d), np.zeros_like(d), np.ones_like(d)


def _delays(name: str, first: float, second: float, share: str, runs: int) -> dict[str, Any]:
    """Find the rows a group after which a gap is found at tolerance 0, looking every ten."""
    generator = np.random.default_rng(SEED + 1)
    looks = np.arange(10, 4000, 10)
    n = looks.astype(np.float64)
    found = []
    for _ in range(runs):
        h1 = np.cumsum(generator.random(looks[-1]) < first)[looks - 1].astype(np.float64)
        h2 = np.cumsum(generator.random(looks[-1]) < second)[looks - 1].astype(np.float64)
        alarms = _alarms(h1, n, h2, n, SHARES[share])
        found.append(looks[alarms.argmax()] if alarms.any() else np.inf)
    delays = np.array(found)
    return {
        "gap": name,
        "alarmed": share,
        "median": float(np.median(delays)),
        "mean": float(delays.mean()),
        "p90": float(np.quantile(delays, 0.9)),
    }


def _cost(batches: int) -> dict[str, float]:
    """Time counting in batches of 64 rows, and a report after them."""
    schema = InputSchema(
        kind="tabular", shape=(1,), columns=(Column(name="sex", kind="categorical", categories=("F", "M")),)
    )
    params = {"name": "sex", "attribute": "sex", "source": {"column": "sex"}, "positive": "yes", "tolerance": 0.0}
    monitor = Groups(GroupsParams.model_validate(params), Context(schema, ("no", "yes"), ("ood",)))
    generator = torch.Generator().manual_seed(SEED)
    logits = torch.randn((64, 2), generator=generator)
    probabilities = torch.softmax(logits, 1)
    none = torch.zeros((1, 64), dtype=torch.bool)
    verdict = Verdict(("ood",), none.float(), none.float(), none, None, torch.zeros(64, dtype=torch.int64), {})
    outcome = Result(
        ModelOutput(logits, logits), Prediction(probabilities=probabilities, label=probabilities.argmax(1)), verdict
    )
    batch = Batch(torch.randint(2, (64, 1), generator=generator).float())
    started = time.perf_counter()
    for _ in range(batches):
        monitor.observe(batch, outcome)
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    monitor.report()
    return {
        "observe_us_per_row": 1e6 * seconds / batches / 64,
        "report_ms": 1e3 * (time.perf_counter() - started),
    }
