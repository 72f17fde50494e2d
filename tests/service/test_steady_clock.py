"""A clock that jumps: what goes by the steady clock does not notice, and the log says so once."""

import logging

import pytest

from service.steady_clock import SteadyClock

DAY = 86400.0
START = 1_800_000_000.0


class Clocks:
    """The system's clock and the clock since boot, both set by hand."""

    def __init__(self) -> None:
        self.wall, self.boot = START, 500.0
        self.steady = SteadyClock(lambda: self.wall, lambda: self.boot)

    def pass_(self, seconds: float, *, every: float = 600.0) -> float:
        """Let time pass, in steps in which somebody asks."""
        for _ in range(round(seconds / every)):
            self.wall, self.boot = self.wall + every, self.boot + every
            self.steady.now()
        return self.steady.now() - START


@pytest.mark.parametrize("jump", [400 * DAY, -400 * DAY, 3600.0, -61.0])
def test_a_jump_is_not_followed_until_the_clock_ran_for_a_day(jump: float, caplog: pytest.LogCaptureFixture) -> None:
    """The jump has one line when it is seen, and one line when the clock is believed."""
    clocks = Clocks()
    with caplog.at_level(logging.WARNING, "guardhouse"):
        assert clocks.pass_(DAY) == pytest.approx(DAY)
        clocks.wall += jump
        assert clocks.pass_(DAY - 600) == pytest.approx(2 * DAY - 600)
        assert [record.getMessage() for record in caplog.records] == [
            f"the system's clock jumped by {jump:+.0f} s: the jump is ignored for a day"
        ]
        assert clocks.pass_(1200) == pytest.approx(2 * DAY + 600 + jump)
        assert len(caplog.records) == 2


def test_a_jump_that_is_taken_back_was_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """If the clock is put right within a day, no time was ever wrong."""
    clocks = Clocks()
    clocks.wall += 30 * DAY
    assert clocks.pass_(7200) == pytest.approx(7200)
    clocks.wall -= 30 * DAY
    assert clocks.pass_(3 * DAY) == pytest.approx(3 * DAY + 7200)
    assert len(caplog.records) == 1


def test_small_corrections_are_followed(caplog: pytest.LogCaptureFixture) -> None:
    """A clock that is corrected by some seconds at a time is the time, however far it goes."""
    clocks = Clocks()
    for _ in range(20):
        clocks.wall += 50
        clocks.pass_(600)
    assert clocks.steady.now() == clocks.wall
    assert not caplog.records


def test_a_clock_that_jumps_again_begins_anew() -> None:
    """Only a clock that ran steadily for a day is believed."""
    clocks = Clocks()
    for _ in range(5):
        clocks.wall += 10 * DAY
        clocks.pass_(DAY / 2)
    assert clocks.steady.now() - START == pytest.approx(2.5 * DAY)
