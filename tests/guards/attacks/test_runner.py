"""Attacks by queries on a made-up target whose boundary is known."""

from typing import Any

import numpy as np
import pytest
import toy_targets
from toy_targets import PlaneTarget

from guards.attacks.runner import ACCOUNTS, ATTACKS, MODES, Mode, Trace, run

FAR = 0.6
"""With so large an eps, every row can cross the plane."""


def attacked(target: PlaneTarget, name: str, mode: Mode = "plain", **changes: Any) -> list[Trace]:
    x, y, starts = toy_targets.plane_rows(target)
    options = {"epses": (0.1, FAR) if ATTACKS[name].minimises else (FAR,), "budget": 1500, "seed": 3} | changes
    return run(name, mode, target, toy_targets.plane_space(), x, y, starts, others=np.flip(x, 1), **options)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("mode", MODES)
def test_every_attack_succeeds_with_a_large_eps(name: str, mode: Mode) -> None:
    """If eps is large, every attack in every mode finds a wrong label for every row, and nothing is flagged."""
    traces = attacked(PlaneTarget(), name, mode)
    assert all(FAR in trace.successes and trace.undetected(FAR) for trace in traces)
    assert all(trace.first_flag is None for trace in traces)


@pytest.mark.parametrize("name", ATTACKS)
def test_found_rows_are_wrong_and_within_eps(name: str) -> None:
    """The row that an attack found has another label, and lies within eps and within the bounds."""
    target = PlaneTarget()
    x, _, _ = toy_targets.plane_rows(target)
    for row, trace in zip(x, attacked(target, name), strict=True):
        for eps, found in trace.found.items():
            change = found.astype(np.float64) - row
            length = np.abs(change).max() if ATTACKS[name].norm == "linf" else np.sqrt((change**2).mean())
            assert length <= eps * (1 + 1e-5)
            assert ((found >= 0) & (found <= 1)).all()
            assert (found.astype(np.float64) - 0.5) @ target.normal > 0


@pytest.mark.parametrize("name", ATTACKS)
def test_queries_are_counted_and_bounded(name: str) -> None:
    """The queries counted are the queries sent; no attack sends more than its budget, and without a budget none."""
    for budget in (0, 7, 130):
        target = PlaneTarget()
        traces = attacked(target, name, budget=budget, epses=(1e-6,))
        assert sum(trace.queries for trace in traces) == target.asked
        assert all(trace.queries == budget and not trace.successes for trace in traces)


@pytest.mark.parametrize("name", ATTACKS)
def test_rows_do_not_depend_on_their_company(name: str) -> None:
    """A row is attacked in the same way alone, first, as among others."""
    target = PlaneTarget(near=0.01)
    x, y, starts = toy_targets.plane_rows(target)
    options: dict[str, Any] = {"epses": (0.1,), "budget": 400, "seed": 0}
    together = run(name, "adaptive", target, toy_targets.plane_space(), x, y, starts, **options)
    alone = run(name, "adaptive", target, toy_targets.plane_space(), x[:1], y[:1], starts[:1], **options)
    assert (alone[0].queries, alone[0].first_flag) == (together[0].queries, together[0].first_flag)
    assert alone[0].successes == together[0].successes


def test_a_hidden_attack_sends_unrelated_rows_before_each_query() -> None:
    """Each query of the mode `hidden` comes after two rows of others, from the same account; all sent rows count."""
    target = PlaneTarget()
    x, y, starts = toy_targets.plane_rows(target, 1)
    others = np.full((2, *x.shape[1:]), 0.25, np.float32)
    seen: list[Any] = []
    target.forget = lambda: seen.extend(target.seen.values())  # type: ignore[method-assign]
    options: dict[str, Any] = {"epses": (1e-6,), "budget": 100, "seed": 0, "others": others}
    (trace,) = run("nes", "hidden", target, toy_targets.plane_space(), x, y, starts, **options)
    (rows,) = seen
    hidden = (np.stack(list(rows)) == 0.25).reshape(len(rows), -1).all(1)
    assert trace.queries == len(rows) == 99
    assert hidden.tolist() == [True, True, False] * 33


def test_accounts_take_turns() -> None:
    """In the modes with accounts ten accounts ask in turns; in the other modes one account asks everything."""
    target = PlaneTarget()
    x, y, starts = toy_targets.plane_rows(target, 2)
    options: dict[str, Any] = {"epses": (1e-6,), "budget": 105, "seed": 0}
    asked: dict[Any, int] = {}
    target.forget = lambda: asked.update({client: len(rows) for client, rows in target.seen.items()})  # type: ignore[method-assign]
    run("nes", "accounts", target, toy_targets.plane_space(), x, y, starts, **options)
    assert sorted(asked.values()) == sorted([11, 10] * ACCOUNTS)
    target.seen.clear()
    asked.clear()
    run("nes", "plain", target, toy_targets.plane_space(), x, y, starts, **options)
    assert list(asked.values()) == [105, 105]


@pytest.mark.parametrize("name", ["nes", "square", "boundary", "hop_skip_jump"])
def test_near_queries_are_flagged_at_once(name: str) -> None:
    """A plain attack asks near queries, so that a target which remembers flags it within some queries."""
    traces = attacked(PlaneTarget(near=0.2, shows_flags=False), name, epses=(0.02,), budget=100)
    assert all(trace.first_flag is not None and trace.first_flag <= 20 for trace in traces)


def test_an_adaptive_attack_passes_a_visible_memory() -> None:
    """NES gets no gradient past a target that withholds near labels; the adaptive NES widens until labels come."""
    options: dict[str, Any] = {"near": 0.15, "withholds": True}
    plain = attacked(PlaneTarget(**options), "nes", "plain", budget=600)
    adaptive = attacked(PlaneTarget(**options), "nes", "adaptive", budget=600)
    passed = [sum(trace.passed.get(FAR, False) for trace in traces) for traces in (plain, adaptive)]
    assert passed[0] < passed[1] == 6


def test_without_an_oracle_the_adaptive_attack_asks_far_queries_from_the_start() -> None:
    """If flags are invisible, the adaptive NES is not flagged where the plain NES is."""
    plain = attacked(PlaneTarget(near=0.1, shows_flags=False), "nes", "plain")
    adaptive = attacked(PlaneTarget(near=0.1, shows_flags=False), "nes", "adaptive")
    assert not any(trace.undetected(FAR) for trace in plain)
    assert all(trace.undetected(FAR) for trace in adaptive)


def test_an_attack_without_a_start_gives_up() -> None:
    """An attack by labels alone ends if it finds no row of another class, with the queries of its search."""
    target = PlaneTarget()
    target.normal[:] = 0.0
    traces = attacked(target, "boundary")
    assert all(trace.queries == 20 and not trace.successes for trace in traces)
