"""Which rows a monitor counts, and for which reason a row is skipped."""

import numpy as np

from guards.monitors.bins import BinsParams
from guards.monitors.sequential import SequentialParams
from service.monitoring.teaching import Teaching

CLEAN = np.zeros(4, np.bool_)


class Counted:
    """What was counted: rows by monitor and reason."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], int] = {}

    def __call__(self, monitor: str, reason: str, rows: int) -> None:
        self.rows[monitor, reason] = self.rows.get((monitor, reason), 0) + rows


def names(*owners: str) -> list[str]:
    return [f"\\@{owner}/{place}" for place, owner in enumerate(owners)]


def test_without_rules_every_monitor_counts_every_row() -> None:
    """A config without keys of trust, on a server where nobody is excluded, skips nothing and counts nothing."""
    count = Counted()
    assert Teaching([BinsParams(name="all")], count).sort(names(*"abab"), CLEAN) == ({}, {})
    assert count.rows == {}


def test_a_monitor_counts_its_principals_alone() -> None:
    """Rows of other principals, and rows without a principal, are skipped by this monitor and by no other."""
    count = Counted()
    teaching = Teaching([BinsParams(name="trusting", principals=("a",)), BinsParams(name="all")], count)
    by_rule, at_all = teaching.sort([*names("a", "b", "a"), "nobody"], CLEAN)
    assert {name: marks.tolist() for name, marks in at_all.items()} == {"trusting": [False, True, False, True]}
    assert by_rule.keys() == at_all.keys()
    assert count.rows == {("trusting", "principal"): 2}


def test_excluded_rows_count_nowhere_and_leave_the_rules_as_they_are() -> None:
    """An excluded row is skipped by every monitor; the store may put it back, but not into a bounded share."""
    count = Counted()
    teaching = Teaching([BinsParams(name="bounded", principal_share=0.5), BinsParams(name="all")], count)
    teaching.excluded = frozenset({"b"})
    by_rule, at_all = teaching.sort(names(*"abab"), CLEAN)
    assert sorted(at_all) == ["all", "bounded"]
    assert all(marks.tolist() == [False, True, False, True] for marks in at_all.values())
    assert set(by_rule) == {"bounded"}
    assert count.rows == {("bounded", "excluded"): 2, ("all", "excluded"): 2}


def test_flagged_rows_of_a_clean_monitor_are_counted_as_skipped() -> None:
    """A monitor of clean rows leaves flagged rows out by itself; they count as skipped, and take no share."""
    count = Counted()
    params = SequentialParams(name="drift", include="clean", principal_share=0.001)
    by_rule, at_all = Teaching([params], count).sort(names(*"aaab"), np.array([True, True, False, False]))
    assert by_rule == at_all == {}
    assert count.rows == {("drift", "flagged"): 2}
