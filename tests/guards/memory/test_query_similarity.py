"""Which sequences of queries query_similarity takes for an attack, and what it refuses to be fitted on."""

from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from guards.memory.honest_clients import KINDS, honest_queries
from guards.memory.query_similarity import BETS, QuerySimilarity, QuerySimilarityParams
from guards.memory.watch import Judged, Watch
from guards.testing import example
from guards.testing.example import Kind
from guards.types import Batch, Reference

ALL: tuple[Kind, ...] = ("tabular", "image", "tensor")


@cache
def fitted(kind: Kind, **params: Any) -> QuerySimilarity:
    made = example(kind, count=600)
    with torch.inference_mode():
        guard = QuerySimilarity(QuerySimilarityParams(name="q", **params))
        return guard.fit(made.reference).calibrate(made.calibration)


def asked(guard: QuerySimilarity, rows: Tensor) -> Judged:
    with torch.inference_mode():
        return Watch([guard]).judge(Batch(rows), ["client"] * len(rows)).guards[0]


def around(row: Tensor, count: int, noise: float, kind: Kind) -> Tensor:
    change = noise * torch.randn((count, *row.shape), generator=torch.Generator().manual_seed(0))
    if kind == "tabular":
        change[:, 3] = 0.0
    return row + change


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("noise", [0.001, 0.03])
def test_rows_around_one_row_are_flagged_within_twenty_queries(kind: Kind, noise: float) -> None:
    """Queries that are scattered around one row are flagged by the twentieth, and not by the eighth."""
    flagged = asked(fitted(kind), around(example(kind).rows.x[5].nan_to_num(0.0), 40, noise, kind)).flagged
    assert flagged[19:].all()
    assert not flagged[:8].any()


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("client", KINDS)
def test_honest_clients_are_not_flagged(kind: Kind, client: str) -> None:
    """A client of a kind that calibration knows is not flagged when it asks rows that calibration does not know."""
    guard = fitted(kind)
    with torch.inference_mode():
        rows = honest_queries(client, example(kind).rows.x, guard.codes, 240, torch.Generator().manual_seed(77))
    assert not asked(guard, rows).flagged.any()


@pytest.mark.parametrize("kind", ALL)
def test_an_attack_over_ten_accounts_is_flagged(kind: Kind) -> None:
    """Nearly the same row from ten accounts in turns is flagged by the 40th query; with `crowd: 0` it is not."""
    rows = around(example(kind).rows.x[5].nan_to_num(0.0), 60, 0.003, kind)
    for crowd in (16, 0):
        with torch.inference_mode():
            watch = Watch([fitted(kind, crowd=crowd)])
            flagged = watch.judge(Batch(rows), [str(row % 10) for row in range(60)]).guards[0].flagged
        assert flagged[39:].all() == bool(crowd)
        assert not flagged[:16].any()


@pytest.mark.parametrize("kind", ALL)
def test_many_honest_clients_together_are_not_flagged(kind: Kind) -> None:
    """Clients of all kinds who ask in turns are flagged for at most 2 rows in 1,000."""
    guard, generator = fitted(kind), torch.Generator().manual_seed(78)
    with torch.inference_mode():
        rows = example(kind, count=600).rows.x
        asked = [honest_queries(name, rows, guard.codes, 50, generator) for name in list(KINDS) * 4]
        watch, flagged = Watch([guard]), 0
        for turn in torch.stack(asked, 1):
            judgement = watch.judge(Batch(turn), [str(client) for client in range(len(asked))])
            watch.remember(judgement, 0, len(asked))
            flagged += int(judgement.guards[0].flagged.sum())
    assert flagged <= 2


def test_a_straight_way_is_no_attack_and_its_rows_in_random_order_are() -> None:
    """The frames of a slow film are not flagged; the same frames in random order, which do not drift, are flagged."""
    guard, rows = fitted("image"), example("image").rows.x
    share = torch.linspace(0, 0.3, 60).reshape(-1, 1, 1, 1)
    film = rows[0] * (1 - share) + rows[1] * share
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    assert not asked(guard, film).flagged.any()
    assert asked(guard, film[order]).flagged.any()


def test_evidence_ends_within_bounds_and_fades() -> None:
    """However long an attack lasts, its evidence stays within a bound, and fifty honest queries clear the client."""
    guard, rows = fitted("image"), example("image").rows.x
    judged = asked(guard, torch.cat([around(rows[0], 300, 0.01, "image"), rows[1:100]]))
    assert judged.evidence.max() <= BETS[0][2] * guard.params.average_run_length
    assert judged.flagged[299]
    assert not judged.flagged[350:].any()


def test_the_score_rises_with_likeness() -> None:
    """The score of a row among its own copies is larger than the score of a clean row among clean rows."""
    guard, rows = fitted("image"), example("image").rows.x
    copies = asked(guard, around(rows[0], 30, 0.001, "image"))
    assert copies.score[-1] > asked(guard, rows[:30]).score[-1]


def test_foreign_rows_are_no_attack() -> None:
    """A client whose rows are all foreign, but unlike one another, is not flagged."""
    guard, rows = fitted("image"), example("image").rows.x
    assert not asked(guard, 1 - 3 * rows[:200]).flagged.any()


def test_too_few_calibration_rows_are_refused() -> None:
    """Fewer calibration rows than twice the window are refused with the number that is needed."""
    made = example("image")
    guard = QuerySimilarity(QuerySimilarityParams(name="q")).fit(made.reference)
    with pytest.raises(ValueError, match=r"needs at least 128 calibration rows, twice its window, but there are 100"):
        guard.calibrate(made.calibration[:100])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (torch.ones(50, 3, 8, 6), "all rows of the reference are alike"),
        (torch.rand(1, 3, 8, 6), "at least two reference rows"),
        (torch.full((50, 3, 8, 6), torch.nan), "finite reference rows"),
    ],
)
def test_references_without_directions_are_refused(rows: Tensor, said: str) -> None:
    """A reference whose rows do not differ, or are too few, or are not finite, is refused."""
    guard = QuerySimilarity(QuerySimilarityParams(name="q"))
    with pytest.raises(ValueError, match=said):
        guard.fit(Reference(Batch(rows), None, example("image").context.schema))


def test_loading_a_state_replaces_the_tables() -> None:
    """A guard that has judged and then loads the state of another guard judges as the other guard does."""
    guard, copies = deepcopy(fitted("image")), around(example("image").rows.x[0], 30, 0.001, "image")
    assert asked(guard, copies).flagged[-1]
    state = guard.state_dict()
    guard.load_state_dict({**state, "distances": 0 * state["distances"]})
    assert not asked(guard, copies).flagged.any()
