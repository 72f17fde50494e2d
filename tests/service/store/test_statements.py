"""The statements that a store runs for every batch cost as much as the batch, however many rows are stored."""

import re
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.expression import ClauseElement

from service.store.statements import Statements
from service.store.tables import PREDICTIONS

TABLES = PREDICTIONS.metadata
STATEMENTS: dict[str, ClauseElement] = {
    name: statement for name, statement in vars(Statements("sqlite")).items() if isinstance(statement, ClauseElement)
}


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_no_statement_reads_a_whole_table(name: str, tmp_path: Path) -> None:
    """SQLite finds every row by its whole key: it scans the given rows alone, and never all rows of a model."""
    file = tmp_path / "store.db"
    TABLES.create_all(create_engine(f"sqlite:///{file}"))
    text = str(STATEMENTS[name].compile(dialect=sqlite.dialect(paramstyle="named")))
    given = dict.fromkeys(re.findall(r":(\w+)", text))
    plan = [row[3] for row in sqlite3.connect(file).execute(f"EXPLAIN QUERY PLAN {text}", given)]
    for step in plan:
        if step.startswith("SCAN"):
            assert "VIRTUAL TABLE" in step, plan  # the rows of the JSON that was given
        if step.startswith("SEARCH"):
            assert "(model=?)" not in step, plan
