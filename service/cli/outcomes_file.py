"""Reads a CSV file of outcomes and checks the whole file before the first outcome is sent."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guards.types import Mistake
from service.front.protocols.feedback import MAX_ID, Labels

__all__ = ["FeedbackFile", "Result", "read_outcomes"]

COLUMNS = ("id", "label", "probability")
SHOWN_FAULTS = 20
SHOWN_LABELS = 10
OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}
Result = Mapping[str, Any]


@dataclass(slots=True)
class FeedbackFile:
    """The outcomes of a file, the line on which each outcome ends, and how many lines have no label yet."""

    outcomes: list[Result] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    skipped: int = 0


def read_outcomes(path: Path, labels: Sequence[str] | None, *, replace: bool = False) -> FeedbackFile:
    """Read a CSV file with the columns id, label and, optionally, probability.

    ``labels`` are the model's labels, or None for a regression. If a line's label is empty, the label is not known yet,
    and the line is skipped. If ``replace`` is true, each outcome replaces an earlier outcome of its row.

    Raises:
        Mistake: the file has faults; the message has one sentence with the line for each of the first faults.
    """
    read, faults = FeedbackFile(), list[str]()
    known = None if labels is None else Labels(labels)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            rows.fieldnames = _names(path, rows.fieldnames or [])
            for row in rows:
                try:
                    outcome = _outcome(row, known)
                except ValueError as fault:
                    faults.append(f"{path}, line {rows.line_num}: {fault}")
                    continue
                if outcome is None:
                    read.skipped += 1
                    continue
                read.outcomes.append({**outcome, "replace": True} if replace else outcome)
                read.lines.append(rows.line_num)
    except UnicodeDecodeError as other:
        raise Mistake(
            f"{path}: cannot be read as UTF-8 ({other.reason} at byte {other.start}): save the file as UTF-8"
        ) from None
    except (OSError, csv.Error) as unreadable:
        raise Mistake(f"{path}: cannot be read: {unreadable}") from None
    if faults:
        more = len(faults) - SHOWN_FAULTS
        raise Mistake(*faults[:SHOWN_FAULTS], *([f"... and {more} more"] if more > 0 else []))
    return read


def _names(path: Path, given: Sequence[str]) -> list[str]:
    names = [name.strip() for name in given]
    if {"id", "label"} <= set(names) <= set(COLUMNS) and len(set(names)) == len(names):
        return names
    sentence = f"{path}: its first line names the columns id, label and, if you like, probability"
    for delimiter, what in OTHER_DELIMITERS.items():
        if any(delimiter in name for name in names):
            raise Mistake(f"{sentence}, with commas between them; here there are {what}")
    raise Mistake(sentence)


def _outcome(row: Mapping[Any, Any], labels: Labels | None) -> Result | None:
    """Read one line; None if its label is empty.

    Raises:
        ValueError: what is wrong with it.
    """
    if None in row or None in row.values():
        raise ValueError("it does not have as many fields as the first line")
    if not row["id"]:
        raise ValueError("the id is empty")
    if len(row["id"]) > MAX_ID:
        raise ValueError(f"the id has {len(row['id'])} characters, but may have {MAX_ID} at most")
    if not row["label"].strip():
        return None
    label = _number(row["label"], "label") if labels is None else _label(row["label"], labels)
    outcome: dict[str, Any] = {"id": row["id"], "label": label}
    if (row.get("probability") or "").strip():
        outcome["probability"] = _number(row["probability"], "probability")
        if not 0 < outcome["probability"] <= 1:
            raise ValueError(f"the probability {row['probability']} is not in (0, 1]")
    return outcome


def _label(text: str, labels: Labels) -> str:
    """Find the model's label for a text: the same text, the text without spaces around it, or the same number.

    Numbers are compared because pandas writes ``7.0`` for 7 if another line of the column is empty.
    """
    meant = labels.meant(text) or labels.meant(text.strip())
    if meant is not None:
        return meant
    shown = [*labels.classes[:SHOWN_LABELS], *(["..."] if len(labels.classes) > SHOWN_LABELS else [])]
    raise ValueError(f"{text[:40]!r} is not one of the model's labels {shown}")


def _number(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"the {name} {text!r} is no finite number")
    return value
