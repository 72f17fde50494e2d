"""Totals that are shown: they never change by a few rows, and they follow the database."""

from hypothesis import given
from hypothesis import strategies as st

from service.monitoring.released_sums import ReleasedSums
from service.monitoring.sums import Sums

LEAST = 10


def sums(answers: int, outcomes: int) -> Sums:
    """Make totals of so many rows and outcomes."""
    return Sums({}, rows={"answers": answers, "outcomes": outcomes})


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), min_size=1, max_size=40))
def test_shown_totals_change_by_no_rows_or_by_many(steps: list[tuple[int, int]]) -> None:
    """Whatever arrives between two reports, what one shows and the other does not is of no row, or of ten or more."""
    released, answers, outcomes = ReleasedSums(LEAST), 0, 0
    shown = sums(0, 0)
    for more_answers, more_outcomes in [(0, 0), *steps]:
        answers, outcomes = answers + more_answers, outcomes + more_outcomes
        now = released.of("bundle", lambda: sums(answers, outcomes))  # noqa: B023 - called at once
        for stage, count in now.rows.items():
            assert count - shown.rows[stage] == 0 or count - shown.rows[stage] >= LEAST
        shown = now
    late = [answers - shown.rows["answers"], outcomes - shown.rows["outcomes"]]
    assert max(late) < LEAST or 0 < min(late) < LEAST  # nothing waits without a reason


def test_a_few_outcomes_do_not_show_beside_many_rows() -> None:
    """As long as a few outcomes are new, the totals stay; the tenth outcome releases everything."""
    released = ReleasedSums(LEAST)
    assert released.of("bundle", lambda: sums(50, 0)) == sums(50, 0)
    assert released.of("bundle", lambda: sums(90, 9)) == sums(50, 0)
    assert released.of("version", lambda: sums(90, 9)) == sums(90, 9)  # of each scope apart
    assert released.of("bundle", lambda: sums(91, 10)) == sums(91, 10)


def test_another_database_is_shown_at_once() -> None:
    """If the file was lost, there are fewer rows than before, and the totals of the new file are shown."""
    released = ReleasedSums(LEAST)
    released.of("bundle", lambda: sums(50, 20))
    assert released.of("bundle", lambda: sums(1, 0)) == sums(1, 0)


def test_what_an_admin_changed_is_shown_at_once() -> None:
    """After a change of what counts, the next report is of the totals as they are."""
    released = ReleasedSums(LEAST)
    released.of("bundle", lambda: sums(50, 20))
    assert released.of("bundle", lambda: sums(51, 20)) == sums(50, 20)
    released.forget()
    assert released.of("bundle", lambda: sums(51, 20)) == sums(51, 20)


def test_one_row_may_be_shown_if_everybody_is_one_caller() -> None:
    """With the smallest count of 1, the totals are the database's."""
    released = ReleasedSums(1)
    for rows in range(5):
        assert released.of("bundle", lambda: sums(rows, rows)) == sums(rows, rows)  # noqa: B023 - called at once
