"""Takes the stored rows of excluded principals out of the totals, and puts the rows of included principals back."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, func, or_, select, update

from service.messages.outcomes import Outcome
from service.messages.row_name import row_name
from service.monitoring.sums import Tally
from service.store.monitor_changes import MonitorChanges, Record
from service.store.outcomes import Outcomes, part_of
from service.store.remembered import Remembered
from service.store.tables import BLOCKS, OUTCOMES, PREDICTIONS
from service.store.totals import Totals

__all__ = ["Exclusions"]

STEP = 10_000
"""How many keys of predictions one transaction looks at."""
TABLE = PREDICTIONS.c


class Exclusions:
    """One model's stored rows, inside transactions that the caller has begun.

    Each row says whether it is taken out. So a sweep that was interrupted can begin again from the start, and two
    servers may sweep at the same time: no row is taken out twice. Rows that were stored before rows said which guards
    flagged them stay in the totals, because their counts are not known.
    """

    def __init__(self, model: str, changes: MonitorChanges, totals: Totals, outcomes: Outcomes) -> None:
        self._model, self._changes, self._totals, self._outcomes = model, changes, totals, outcomes

    def begin_recent_anew(self, connection: Connection) -> None:
        """Delete the blocks of recent rows: which rows are in a block is not recorded, so none can be taken out."""
        connection.execute(delete(BLOCKS).where(BLOCKS.c.model == self._model))

    def sweep(self, connection: Connection, start: int, tally: Tally) -> tuple[int, int | None]:
        """Correct the rows whose keys begin at ``start``.

        Returns how many rows were taken out or put back, and where to go on; None after the last row.
        """
        self._changes.alone(connection)
        record = self._changes.read(connection)
        mine = TABLE.model == self._model
        wrong = [_wrong(name, excluded=name in record.standing.excluded) for name in record.principals]
        first = connection.execute(select(func.min(TABLE.prediction)).where(mine, TABLE.prediction >= start)).scalar()
        if not wrong or first is None:
            return 0, None
        here = TABLE.prediction.between(first, first + STEP - 1)
        asked = (
            select(OUTCOMES.c.prediction, OUTCOMES.c.label, OUTCOMES.c.value, OUTCOMES.c.probability)
            .add_columns(*(TABLE[name] for name in Remembered.__slots__))
            .select_from(PREDICTIONS.outerjoin(OUTCOMES))
            .where(mine, here, TABLE.flags.is_not(None), or_(*wrong))
            .order_by(TABLE.prediction)
        )
        found = connection.execute(asked).all()
        rows = [Remembered(*row) for _, _, _, _, *row in found]
        truths = [None if known is None else Outcome("", *said) for known, *said in (row[:4] for row in found)]
        for leaving in (True, False):
            places = [place for place, row in enumerate(rows) if bool(row.excluded) != leaving]
            self._move(connection, record, [(rows[p], truths[p]) for p in places], tally, leaving=leaving)
        return len(rows), first + STEP

    def _move(
        self,
        connection: Connection,
        record: Record,
        known: Sequence[tuple[Remembered, Outcome | None]],
        tally: Tally,
        *,
        leaving: bool,
    ) -> None:
        if not known:
            return
        rows = [row for row, _ in known]
        connection.execute(
            update(PREDICTIONS)
            .where(TABLE.prediction.in_(bindparam("keys", expanding=True)))
            .values(excluded=int(leaving)),
            {"keys": [row.prediction for row in rows]},
        )
        labelled = [(row, truth) for row, truth in known if truth is not None]
        answers = self._outcomes.by_edition(connection, record, rows)
        labels = [row for row, _ in labelled], [truth for _, truth in labelled]
        for owner, alike, records in (*answers, *self._outcomes.by_edition(connection, record, *labels)):
            counts = part_of(records, tally, alike).tallies
            self._totals.move(connection, owner, *((counts, {}) if leaving else ({}, counts)))


def _wrong(principal: str, *, excluded: bool) -> ColumnElement[bool]:
    """Find the rows of a principal that are not as they should be."""
    prefix = row_name(principal, "")
    return and_(func.substr(TABLE.id, 1, len(prefix)) == prefix, TABLE.excluded == int(not excluded))
