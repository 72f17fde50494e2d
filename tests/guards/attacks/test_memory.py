"""Attacks on a target with guards with memory: who is remembered, and what an attacker can see of it."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import tiny_models

from guards.attacks.chosen_rows import choose
from guards.attacks.pipeline_target import PipelineTarget
from guards.attacks.runner import Mode, Trace, run
from guards.attacks.space import Space
from guards.attacks.target import Client

EPS = 1e-3
"""So near that no attack succeeds, and every query is a near neighbour of the row."""


@cache
def target(**changes: Any) -> PipelineTarget:
    guard = {"name": "queries", "kind": "query_similarity", **changes}
    return PipelineTarget(tiny_models.fitted("image", memory_guards=[guard], guards=[]).bundle)


def attacked(asked: PipelineTarget, mode: Mode, count: int, budget: int = 100) -> list[Trace]:
    rows = tiny_models.rows("image", 60, 90)
    space = Space.of(tiny_models.schema("image"), rows.x.numpy())
    chosen = choose(rows, tiny_models.schema("image"), asked, count=count, seed=0)
    labels = chosen.y.tolist()
    return run("nes", mode, asked, space, chosen.x, labels, chosen.starts, epses=(EPS,), budget=budget, seed=0)


def test_an_attack_is_flagged_by_what_its_account_asked_before() -> None:
    """One account that asks near queries is flagged after some, not at the first; ten accounts later than one."""
    asked = target()
    plain, accounts = attacked(asked, "plain", 4), attacked(asked, "accounts", 4)
    firsts = [[trace.first_flag or np.inf for trace in traces] for traces in (plain, accounts)]
    assert all(1 < one <= 40 for one in firsts[0])
    assert np.median(firsts[1]) > np.median(firsts[0])


def test_attacks_on_other_rows_are_not_remembered_together() -> None:
    """An attack is flagged at the same query alone as among attacks on other rows."""
    alone, among = attacked(target(), "accounts", 1), attacked(target(), "accounts", 4)
    assert alone[0].first_flag == among[0].first_flag


def test_a_run_begins_without_a_memory() -> None:
    """A second run on the same target is flagged at the same queries as the first."""
    asked = target()
    first, second = attacked(asked, "plain", 2), attacked(asked, "plain", 2)
    assert [trace.first_flag for trace in first] == [trace.first_flag for trace in second]


@pytest.mark.parametrize(("changes", "shown"), [({}, False), ({"visible": True}, True), ({"action": "reject"}, True)])
def test_an_attacker_sees_what_an_answer_shows(changes: dict[str, Any], shown: bool) -> None:
    """An invisible flag is counted and not shown; a visible flag and a missing label are the attacker's oracle."""
    asked = target(**changes)
    assert asked.shows_flags == shown
    row = tiny_models.inputs("image", 1, 3).numpy()
    near = np.clip(row + 1e-4 * np.random.default_rng(0).standard_normal((80, 1, 6, 6)), 0, 1).astype(np.float32)
    answers = asked.ask(near, [Client("a", 0)] * 80)
    assert answers.flagged.any()
    assert (answers.refused == (answers.flagged & shown)).all()
    alone = asked.alone(near)
    assert not alone.flagged.any()
