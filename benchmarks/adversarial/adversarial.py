"""What NES, Square, Boundary and HopSkipJump achieve against `query_similarity`, and what honest clients notice.

Each attack is plain, over ten accounts, and adaptive (OARS): once with invisible flags, so that the attacker has no
oracle, and once with visible refusals. Few queries are asked: an attack that was flagged is detected, however long it
goes on, and the column `undecided` counts the others. `guardhouse attack --budget` measures long attacks. Without
GUARDHOUSE_DATA, only the digits are attacked.
"""

from typing import Any, get_args

import torch

from benchmarks.adversarial.guarded_model import GuardedModel
from benchmarks.adversarial.honest import blur_costs, crowd_figures, honest_figures, microseconds
from benchmarks.adversarial.subjects import Subject, subjects
from benchmarks.harness.report import print_document, print_table
from guards.attacks.runner import ATTACKS, Mode, Trace, run
from guards.attacks.space import Space
from guards.attacks.summary import SOON, of_traces
from guards.memory.query_similarity import QuerySimilarity, QuerySimilarityParams
from guards.statistics.proportions import proportion
from guards.types import Batch, Reference

STACKS = ("digits", "mnist", "fashion-mnist", "adult")
WAYS: dict[str, tuple[Mode, bool]] = {
    **{mode: (mode, False) for mode in get_args(Mode)},
    "adaptive, refused": ("adaptive", True),
}
STARTS = 5


def main(*, quick: bool, stacks: tuple[str, ...] = STACKS) -> None:
    """Measure on each data set of ``stacks``; print the tables and the JSON document."""
    torch.set_num_threads(1)
    rows, budget, clients, queries = (4, 60, 2, 100) if quick else (24, 300, 40, 500)
    document: dict[str, Any] = {}
    for subject in subjects(stacks[:1] if quick else stacks, quick=quick):
        guard = fitted(subject)
        honest = honest_figures(subject, guard, clients=clients, queries=queries)
        print_table(f"{subject.name}: honest clients", honest)
        crowd = crowd_figures(subject, guard, clients=clients, queries=queries)
        print_table(f"{subject.name}: many honest clients together", crowd)
        attacks = {
            f"{name} {eps:g} {way}": attacked(subject, guard, name, mode, eps, shows=shows, rows=rows, budget=budget)
            for name in ATTACKS
            for eps in bounds(subject, name)
            for way, (mode, shows) in WAYS.items()
        }
        print_table(f"{subject.name}: attacks", attacks)
        blur = {
            f"{name} {eps:g}, {'blur' if on else 'exact'}": attacked(
                subject, guard, name, "plain", eps, blur=on, rows=rows, budget=budget
            )
            for name in ("nes", "square")
            for eps in bounds(subject, name)
            for on in (False, True)
        }
        print_table(f"{subject.name}: probabilities in coarse steps once there is evidence", blur)
        document[subject.name] = {
            "honest": honest,
            "crowd": crowd,
            "attacks": attacks,
            "blur": blur,
            "calibration error": blur_costs(subject),
            "microseconds a query": microseconds(subject, guard, remembered=10_000, rounds=20 if quick else 200),
        }
        print_table(
            f"{subject.name}: costs",
            {key: document[subject.name][key] for key in ("calibration error", "microseconds a query")},
        )
    print_document("adversarial", quick=quick, rows=rows, budget=budget, subjects=document)


@torch.inference_mode()
def fitted(subject: Subject) -> QuerySimilarity:
    """Fit and calibrate the guard with its defaults."""
    guard = QuerySimilarity(QuerySimilarityParams(name="query_similarity"))
    return guard.fit(Reference(Batch(subject.reference), None, subject.schema)).calibrate(Batch(subject.calibration))


def bounds(subject: Subject, name: str) -> tuple[float, float]:
    """Give the small and the large bound of an attack's changes."""
    return subject.eps if ATTACKS[name].norm == "linf" else subject.rms


def attacked(  # noqa: PLR0913 - what is asked of an attack
    subject: Subject,
    guard: QuerySimilarity,
    name: str,
    mode: Mode,
    eps: float,
    *,
    rows: int,
    budget: int,
    shows: bool = False,
    blur: bool = False,
) -> dict[str, Any]:
    """Attack rows of the test part that the model classifies rightly, and give the shares that the attack reached."""
    target = GuardedModel(subject, guard, shows_flags=shows, blur=blur)
    with torch.inference_mode():
        right = subject.probabilities(subject.test).argmax(1) == subject.labels
    if subject.schema.kind == "tabular":
        right = right & subject.test.isfinite().all(1) & (subject.test[:, subject.schema.categorical] >= 0).all(1)
    x, y = subject.test[right], subject.labels[right]
    starts = [x[y != label][:STARTS].numpy() for label in y[:rows]]
    space = Space.of(subject.schema, subject.test.numpy())
    traces = run(
        name, mode, target, space, x[:rows].numpy(), y[:rows].tolist(), starts,
        epses=(eps,), budget=budget, seed=0, others=x[rows:].numpy(),
    )  # fmt: skip
    return _figures(traces, eps)


def _figures(traces: list[Trace], eps: float) -> dict[str, Any]:
    """Give the shares of rows; ``flagged in 20`` counts the attacks that asked twenty queries or more.

    An attack is ``undecided`` that has neither succeeded nor been flagged: more queries would not detect fewer than
    all others.
    """
    figures = of_traces(traces, eps)
    long = [trace for trace in traces if trace.queries >= SOON]
    soon = proportion(sum((trace.first_flag or SOON + 1) <= SOON for trace in long), len(long)) if long else None
    return {
        "success": figures["success"],
        "undetected": figures["undetected"],
        "undetected, at most": None if figures["undetected_interval"] is None else figures["undetected_interval"][1],
        "undecided": sum(not trace.successes and trace.first_flag is None for trace in traces) / len(traces),
        "passed": figures["passed"],
        "flagged in 20": None if soon is None else soon.value,
        "of": len(long),
        "first flag": figures["first_flag"],
        "queries": figures["queries"],
    }
