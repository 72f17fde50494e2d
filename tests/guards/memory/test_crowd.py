"""What is held of all clients' queries, and when queries of several clients are evidence of one attack."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guards.memory.crowd import Crowd, Queries, owner
from guards.memory.crowd_evidence import CROWD_LEVELS, CrowdRule, judged_among
from guards.memory.evidence import E_VALUES

K = 8
RULE = CrowdRule(K, np.linspace(0.1, 0.2, len(CROWD_LEVELS)), 1024)
NOTHING = E_VALUES[-1]


def queries(points: npt.ArrayLike, clients: list[str], digests: list[int] | None = None) -> Queries:
    """Make queries at points (n,) on a line where rows are one apart."""
    at = np.asarray(points, np.float32)
    codes = np.stack([at, np.zeros_like(at), np.ones_like(at)], 1)
    owners = np.array([owner(client) for client in clients], np.uint64)
    return Queries(codes, list(range(len(at))) if digests is None else digests, owners, np.zeros(len(at)))


def weighed(asked: Queries, cuts: list[int] | None = None) -> list[float]:
    """Weigh queries in batches, and hold each batch before the next."""
    crowd, found = Crowd(3, RULE.size), []
    for start, stop in pairwise(cuts or [0, len(asked)]):
        part = slice(start, stop)
        some = Queries(asked.codes[part], asked.digests[part], asked.owners[part], asked.evidence[part])
        evidence = judged_among(RULE.among, some, crowd).evidence
        crowd.add(Queries(some.codes, some.digests, some.owners, evidence))
        found += evidence.tolist()
    return found


def attack(count: int, accounts: int) -> Queries:
    points = np.random.default_rng(0).uniform(-0.03, 0.03, count)
    return queries(points, [str(place % accounts) for place in range(count)])


def test_the_last_different_queries_are_held() -> None:
    """A ring holds the last queries, each row once, and finds them by their digests."""
    crowd = Crowd(3, 4)
    crowd.add(queries([0, 1, 1, 2], ["a"] * 4, [10, 11, 11, 12]))
    assert len(crowd) == 3
    crowd.add(queries([3, 4], ["b"] * 2, [13, 14]))
    assert crowd.place(10) is None
    assert [crowd.points[crowd.place(digest), 0] for digest in (11, 12, 13, 14)] == [1, 2, 3, 4]


@pytest.mark.parametrize("accounts", [5, 10, 1000])
def test_an_attack_over_accounts_is_evidence_after_the_neighbours(accounts: int) -> None:
    """Whatever the number of accounts, evidence begins once enough queries of others are near, and grows sixfold."""
    found = weighed(attack(60, accounts))
    assert found[:K] == [NOTHING] * K
    begun = next(place for place, evidence in enumerate(found) if evidence > 1)
    assert begun <= 2 * K
    assert found[begun + 7] > 1e5


@pytest.mark.parametrize("accounts", [1, 2, 4])
def test_few_clients_are_no_crowd(accounts: int) -> None:
    """Queries of fewer than four other clients are no evidence here, however many and near: a film is one client's."""
    assert max(weighed(attack(200, accounts))) == NOTHING


def test_exact_repeats_are_no_evidence() -> None:
    """A row that every client asks in the same bytes is no evidence, and keeps the evidence that it had."""
    same = queries(np.zeros(200), [str(place) for place in range(200)], [7] * 200)
    assert max(weighed(same)) == NOTHING
    spread = attack(60, 10)
    again = Queries(
        np.concatenate([spread.codes, spread.codes[-1:]]), [*spread.digests, 59],
        np.append(spread.owners, np.uint64(5)), np.zeros(61),
    )  # fmt: skip
    found = weighed(again)
    assert found[60] == found[59]


def test_rows_that_lie_apart_are_no_evidence() -> None:
    """Many clients whose rows are farther apart than independent rows are raise nothing."""
    assert max(weighed(queries(np.arange(300), [str(place) for place in range(300)]))) == NOTHING


@given(st.lists(st.integers(1, 59), unique=True).map(sorted))
def test_evidence_does_not_depend_on_batches(cuts: list[int]) -> None:
    """The same queries raise the same evidence, however they are cut into batches."""
    asked = attack(60, 10)
    assert weighed(asked, [0, *cuts, 60]) == pytest.approx(weighed(asked), rel=1e-6)
