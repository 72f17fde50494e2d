"""The bound on a principal's share holds for every order of rows, and refuses nobody who stays below it."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from service.monitoring import teaching
from service.monitoring.teaching import SHARE_ROWS, ShareWindow

OWNERS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 700)), max_size=12)
"""Runs of rows: a principal, and how many rows it sends in a row."""
SHARES = st.sampled_from([0.001, 0.1, 0.25, 0.29, 0.5, 0.57, 0.9, 0.999])


def rows_of(runs: list[tuple[str, int]]) -> list[str]:
    return [owner for owner, length in runs for _ in range(length)]


@given(OWNERS, SHARES)
def test_no_principal_has_more_than_its_share(runs: list[tuple[str, int]], share: float) -> None:
    """Of any 1000 rows in a row that are taken, no principal has more than the share, whatever the order."""
    window = ShareWindow(share)
    taken = [owner for owner in rows_of(runs) if window.take(owner)]
    held: Counter[str] = Counter()
    for place, owner in enumerate(taken):
        held[owner] += 1
        if place >= SHARE_ROWS:
            held[taken[place - SHARE_ROWS]] -= 1
        assert held[owner] <= share * SHARE_ROWS + 1e-6


@given(OWNERS, SHARES)
def test_nobody_below_the_share_is_refused(runs: list[tuple[str, int]], share: float) -> None:
    """A row is refused only if its principal has its share of the last 1000 taken rows; otherwise it is taken."""
    window, taken = ShareWindow(share), list[str]()
    for owner in rows_of(runs):
        would_have = (
            taken[len(taken) - SHARE_ROWS + 1 :].count(owner) if len(taken) >= SHARE_ROWS else taken.count(owner)
        )
        allowed = would_have + 1 <= share * SHARE_ROWS + 1e-6
        assert window.take(owner) is allowed
        if allowed:
            taken.append(owner)


@given(st.permutations("aabbccdd"), st.integers(1, 400))
def test_principals_that_take_turns_are_all_counted(turn: list[str], turns: int) -> None:
    """If every principal sends exactly its share in turns, no row is refused, however long the stream is."""
    window = ShareWindow(0.25)
    assert all(window.take(owner) for _ in range(turns) for owner in turn)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5)), max_size=8), st.integers(1, 7))
def test_decisions_do_not_depend_on_batches(runs: list[tuple[str, int]], size: int) -> None:
    """Rows that are sorted in one go and rows that are sorted in small batches are counted alike."""
    import numpy as np

    from guards.monitors.bins import BinsParams

    params = [BinsParams(name="m", principals=("a", "b"), principal_share=0.002), BinsParams(name="all")]
    names = [f"\\@{owner}/{place}" for place, owner in enumerate(rows_of(runs))]

    def skipped(step: int) -> list[bool]:
        sorter = teaching.Teaching(params, lambda *_: None)
        found: list[bool] = []
        for start in range(0, len(names), step):
            some = names[start : start + step]
            by_rule, at_all = sorter.sort(some, np.zeros(len(some), np.bool_))
            assert set(at_all) <= {"m"}
            assert set(by_rule) == set(at_all)
            found += at_all["m"].tolist() if "m" in at_all else [False] * len(some)
        return found

    assert skipped(size) == skipped(max(1, len(names)))
