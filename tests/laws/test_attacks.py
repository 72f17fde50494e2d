"""Laws of attacks by queries, whatever the target remembers and shows: what is counted was sent, and stays near."""

from typing import Any

import numpy as np
import toy_targets
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_targets import PlaneTarget

from guards.attacks.query_attack import lengths
from guards.attacks.runner import ATTACKS, MODES, UNRELATED, Mode, Trace, run
from guards.attacks.space import Space
from guards.attacks.target import Answers, Client

EPSES = (0.05, 0.2)


class Witness(PlaneTarget):
    """Notes every row that each attack sends, and the answers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sent: dict[str, list[tuple[Any, int, bool]]] = {}

    def ask(self, x: Any, clients: Any) -> Answers:
        """Answer, and note."""
        answers = super().ask(x, clients)
        for row, client, label, flagged in zip(x, clients, answers.labels, answers.flagged, strict=True):
            self.sent.setdefault(client.attack, []).append((row, int(label), bool(flagged)))
        return answers


def expected(
    row: Any, sent: list[tuple[Any, int, bool]], space: Space, name: str, epses: tuple[float, ...], each: int
) -> Trace:
    """Work out a trace from what was sent: the first flag, and the first wrong label within each eps.

    A query is the last of ``each`` rows; the other rows are unrelated.
    """
    trace = Trace(queries=len(sent))
    for place, (asked, label, flagged) in enumerate(sent, start=1):
        if flagged and trace.first_flag is None:
            trace.first_flag = place
        length = lengths(space.between(row, asked[None]), ATTACKS[name].norm)[0]
        for eps in epses:
            if place % each == 0 and label == 1 and length <= eps * (1 + 1e-6) and eps not in trace.successes:
                trace.successes[eps], trace.passed[eps] = place, not flagged
    return trace


@settings(max_examples=60)
@given(
    name=st.sampled_from(list(ATTACKS)),
    mode=st.sampled_from(MODES),
    near=st.sampled_from([0.0, 0.02, 0.2]),
    shows=st.booleans(),
    withholds=st.booleans(),
    budget=st.integers(0, 150),
    seed=st.integers(0, 1000),
)
def test_a_trace_says_what_was_sent(
    name: str, mode: Mode, near: float, shows: bool, withholds: bool, budget: int, seed: int
) -> None:
    """Queries, first flags and successes are those of the rows sent, which are within the bounds and the budget."""
    target, space = Witness(near=near, shows_flags=shows, withholds=withholds), toy_targets.plane_space()
    x, y, starts = toy_targets.plane_rows(target, 2)
    target.sent.clear()
    epses = EPSES if ATTACKS[name].minimises else EPSES[:1]
    traces = run(name, mode, target, space, x, y, starts, epses=epses, budget=budget, seed=seed, others=x)
    assert sum(len(sent) for sent in target.sent.values()) == sum(trace.queries for trace in traces)
    for place, (row, trace) in enumerate(zip(x, traces, strict=True)):
        sent = target.sent.get(f"{name} {mode} {place}", [])
        assert len(sent) <= budget
        assert all(((asked >= 0) & (asked <= 1)).all() for asked, _, _ in sent)
        known = expected(row, sent, space, name, epses, 1 + UNRELATED if mode == "hidden" else 1)
        assert (trace.queries, trace.first_flag) == (known.queries, known.first_flag)
        assert (trace.successes, trace.passed) == (known.successes, known.passed)
        for eps in epses:
            assert trace.undetected(eps) <= trace.passed.get(eps, False) <= (eps in trace.successes)
            assert (eps in trace.found) == (eps in trace.successes)


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), short=st.integers(1, 100), more=st.integers(0, 100))
def test_a_larger_budget_never_achieves_less(seed: int, short: int, more: int) -> None:
    """NES, whose queries do not depend on the budget, does with more queries what it does with fewer, and then more."""
    target = PlaneTarget()
    x, y, starts = toy_targets.plane_rows(target, 2)
    few, many = (
        run("nes", "plain", target, toy_targets.plane_space(), x, y, starts, epses=(0.1,), budget=budget, seed=seed)
        for budget in (short, short + more)
    )
    for one, other in zip(few, many, strict=True):
        assert one.successes.items() <= other.successes.items()
        assert one.queries <= other.queries


def test_the_plane_target_forgets() -> None:
    """The toy target flags a near query of the same client, and of no other client, until it forgets."""
    target, row = PlaneTarget(near=0.1), np.full((1, 12), 0.5, dtype=np.float32)
    one, other = Client("a", 0), Client("a", 1)
    flags = [bool(target.ask(row, [client]).flagged[0]) for client in (one, one, other)]
    target.forget()
    assert [*flags, bool(target.ask(row, [one]).flagged[0])] == [False, True, False, False]
