"""The store, on SQLite and on PostgreSQL: rows are kept, joined and counted, each once."""

import json
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from example_answers import ABSTAIN, EDITION, answered, block, confusion, matrix, opened, regressed, rows_of, write
from gateways import free_port
from sqlalchemy import URL, Connection, text

from guards.statistics.recent_blocks import BLOCK_ROWS, BLOCKS
from guards.types import Mistake
from service.messages.outcomes import Outcome
from service.messages.row_name import row_name
from service.messages.scope import SCOPES
from service.store.database import Database, StoreDownError
from service.store.database_url import parse_url
from service.store.prediction_log import Store
from service.store.served_versions import MIGRATIONS
from service.store.tables import CONFIGURATIONS, CORRECTIONS, DECISIONS, METADATA, OUTCOMES, PREDICTIONS, TOTALS

YES, NO = "yes", "no"


def test_migrations_make_the_tables(store: Store) -> None:
    """The migrations leave exactly the tables that the code declares."""

    def differences(connection: object) -> object:
        options = {"compare_type": False}  # SQLite tells of types what was written, and not what was meant
        return compare_metadata(MigrationContext.configure(connection, opts=options), METADATA)  # type: ignore[arg-type]

    assert [change for change in store.database.read(differences) if "comment" not in str(change[0])] == []


def test_many_servers_start_at_once(database_url: str) -> None:
    """One server makes the tables while the others wait, and they agree on the edition; one configuration is kept."""
    ready = threading.Barrier(4)

    def start(_: int) -> int | None:
        store = opened(database_url)
        ready.wait(60)
        store.prepare()
        store.database.close()
        return store._edition

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(start, range(4))) == [1] * 4
    store = opened(database_url)
    store.prepare()
    assert len(rows_of(store, CONFIGURATIONS)) == 1
    store.database.close()


def test_a_new_file_is_opened_by_many_at_once(tmp_path: Path) -> None:
    """A file that does not exist yet is never reported as locked, however many processes make it at the same moment."""
    several = 6

    def start(url: URL, ready: threading.Barrier) -> None:
        database = Database(url)
        ready.wait(60)
        database.write(lambda connection: connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS t (a)"))
        database.close()

    for number in range(40):
        url, ready = URL.create("sqlite", database=str(tmp_path / f"{number}.db")), threading.Barrier(several)
        with ThreadPoolExecutor(several) as pool:
            list(pool.map(start, [url] * several, [ready] * several))


def test_a_later_versions_tables_are_left_alone(store: Store, database_url: str) -> None:
    """A server that is older than its database refuses to use it, and changes nothing."""
    store.database.write(lambda c: c.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    older = opened(database_url)
    with pytest.raises(StoreDownError, match="later version"):
        older.prepare()
    older.database.close()


def test_a_configuration_is_kept_when_it_changes(store: Store, database_url: str) -> None:
    """A start with the same config and thresholds adds no row, one with others does."""
    for thresholds in ({}, {"ood": 0.01}, {"ood": 0.01}, {"ood": 0.02}):
        again = opened(database_url, replace(EDITION, config={"mode": "enforce"}, thresholds=thresholds))
        again.prepare()
        again.database.close()
    kept = [(row["config"], row["thresholds"]) for row in rows_of(store, CONFIGURATIONS)]
    config = {"mode": "enforce"}
    assert kept == [({}, dict(EDITION.thresholds)), (config, {}), (config, {"ood": 0.01}), (config, {"ood": 0.02})]


def test_predictions_are_kept_and_counted(store: Store) -> None:
    """Every column holds what was answered; a row without an answer has neither label, confidence nor set."""
    assert write(store, answered(["a", "b"], [YES, ABSTAIN], sex=[1, 0])) == 2
    first, second = sorted(rows_of(store, PREDICTIONS), key=lambda row: row["id"])
    assert (first["label"], first["confidence"], json.loads(first["labels"])) == (YES, 0.75, [YES])
    assert (second["label"], second["confidence"], second["labels"], second["action"]) == (None, None, None, 2)
    assert (json.loads(first["groups"]), first["inputs"], first["time"]) == ({"sex": 1}, None, 1000.0)
    assert matrix(store.totals().totals) == [[0, 0, 0], [1, 0, 0], [1, 0, 0]]


def test_decisions_are_kept(store: Store) -> None:
    """Every row that was not simply allowed is stored, with the guards that flagged it and every p-value."""
    write(store, answered(["a", "b"], [YES, ABSTAIN]))
    (row,) = rows_of(store, DECISIONS)
    assert (row["id"], row["action"], json.loads(row["guards"])) == ("b", 2, ["ood"])
    assert json.loads(row["p_values"]) == {"ood": 0.5, "quality": 0.5}


def test_the_first_prediction_keeps_its_id(store: Store) -> None:
    """An id that is there already, in the same block or an earlier one, is neither stored nor counted again."""
    assert write(store, answered(["a", "b", "a"], [YES, YES, NO])) == 2
    assert write(store, answered(["b", "c"], [NO, NO])) == 1
    assert {row["id"]: row["label"] for row in rows_of(store, PREDICTIONS)} == {"a": YES, "b": YES, "c": NO}
    assert matrix(store.totals().totals) == [[1, 0, 0], [2, 0, 0], [0, 0, 0]]


def test_a_block_written_again_counts_once(store: Store) -> None:
    """If it is unknown whether a commit succeeded, the block may be written again without harm."""
    for _ in range(3):
        write(store, answered(["a", "b"], [YES, ABSTAIN]))
    assert matrix(store.totals().totals) == [[0, 0, 0], [1, 0, 0], [1, 0, 0]]
    assert len(rows_of(store, DECISIONS)) == 1


def test_models_share_a_database(store: Store, database_url: str) -> None:
    """Ids, totals and feedback of two models are separate."""
    other = opened(database_url, replace(EDITION, model="other"))
    write(store, answered(["a"], [YES]))
    assert other.join([Outcome("a", YES)], confusion).unknown == [0]
    assert write(other, answered(["a"], [NO])) == 1
    assert matrix(other.totals().totals) == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    other.database.close()


def test_outcomes_join_once(store: Store) -> None:
    """The same outcome again is a duplicate, another one conflicts and the first stays, an unheard-of id is unknown."""
    write(store, answered(["a", "b", "c"], [YES, NO, ABSTAIN]))
    truths = [
        Outcome("a", YES, probability=0.5),
        Outcome("a", YES),
        Outcome("a", NO),
        Outcome("c", NO),
        Outcome("x", NO),
    ]
    verdict = store.join(truths, confusion)
    assert (verdict.accepted, verdict.duplicate, verdict.conflicting, verdict.unknown) == ([0, 3], [1], [2], [4])
    again = store.join([Outcome("a", NO), Outcome("a", YES), Outcome("b", YES)], confusion)
    assert (again.accepted, again.duplicate, again.conflicting, again.unknown) == ([2], [1], [0], [])
    assert matrix(store.totals().totals) == [[1, 0, 1], [1, 0, 1], [1, 1, 0]]
    kept = {row["prediction"]: (row["label"], row["probability"]) for row in rows_of(store, OUTCOMES)}
    assert sorted(kept.values(), key=str) == [(NO, None), (YES, 0.5), (YES, None)]


def test_what_a_tally_gets(store: Store) -> None:
    """Joined rows come with the groups, the confidence and the weight that they had, and whether they were covered."""
    write(store, answered(["a", "b"], [YES, ABSTAIN], sex=[1, 2]))
    seen = []
    store.join([Outcome("b", NO), Outcome("a", NO, probability=0.25)], lambda records: seen.append(records) or {})  # type: ignore[func-returns-value]
    (records,) = seen
    assert records.predicted.tolist() == [-1, 1]
    assert records.actual.tolist() == [0, 0]
    assert records.groups["sex"].tolist() == [2, 1]
    assert records.covered.tolist() == [-1, 0]
    assert records.weight[1] == 4
    assert records.confidence[1] == 0.75
    assert [bool(value != value) for value in (records.weight[0], records.confidence[0])] == [True, True]  # noqa: PLR0124


def test_regression_joins_by_value(database_url: str) -> None:
    """Values and intervals come back to the bit, and a different number conflicts."""
    store = opened(database_url, replace(EDITION, classes=()))
    rows = block(regressed(["a", "b"], [0.1, 1e30]), classes=())
    assert store.write(rows, {}, lambda _: {}) == 2
    seen = []
    verdict = store.join(
        [Outcome("a", value=1.05), Outcome("b", value=-2.0), Outcome("a", value=1.0)],
        lambda records: seen.append(records) or {},  # type: ignore[func-returns-value]
    )
    assert (verdict.accepted, verdict.conflicting) == ([0, 1], [2])
    assert seen[0].covered.tolist() == [1, 0]
    assert seen[0].predicted.tolist() == rows.records.predicted.tolist()
    assert seen[0].actual.tolist() == [1.05, -2.0]
    store.database.close()


def test_any_id_is_one_of_its_own(store: Store) -> None:
    """NUL, which PostgreSQL's text has not, quotes, backslashes, letters and principals make no two names one."""
    ids = ["a\0", "a\\0", "a", "a\\", "\0", "'; DROP TABLE x", '"', "\u00e9", "e\u0301", "😀", "%", "x" * 256]
    ids = [row_name(owner, name) for owner in (None, "shop", "till") for name in ids]
    assert write(store, answered(ids)) == len(ids)
    assert len(store.join([Outcome(name, YES) for name in ids], confusion).accepted) == len(ids)


def test_two_servers_take_the_same_outcomes_at_once(store: Store, database_url: str) -> None:
    """The first outcome counts, and the second is a duplicate."""
    ids = [f"id-{i}" for i in range(300)]
    write(store, answered(ids))
    stores = [store, opened(database_url), opened(database_url)]
    start = threading.Barrier(3)

    def send(place: int) -> tuple[int, int]:
        start.wait(60)
        order = ids[place * 100 :] + ids[: place * 100]
        verdict = stores[place].join([Outcome(name, NO) for name in order], confusion)
        return len(verdict.accepted), len(verdict.duplicate)

    with ThreadPoolExecutor(3) as pool:
        told = list(pool.map(send, range(3)))
    assert sum(accepted for accepted, _ in told) == 300
    assert all(accepted + duplicate == 300 for accepted, duplicate in told)
    assert matrix(store.totals().totals)[1] == [300, 300, 0]
    for other in stores[1:]:
        other.database.close()


def test_two_servers_write_the_same_ids_at_once(store: Store, database_url: str) -> None:
    """In any order of ids, every id is kept and counted once, and neither server waits for the other for ever."""
    ids = [f"id-{i}" for i in range(200)]
    other = opened(database_url)
    other.prepare()
    start = threading.Barrier(2)

    def send(which: Store, order: list[str]) -> int:
        start.wait(60)
        return sum(write(which, answered(order[i : i + 20])) for i in range(0, len(order), 20))

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.submit(send, store, ids), pool.submit(send, other, ids[::-1])
        assert one.result(120) + two.result(120) == 200
    assert matrix(store.totals().totals)[1] == [200, 0, 0]
    other.database.close()


def test_outcomes_of_an_earlier_version_count_for_it(store: Store, database_url: str) -> None:
    """Labels that come after an upgrade are counted for the version that predicted."""
    write(store, answered(["a"], [YES]))
    newer = opened(database_url, replace(EDITION, version="2", bundle="sha256:1"))
    assert newer.join([Outcome("a", NO)], confusion).accepted == [0]
    assert matrix(newer.totals().totals) == [[0] * 3] * 3
    assert matrix(store.totals().totals)[1] == [1, 1, 0]
    newer.database.close()


def test_a_new_bundle_starts_at_nothing(store: Store, database_url: str) -> None:
    """After a refit under the same version the figures are the new bundle's; late labels count for who answered."""
    write(store, answered(["a", "b"], [YES, NO]))
    store.join([Outcome("b", NO)], confusion)
    refitted = opened(database_url, replace(EDITION, bundle="sha256:1"))
    assert matrix(refitted.totals().totals) == [[0] * 3] * 3
    write(refitted, answered(["c"], [YES]))
    verdict = refitted.join([Outcome("a", NO), Outcome("c", YES)], confusion)
    assert (sorted(verdict.accepted), [part.rows for part in verdict.parts]) == ([0, 1], [1])
    assert matrix(refitted.totals().totals) == [[0, 0, 0], [1, 0, 1], [0, 0, 0]]
    assert matrix(store.totals().totals) == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    refitted.database.close()


def test_the_versions_and_the_lifetimes_totals_are_sums(store: Store, database_url: str) -> None:
    """A wider scope adds its bundles' totals up and names the bundles; another model's are left out."""
    editions = [replace(EDITION, bundle="sha256:1"), replace(EDITION, version="2"), replace(EDITION, model="other")]
    write(store, answered(["a"], [YES]))
    for name, edition in zip("bcd", editions, strict=True):
        other = opened(database_url, edition)
        write(other, answered([name], [YES]))
        other.database.close()
    told = {scope: store.totals(scope) for scope in SCOPES}
    assert {scope: matrix(sums.totals)[1][0] for scope, sums in told.items()} == {
        "bundle": 1, "version": 2, "lifetime": 3,
    }  # fmt: skip
    assert told["version"].bundles == ("sha256:0", "sha256:1")


def test_rows_are_counted_when_they_are_answered_and_when_they_are_labelled(store: Store) -> None:
    """A report can tell how many rows are new, also after the rows are deleted; a correction is no new row."""
    write(store, answered(["a", "b", "c"]))
    write(store, answered(["c", "d"]))
    store.join([Outcome("a", YES), Outcome("b", NO), Outcome("a", YES), Outcome("e", YES)], confusion)
    store.join([Outcome("a", NO, replace=True)], confusion)
    store.purge(2000)
    for scope in SCOPES:
        assert store.totals(scope).rows == {"answers": 4, "outcomes": 2}


def test_recent_counts_are_kept_in_blocks(store: Store, database_url: str) -> None:
    """The last blocks add up to the last rows, whichever server counted them; older blocks go, and totals stay."""
    other = opened(database_url)
    ids = [f"id-{i}" for i in range(BLOCK_ROWS * (BLOCKS + 4))]
    for start in range(0, len(ids), 1100):
        write(store, answered(ids[start : start + 1100]))
    for place, start in enumerate(range(0, len(ids), 1100)):
        which = (store, other)[place % 2]
        label = NO if start + 1100 < len(ids) else YES
        which.join([Outcome(name, label) for name in ids[start : start + 1100]], confusion)
    blocks = store.totals().blocks
    labelled = [matrix(block)[1] for block in blocks["outcomes"]]
    assert [sum(one) for one in labelled] == [BLOCK_ROWS] * BLOCKS
    assert (labelled[0], labelled[-1]) == ([0, BLOCK_ROWS, 0], [0, 0, BLOCK_ROWS])
    assert [matrix(block)[1][0] for block in blocks["answers"]] == [1100] * 10
    assert sum(matrix(store.totals().totals)[1][1:]) == len(ids)
    other.database.close()


@pytest.mark.parametrize(("bundles", "kept"), [(["sha256:0"], "sha256:0"), (["sha256:0", "sha256:1"], "")])
def test_totals_of_before_are_kept(database_url: str, bundles: list[str], kept: str) -> None:
    """They count for the bundle if the version had no other bundle, and otherwise for the version."""
    store = opened(database_url)
    config = Config(attributes={})
    config.set_main_option("script_location", str(MIGRATIONS))
    edition = "INSERT INTO editions (model, version, bundle, layouts, digest) VALUES ('loans', '1', :bundle, '{}', '')"
    total = (
        "INSERT INTO totals (model, version, monitor, layout, place, count) "
        "VALUES ('loans', '1', 'confusion', 'layout', 3, 7)"
    )

    def before(connection: Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        for bundle in bundles:
            connection.execute(text(edition), {"bundle": bundle})
        connection.execute(text(total))

    store.database.write(before)
    write(store, answered(["a"], [YES]))
    assert {row["bundle"] for row in rows_of(store, TOTALS)} == {kept, "sha256:0"}
    assert matrix(store.totals().totals)[1][0] == (8 if kept else 1)
    assert matrix(store.totals("version").totals)[1][0] == 8
    store.database.close()


def test_counts_of_another_layout_are_not_mixed(store: Store, database_url: str) -> None:
    """If a monitor's places mean something else now, the outcome is stored, and counted nowhere."""
    write(store, answered(["a"], [YES]))
    changed = opened(database_url, replace(EDITION, bundle="sha256:1", layouts={"confusion": "another"}))
    verdict = changed.join([Outcome("a", NO)], confusion)
    assert (verdict.accepted, verdict.parts) == ([0], [])
    assert matrix(changed.totals().totals) == [[0] * 3] * 3
    assert matrix(store.totals().totals)[1] == [1, 0, 0]
    changed.database.close()


def test_old_rows_go_and_their_counts_stay(store: Store) -> None:
    """Predictions, their outcomes and decisions are deleted by age; the totals keep what they counted."""
    write(store, answered(["a", "b"], [YES, ABSTAIN], time=1000.0), answered(["c"], [YES], time=2000.0))
    store.join([Outcome("a", YES), Outcome("c", YES)], confusion)
    before = store.totals()
    assert store.purge(1500.0) == 3
    assert [row["id"] for row in rows_of(store, PREDICTIONS)] == ["c"]
    assert (len(rows_of(store, OUTCOMES)), rows_of(store, DECISIONS)) == (1, [])
    assert store.totals() == before
    assert store.join([Outcome("a", YES)], confusion).unknown == [0]


def test_a_database_that_is_not_there_is_told_without_its_password() -> None:
    """An error of the connection names neither the password nor a row."""
    store = opened(f"postgresql://app:s3cret@127.0.0.1:{free_port()}/guardhouse")
    with pytest.raises(StoreDownError) as down:
        store.prepare()
    assert "s3cret" not in str(down.value)
    assert "refused" in str(down.value)
    store.database.close()


def test_an_acknowledged_outcome_is_synced(tmp_path: Path) -> None:
    """SQLite is asked to sync its journal at every commit, and keeps a journal beside the file."""
    store = opened(f"sqlite:///{tmp_path / 'a' / 'b.db'}")
    store.prepare()
    asked = ("synchronous", "journal_mode", "foreign_keys")
    told = store.database.read(lambda c: [c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in asked])
    assert told == [2, "wal", 1]
    store.database.close()


def test_a_folder_that_cannot_be_written_to_is_a_mistake(tmp_path: Path) -> None:
    """The sentence says which folder, and what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Mistake, match="GUARDHOUSE_STATE"):
        Database(parse_url(f"sqlite:///{tmp_path / 'file' / 'x.db'}"))


def test_an_old_sqlite_is_a_mistake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Python whose SQLite is too old is refused before the server serves."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 1))
    with pytest.raises(Mistake, match=r"3\.38"):
        Database(parse_url(f"sqlite:///{tmp_path / 'x.db'}"))


def corrections(store: Store) -> list[tuple[str | None, float | None, bool]]:
    """Read what was corrected: label, value, and whether it was stored before it was replaced."""
    return [(row["label"], row["value"], row["time"] <= row["replaced"]) for row in rows_of(store, CORRECTIONS)]


def test_a_label_is_corrected(store: Store) -> None:
    """The old label's total falls by what the new one's rises; both labels are on record; repeating changes nothing."""
    write(store, answered(["a", "b"], [YES, NO]))
    store.join([Outcome("a", NO, probability=0.5), Outcome("b", NO)], confusion)
    assert matrix(store.totals().totals) == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    verdict = store.join([Outcome("a", YES, replace=True)], confusion)
    assert (verdict.replaced, verdict.accepted, verdict.conflicting) == ([0], [], [])
    assert matrix(store.totals().totals) == [[1, 1, 0], [1, 0, 1], [0, 0, 0]]
    assert corrections(store) == [(NO, None, True)]
    assert sorted(row["label"] for row in rows_of(store, OUTCOMES)) == [NO, YES]
    for again in (Outcome("a", YES, replace=True), Outcome("a", YES)):
        assert store.join([again], confusion).duplicate == [0]
    assert store.join([Outcome("a", NO)], confusion).conflicting == [0]
    assert matrix(store.totals().totals) == [[1, 1, 0], [1, 0, 1], [0, 0, 0]]
    assert len(corrections(store)) == 1


def test_a_first_label_may_ask_to_replace(store: Store) -> None:
    """Without an outcome to replace it is simply accepted; an unknown row stays unknown."""
    write(store, answered(["a"], [YES]))
    verdict = store.join([Outcome("a", YES, replace=True), Outcome("z", YES, replace=True)], confusion)
    assert (verdict.accepted, verdict.unknown, verdict.replaced) == ([0], [1], [])
    assert corrections(store) == []


def test_corrections_in_one_list_follow_one_another(store: Store) -> None:
    """The last correction holds, even if it equals the first outcome; every replaced outcome is on record."""
    write(store, answered(["a", "b"], [YES, YES]))
    store.join([Outcome("a", NO)], confusion)
    verdict = store.join(
        [
            Outcome("a", YES, replace=True),
            Outcome("b", YES),
            Outcome("b", NO, replace=True),
            Outcome("a", NO, replace=True),
        ],
        confusion,
    )
    assert (verdict.accepted, verdict.replaced) == ([1], [0, 2, 3])
    assert matrix(store.totals().totals) == [[0, 0, 0], [2, 2, 0], [0, 0, 0]]
    assert sorted(corrections(store)) == [(NO, None, True), (YES, None, True), (YES, None, True)]


def test_corrections_of_regression(database_url: str) -> None:
    """A value is corrected as a label is."""
    store = opened(database_url, replace(EDITION, classes=()))
    store.write(block(regressed(["a"], [1.0]), classes=()), {}, confusion)

    def count(records: object) -> dict[str, object]:
        return {"confusion": np.bincount(np.nan_to_num(records.actual).astype(int), minlength=9).reshape(3, 3)}  # type: ignore[attr-defined]

    store.join([Outcome("a", value=2.0)], count)  # type: ignore[arg-type]
    assert store.join([Outcome("a", value=3.5, replace=True)], count).replaced == [0]  # type: ignore[arg-type]
    assert corrections(store) == [(None, 2.0, True)]
    assert [row["value"] for row in rows_of(store, OUTCOMES)] == [3.5]
    totals = store.totals().totals["confusion"]
    assert (totals[2], totals[3]) == (0, 1)
    store.database.close()


def test_corrections_at_once_count_once(store: Store, database_url: str) -> None:
    """If several servers correct the same rows at once, each row has one outcome, and the totals match the rows."""
    ids = [f"c-{i}" for i in range(50)]
    write(store, answered(ids, [YES] * 50))
    store.join([Outcome(name, NO) for name in ids], confusion)
    ready = threading.Barrier(4)

    def correct(number: int) -> tuple[int, int]:
        other = opened(database_url)
        other.prepare()
        ready.wait(60)
        truths = [Outcome(name, (YES, NO)[number % 2], replace=True) for name in ids]
        if number > 1:
            truths.reverse()
        verdict = other.join(truths, confusion)
        other.database.close()
        return len(verdict.replaced), len(verdict.duplicate)

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(correct, range(4)))
    assert all(replaced + duplicate == 50 for replaced, duplicate in told)
    assert len(corrections(store)) == sum(replaced for replaced, _ in told)
    labels = [row["label"] for row in rows_of(store, OUTCOMES)]
    assert matrix(store.totals().totals)[1] == [50, labels.count(NO), labels.count(YES)]
    assert len(labels) == 50


def test_corrections_go_with_their_prediction(store: Store) -> None:
    """Rows that are deleted for their age take what was corrected with them; the totals stay."""
    write(store, answered(["a"], [YES], time=1000.0))
    store.join([Outcome("a", NO)], confusion)
    store.join([Outcome("a", YES, replace=True)], confusion)
    store.purge(1500.0)
    assert corrections(store) == []
    assert matrix(store.totals().totals)[1] == [1, 0, 1]
