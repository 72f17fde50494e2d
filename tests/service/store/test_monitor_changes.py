"""Changes of the monitors in the store: what is interrupted is finished, and servers do not count past a change."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from example_answers import SETTINGS, answered, block, confusion, matrix, opened, rows_of
from waiting import until

from guards.monitors.answered_rows import Records
from service.messages.monitor_changes import Change
from service.messages.outcomes import Outcome
from service.messages.row_name import row_name
from service.monitoring.sums import Tallies
from service.store import exclusions
from service.store.local_store import LocalStore
from service.store.prediction_log import Store
from service.store.recorder import Recorder
from service.store.tables import MONITOR_CHANGES

NOTHING = [[0, 0, 0]] * 3
SHOP = [row_name("shop", str(number)) for number in range(25)]


def tally(records: Records) -> Tallies:
    return confusion(records.counted_by("confusion"))


def write(store: Store, names: list[str], time: float = 1000.0) -> None:
    rows = block(answered(names, time=time))
    store.write(rows, tally(rows.records), tally)


def exclude(principal: str = "shop") -> Change:
    return Change("exclude", principal, "junk", "boss")


def test_a_change_is_on_record(store: Store) -> None:
    """The table has who changed what, when, why, and of which bundle; the report shows the newest first."""
    store.change(exclude(), tally)
    store.change(Change("reset", "confusion", "after the attack", "boss"), tally)
    first, second = rows_of(store, MONITOR_CHANGES)
    assert (first["kind"], first["subject"], first["by"], first["reason"]) == ("exclude", "shop", "boss", "junk")
    assert (second["kind"], second["subject"], second["bundle"]) == ("reset", "confusion", store.edition.bundle)
    assert first["time"] <= second["time"]
    standing = store.standing()
    assert [change.kind for change in standing.changes] == ["reset", "exclude"]
    assert standing.resets["confusion"].time == second["time"]


def test_a_reset_of_one_bundle_leaves_other_bundles(store: Store, database_url: str) -> None:
    """The totals of another bundle stay, and outcomes of its rows still count for it."""
    other = opened(database_url, replace(store.edition, bundle="sha256:1"))
    write(store, SHOP[:2])
    write(other, SHOP[2:4])
    other.change(Change("reset", "confusion", "why", "boss"), tally)
    assert matrix(other.totals().totals) == NOTHING
    assert other.standing().resets.keys() == {"confusion"}
    assert store.standing().resets == {}
    store.join([Outcome(name, "yes") for name in SHOP[:4]], tally)
    assert matrix(other.totals().totals) == NOTHING
    assert matrix(store.totals().totals) == [[0, 0, 0], [2, 0, 2], [0, 0, 0]]
    other.database.close()


def test_an_interrupted_exclusion_is_finished_after_a_start(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the process dies in the middle of many rows, the next process takes out the others, and none twice."""
    monkeypatch.setattr(exclusions, "STEP", 10)
    write(store, [*SHOP, "free"])
    steps = iter(range(1, 3))

    def dies(records: Records) -> Tallies:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return tally(records)

    with pytest.raises(KeyboardInterrupt):
        store.change(exclude(), dies)
    assert 0 < matrix(store.totals().totals)[1][0] < 26
    recorder = Recorder(
        LocalStore(store, SETTINGS), tally, queue_rows=10, count=lambda *_: None, count_deleted=lambda *_: None
    )
    until(lambda: matrix(store.totals().totals) == [[0, 0, 0], [1, 0, 0], [0, 0, 0]])
    recorder.close()


def test_recent_rows_begin_anew_with_an_exclusion(store: Store) -> None:
    """Which rows are in a block of recent rows is not recorded, so an exclusion deletes all of them."""
    write(store, SHOP)
    assert store.totals().blocks["answers"]
    store.change(exclude(), tally)
    assert not store.totals().blocks["answers"]
    write(store, [row_name("web", "1")])
    (recent,) = store.totals().blocks["answers"]
    assert sum(recent["confusion"].values()) == 1


def test_rows_that_nobody_counts_do_not_push_out_recent_rows(store: Store) -> None:
    """A principal that no monitor trusts cannot fill the blocks of recent rows."""
    import numpy as np

    write(store, [row_name("web", "1")])
    rows = block(replace(answered(SHOP), skipped={"confusion": np.ones(len(SHOP), np.bool_)}))
    store.write(rows, tally(rows.records), tally)
    store.join([Outcome(name, "yes") for name in SHOP], tally)
    assert matrix(store.totals().totals) == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert store.totals().blocks["outcomes"] == []
    assert len(store.totals().blocks["answers"]) == 1


def test_no_row_slips_past_a_change(store: Store, database_url: str) -> None:
    """While one server excludes a principal, another writes its rows and outcomes: at the end none of them counts."""
    other = opened(database_url)
    other.prepare()
    started, names = threading.Event(), [row_name("shop", f"late-{number}") for number in range(40)]

    def slow(records: Records) -> Tallies:
        started.set()
        return tally(records)

    def writing() -> None:
        for name in names:
            rows = block(answered([name, "free" + name]))
            other.write(rows, slow(rows.records), slow)
            other.join([Outcome(name, "yes")], slow)

    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(writing)
        assert started.wait(60)
        store.change(exclude(), tally)
        written.result(120)
    assert matrix(store.totals().totals) == [[0, 0, 0], [len(names), 0, 0], [0, 0, 0]]
    other.database.close()


def test_rows_of_earlier_versions_stay(store: Store) -> None:
    """Rows without flags were stored by an earlier version; their counts are not known, so they stay in the totals."""
    from sqlalchemy import text

    write(store, SHOP[:3])
    store.database.write(lambda connection: connection.execute(text("UPDATE predictions SET flags = NULL")))
    assert store.change(exclude(), tally).rows == 0
    assert matrix(store.totals().totals)[1][0] == 3


def test_a_repeated_id_is_told_to_its_owner_alone(store: Store) -> None:
    """Feedback says that an id was used again; a block that is written twice after an error is no repetition."""
    write(store, [SHOP[0], row_name("web", "0")], time=1.0)
    write(store, [SHOP[0], row_name("web", "0")], time=1.0)

    def told(*names: str) -> Any:
        return store.join([Outcome(name, "yes") for name in names], tally).repeated

    assert told(SHOP[0], row_name("web", "0")) == []
    write(store, [SHOP[0]], time=2.0)
    write(store, [SHOP[1], SHOP[1]], time=3.0)
    assert told(row_name("web", "0"), SHOP[0], SHOP[1]) == [1, 2]
