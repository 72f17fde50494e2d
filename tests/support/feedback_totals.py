"""Sends outcomes of predictions over HTTP, and reads the totals that a server reports."""

from collections.abc import Iterable, Sequence
from typing import Any

from example_folders import ABSTAINED, ALLOWED
from gateways import Gateway

__all__ = ["FEEDBACK", "MONITORS", "NO", "NONE", "YES", "confusion", "feedback", "outcomes", "report"]

FEEDBACK, MONITORS = "/v1/models/loans:feedback", "/v1/models/loans/monitors"
YES = ALLOWED
NO = ALLOWED | {"age": 30, "income": 30}
NONE = ABSTAINED
ROWS, COLUMNS = ("no", "yes", "none"), ("unknown", "no", "yes")


def outcomes(ids: Iterable[str], label: str) -> dict[str, Any]:
    """Write a body of feedback that gives one label to all ids."""
    return {"outcomes": [{"id": name, "label": label} for name in ids]}


def feedback(gateway: Gateway, ids: Sequence[str], label: str) -> dict[str, Any]:
    """Send outcomes that the server must accept, and give the answer."""
    response = gateway.post(outcomes(ids, label), FEEDBACK)
    assert response.status_code == 200, response.text
    said: dict[str, Any] = response.json()
    assert said["accepted"] + sum(len(said[name]) for name in ("duplicate", "conflicting", "unknown")) == len(ids)
    return said


def report(gateway: Gateway) -> dict[str, Any]:
    """Ask for the report of all monitors."""
    response = gateway.client.get(MONITORS)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def confusion(document: dict[str, Any]) -> list[list[int]]:
    """Turn the counts of a report into a matrix: a row for each of no, yes and none; columns unknown, no and yes."""
    counts = {
        (one["labels"]["predicted"], one["labels"]["actual"]): one["n"]
        for one in document["monitors"]["confusion"]["statistics"]
    }
    return [[counts[row, column] for column in COLUMNS] for row in ROWS]
