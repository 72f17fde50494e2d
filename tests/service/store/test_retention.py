"""The store is bounded in bytes: the oldest rows are deleted first, and counts stay."""

import logging
import math
import time
from collections.abc import Iterator

import pytest
from example_answers import ABSTAIN, answered, confusion, opened, rows_of, write

from guards.config.store import StoreConfig
from service.messages.outcomes import Outcome
from service.steady_clock import SteadyClock
from service.store.prediction_log import Store
from service.store.retention import MIB, Retention
from service.store.tables import DECISIONS, OUTCOMES, PREDICTIONS

ROWS = 2000
"""Rows of a block, small beside the bounds below."""


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """Open an empty store."""
    store = opened(database_url)
    yield store
    store.database.close()


@pytest.fixture
def deleted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Delete in small steps without waiting, and count what was deleted by reason."""
    monkeypatch.setattr("service.store.prediction_log.OLD_ROWS", ROWS)
    monkeypatch.setattr("service.store.retention.JOURNAL_BYTES", 512 * 1024)
    monkeypatch.setattr("service.store.retention.LOOK_SECONDS", 0.0)
    monkeypatch.setattr("service.store.retention.AGAIN_SECONDS", 0.0)
    return {"age": 0, "size": 0}


def kept_within(store: Store, max_bytes: int, deleted: dict[str, int], clock: SteadyClock | None = None) -> Retention:
    """Bound a store more tightly than a config may."""
    config = StoreConfig().model_copy(update={"max_bytes": max_bytes})

    def count(reason: str, rows: int) -> None:
        deleted[reason] += rows

    return Retention(store, config, count, clock or SteadyClock())


def fill(store: Store, retention: Retention, blocks: int, *, start: int = 0, label: str = "yes") -> None:
    """Store blocks, each a second later than the one before, and delete what is too much after each."""
    now = time.time()
    for number in range(start, start + blocks):
        names = [f"{number:04d}-{row}" for row in range(ROWS)]
        write(store, answered(names, [label] * ROWS, time=now + number))
        if label != ABSTAIN:
            store.join([Outcome(name, "yes") for name in names], confusion)
        retention.keep()


def newest_alone(store: Store) -> bool:
    """Tell whether the rows that are left are the newest, without a gap."""
    ids = sorted(row["id"] for row in rows_of(store, PREDICTIONS))
    last = int(ids[-1].partition("-")[0])
    return {int(name.partition("-")[0]) for name in ids} == set(range(last + 1 - math.ceil(len(ids) / ROWS), last + 1))


def test_the_store_stays_within_its_bound(store: Store, deleted: dict[str, int]) -> None:
    """Rows of several times the bound are stored: the newest are left, and every count stays."""
    bound = 3 * MIB
    retention = kept_within(store, bound, deleted)
    fill(store, retention, 30)
    assert newest_alone(store)
    left = len(rows_of(store, PREDICTIONS))
    assert left == len(rows_of(store, OUTCOMES)) == 30 * ROWS - deleted["size"]
    assert ROWS <= left < 20 * ROWS
    assert deleted["age"] == 0
    assert sum(store.totals().totals["confusion"].values()) == 2 * 30 * ROWS
    figures = retention.figures
    assert 0.5 * bound < figures.bytes
    assert figures.oldest == pytest.approx(min(row["time"] for row in rows_of(store, PREDICTIONS)))
    if store.database.file is not None:
        assert figures.bytes < bound + 5 * MIB  # the file within the bound, and its journal
        assert store.database.file.path.stat().st_size <= bound


def test_decisions_go_with_the_rows_of_their_time(store: Store, deleted: dict[str, int]) -> None:
    """Decisions take space too: the oldest go, whether their predictions are stored or not."""
    retention = kept_within(store, 3 * MIB, deleted)
    fill(store, retention, 20, label=ABSTAIN)
    fill(store, retention, 6, label=ABSTAIN)  # the ids of rows that may have gone, and of rows that have not
    decided = {row["id"] for row in rows_of(store, DECISIONS)}
    assert len(decided) < 20 * ROWS
    assert deleted["size"] > 0


def test_a_bound_that_was_lowered_deletes_step_by_step(
    store: Store, deleted: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    """Each call deletes one step; the file keeps its size, which the log says, and does not grow any more."""
    fill(store, kept_within(store, 100 * MIB, deleted), 20)
    assert deleted["size"] == 0
    retention = kept_within(store, 2 * MIB, deleted)
    retention.keep()
    assert 0 < deleted["size"] <= 2 * ROWS
    for _ in range(20):
        retention.keep()
    gone = deleted["size"]
    assert len(rows_of(store, PREDICTIONS)) == 20 * ROWS - gone > 0
    retention.keep()
    assert deleted["size"] == gone
    if store.database.file is not None:
        assert "VACUUM" in caplog.text
        size = store.database.file.path.stat().st_size
        fill(store, retention, 5, start=20)
        assert store.database.file.path.stat().st_size == size


def test_the_bound_is_told_at_start(store: Store, deleted: dict[str, int], caplog: pytest.LogCaptureFixture) -> None:
    """One line gives days and bytes, and the number of rows of the size that rows have here."""
    with caplog.at_level(logging.INFO, "guardhouse"):
        retention = kept_within(store, 2048 * MIB, deleted)
        retention.keep()
        retention.keep()
    (line,) = [record.getMessage() for record in caplog.records if "the store keeps rows" in record.getMessage()]
    assert "90 days or 2048 MiB" in line
    assert "million rows" in line
    assert math.isnan(retention.figures.oldest)


def test_what_is_not_made_of_rows_is_no_reason_to_go_on(
    store: Store, deleted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store without rows that is over its bound waits before it looks again."""
    retention = kept_within(store, 1, deleted)
    monkeypatch.setattr("service.store.retention.LOOK_SECONDS", 600.0)
    retention.keep()
    monkeypatch.setattr(store, "purge_oldest", lambda: pytest.fail("there is nothing to delete"))
    retention.keep()
    assert deleted == {"age": 0, "size": 0}


@pytest.mark.parametrize("max_bytes", [0, 1, 32 * MIB - 1, -1])
def test_a_bound_without_room_is_a_mistake(max_bytes: int) -> None:
    """Less than 32 MiB leaves no room for the journal."""
    with pytest.raises(ValueError, match="33554432"):
        StoreConfig(max_bytes=max_bytes)


@pytest.mark.parametrize("days", [400, -400])
def test_a_jump_of_the_clock_deletes_nothing_for_a_day(store: Store, deleted: dict[str, int], days: int) -> None:
    """Rows that were answered before and after the jump stay; a day later the clock is believed."""
    day, start = 86400.0, time.time()
    wall, boot = start, 0.0
    clock = SteadyClock(lambda: wall, lambda: boot)
    answered_by = SteadyClock(lambda: wall, lambda: boot, quiet=True)  # the engine's
    retention = kept_within(store, MIB * 1024, deleted, clock)
    write(store, answered(["before"], time=answered_by.now()))
    retention.keep()
    wall += days * day
    write(store, answered(["after"], time=answered_by.now()))
    for _ in range(20):
        wall, boot = wall + 3600, boot + 3600
        retention.keep()
    assert deleted["age"] == 0
    for _ in range(10):
        wall, boot = wall + 3600, boot + 3600
        retention.keep()
    assert deleted["age"] == (2 if days > 0 else 0)


def test_a_clock_by_which_every_row_is_too_old_is_doubted(
    store: Store, deleted: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    """A server that starts with a clock far ahead deletes nothing for a day, and says why once."""
    start = time.time()
    write(store, answered(["a", "b"], time=start))
    wall, boot = start + 400 * 86400.0, 0.0
    retention = kept_within(store, MIB * 1024, deleted, SteadyClock(lambda: wall, lambda: boot))
    for _ in range(23):
        retention.keep()
        wall, boot = wall + 3600, boot + 3600
    assert deleted["age"] == 0
    assert caplog.text.count("every stored row is older than store.retention_days") == 1
    for _ in range(3):
        wall, boot = wall + 3600, boot + 3600
        retention.keep()
    assert deleted["age"] == 2
