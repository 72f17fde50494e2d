"""Decides which columns of a file are inputs of the model: the columns that the config lists, and perhaps the rest."""

from dataclasses import dataclass, field

import numpy as np

from guards.data.column_kinds import resolve_columns
from guards.data.distinct_values import Values
from guards.data.table import GROUP, Table, as_texts, choices
from guards.input.schema import InputSchema, InputSpec
from guards.notices import Notices
from guards.sentences import agreeing, as_list
from guards.types import Mistake

__all__ = ["Reading", "readings"]

FEW = 50


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read the config's list of columns: its ``schema``, or the ``mistake`` why there is no schema.

    ``notices`` are the notes and warnings about this reading. ``left_out`` are the columns of the file that are
    neither inputs nor the label.
    """

    schema: InputSchema | None
    mistake: Mistake | None = None
    left_out: tuple[str, ...] = ()
    notices: Notices = field(default_factory=Notices)

    def sure(self) -> InputSchema:
        """Give the schema.

        Raises:
            Mistake: the list cannot be read in this way.
        """
        if self.schema is None:
            assert self.mistake is not None  # noqa: S101 - there is one or the other
            raise self.mistake
        return self.schema


def readings(spec: InputSpec, table: Table | None, *, label: str) -> tuple[Reading, ...]:
    """Complete the config's input from the reference table: with columns, kinds, categories and imputed values.

    If the config lists some columns and does not say what the others are, there are two readings: one with the others
    as inputs, and one without. The caller tries which reading the model takes. ``table`` is None for images and
    tensors.
    """
    if table is None:
        return (Reading(InputSchema(kind=spec.kind, shape=spec.shape or ())),)
    ways = (spec.rest,) if spec.rest is not None or not _partial(spec, table, label) else ("infer", "drop")
    return tuple(_reading(spec, table, label, drop=way == "drop") for way in ways)


def _partial(spec: InputSpec, table: Table, label: str) -> bool:
    names = {column.name for column in spec.columns}
    kept = [column for column in spec.columns if not column.drop]
    return bool(kept) and any(name not in names for name in _candidates(spec, table, label))


def _candidates(spec: InputSpec, table: Table, label: str) -> list[str]:
    names = {column.name for column in spec.columns}
    return [name for name in table.columns if name in names or (name != label and not name.startswith(GROUP))]


def _reading(spec: InputSpec, table: Table, label: str, *, drop: bool) -> Reading:
    notices = Notices()
    try:
        names = _inputs(spec, table, label, drop=drop)
        columns = resolve_columns(names, {column.name: column for column in spec.columns}, table, notices)
    except Mistake as mistake:
        return Reading(None, mistake, notices=notices)
    left_out = tuple(name for name in table.columns if name not in names and name != label)
    _note_others(left_out, notices)
    _check_leaks(names, table, label, notices)
    return Reading(InputSchema(kind="tabular", shape=(len(columns),), columns=columns), None, left_out, notices)


def _inputs(spec: InputSpec, table: Table, label: str, *, drop: bool) -> list[str]:
    """Name the inputs in the model's order: the list's order if it names all inputs, else the file's order."""
    listed_names = [column.name for column in spec.columns]
    absent = [name for name in listed_names if name not in table.columns]
    if absent:
        raise Mistake(
            *(
                f"input.columns: no column {name!r} in the reference; {choices(name, list(table.columns))}"
                for name in absent
            )
        )
    if label in listed_names:
        raise Mistake(
            f"input.columns: {label!r} is the label (reference.label) and cannot be an input: leave {label!r} out of "
            "the list, or name another label"
        )
    candidates = _candidates(spec, table, label)
    order = listed_names if drop or set(candidates) <= set(listed_names) else candidates
    dropped = {column.name for column in spec.columns if column.drop}
    names = [name for name in order if name not in dropped]
    if not names:
        raise Mistake(f"input.columns: the reference has no column but the label; there are {sorted(table.columns)}")
    return names


def _note_others(others: tuple[str, ...], notices: Notices) -> None:
    groups = [name for name in others if name.startswith(GROUP)]
    unused = [name for name in others if name not in groups]
    if groups:
        notices.note(
            f"{_columns(groups)} {agreeing(len(groups), 'holds', 'hold')} groups of the rows, since "
            f"{agreeing(len(groups), 'its name begins', 'their names begin')} with {GROUP!r}, and "
            f"{agreeing(len(groups), 'is not an input', 'are not inputs')}: list a column in input.columns to make the "
            "column an input"
        )
    if unused:
        are = agreeing(len(unused), "is not an input", "are not inputs")
        notices.note(f"{_columns(unused)} of the reference {are} of the model")


def _columns(names: list[str]) -> str:
    return f"{agreeing(len(names), 'column', 'columns')} {as_list(names)}"


def _check_leaks(names: list[str], table: Table, label: str, notices: Notices) -> None:
    """Warn of an input that is equal to the label in every row."""
    if label not in table.columns:
        return
    truth = table.columns[label]
    beginning, known = as_texts(truth.cells[:FEW]), Values.of(truth)
    if len(known.texts) < 2 or (known.codes < 0).any():  # noqa: PLR2004 - one label is equal to any constant
        return
    for name in names:
        cells = table.columns[name].cells
        if as_texts(cells[:FEW]) != beginning:
            continue
        other = Values.of(table.columns[name])
        if np.array_equal(known.codes, other.codes) and np.array_equal(known.texts, other.texts):
            notices.warn(
                f"column {name!r} is equal to the label {label!r} in every row: give the column `drop: true` in "
                "input.columns if its values will not be known when the model is asked"
            )
