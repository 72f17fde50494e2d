"""The board: its seats outlive the processes that used them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.messages.board import ENGINE, Board
from service.messages.seat import PROCESS_VALUES, Seat


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    Board.make(tmp_path / "board", 2)
    board = Board(tmp_path / "board")
    yield board
    board.close()


def test_the_same_places_in_the_same_order(board: Board) -> None:
    """Every reader of a seat takes the same places, and no place is taken twice."""
    seat = board.seat(1)
    first, second = seat.take(3), seat.take((2, 2))
    first[:], second[:] = 1, 2
    again = board.seat(1)
    assert [again.take(3).tolist(), again.take((2, 2)).tolist()] == [[1] * 3, [[2, 2]] * 2]
    assert board.seat(2).take(7).tolist() == [0] * 7


def test_values_of_a_fixed_place_are_no_counters(board: Board) -> None:
    """The figures of a seat's process lie beside the counters, and are not added up with them."""
    seat = board.take_seat()
    counters = seat.take(1)
    counters[0] = 5
    seat.arrive()
    seat.submit(3)
    seat.process[:] = 7
    assert (counters[0], seat.in_flight, seat.submitted, len(seat.process)) == (5, 1, 3, PROCESS_VALUES)
    total = Seat.of_no_board()
    for _ in range(2):
        total.add(seat)
    assert (total.take(1)[0], total.in_flight, total.process.sum()) == (10, 0, 0)


def test_connections_are_those_of_living_fronts(board: Board) -> None:
    """The board adds up the connections of fronts that hold their seat, and a new process begins with none."""
    board.seat(1).connections = 5  # of a front that has died
    assert board.connections == 0
    seat = board.take_seat()
    assert (seat.number, seat.connections) == (1, 0)
    seat.connections = 3
    assert board.connections == 3


def test_a_copy_stays_as_it_was(board: Board) -> None:
    """A frozen seat does not change when its process counts on."""
    seat = board.seat(1)
    counters = seat.take(2)
    counters[:] = 4
    frozen = seat.frozen()
    counters += 1
    assert np.array_equal(frozen.take(2), [4, 4])


def test_a_seat_is_held_by_the_process_that_took_it(board: Board) -> None:
    """A seat that no process took is not held; the engine's seat and the fronts' seats are different."""
    assert not any(board.is_held(number) for number in range(3))
    assert board.take_seat("engine").number == ENGINE
    assert [board.is_held(number) for number in range(3)] == [True, False, False]


def test_a_full_seat_refuses(board: Board) -> None:
    """More counters than the seat has room for raise an error instead of running into the next seat."""
    with pytest.raises(MemoryError, match="no room"):
        board.seat(1).take(1 << 20)


def test_a_process_that_ends_soon_is_started_again_later_each_time(tmp_path: Path) -> None:
    """The first new start is at once; after that each waits longer, up to half a minute, until one lasts."""
    Board.make(tmp_path / "board", 1)
    seat = Board(tmp_path / "board").seat(0)
    now, waited = 1000.0, []
    for _ in range(12):
        waited.append(seat.patience(now))
        now += waited[-1] + 5
    assert waited[:6] == [0, 0, 0.5, 1, 2, 4]
    assert max(waited) <= 30
    assert seat.patience(now + 100) == 0
