"""Who waits for whom at the interpreter."""

import sys
import threading
import time

import pytest

from service import turns
from service.turns import Turns


def test_others_wait_until_the_turn_is_over() -> None:
    """Whoever gives way goes on only after the turn that was taken has ended, or has been given."""
    line, order = Turns(), list[str]()

    def passer() -> None:
        line.give_way()
        order.append("passed")

    with line.taken():
        thread = threading.Thread(target=passer)
        line._since = time.perf_counter() + 60  # a turn that has only begun, however slow the machine
        thread.start()
        order.append("worked")
        with line.given():
            thread.join(10)
        order.append("finished")
    assert order == ["worked", "passed", "finished"]


def test_nobody_waits_without_a_turn_taken() -> None:
    """Where no turn is taken, or it was left by an exception, giving way is nothing."""
    line = Turns()
    line.give_way()
    with pytest.raises(KeyError), line.taken():
        raise KeyError
    with pytest.raises(KeyError), line.taken(), line.given():
        raise KeyError
    line.give_way()
    with line.taken():
        pass


def test_a_long_turn_is_not_waited_for() -> None:
    """The event loop goes on after some milliseconds, whatever the device's thread does."""
    line = Turns()
    with line.taken():
        line.give_way()  # would never come back, were it not bounded: the turn is this very thread's
        line._since -= 60
        line.give_way()


def test_turns_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that asks for the interpreter is let in after a tenth of a millisecond."""
    asked: list[float] = []
    monkeypatch.setattr(sys, "setswitchinterval", asked.append)
    turns.shorten()
    assert asked == [turns.TURN_SECONDS]
