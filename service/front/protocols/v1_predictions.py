"""The rows of a v1 answer as JSON objects: the model's part and the guards' part."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from service.front.protocols.top_k import SHOWN, most_likely
from service.messages.answer import LEFT_OUT, Answer
from service.messages.served_model import ServedGuard, ServedModel

__all__ = ["classified", "details", "regressed"]

FEW = 512
"""The most probabilities for which plain Python is faster than numpy: a numpy call costs as much as 20 values."""


def details(answer: Answer, served: ServedModel, warnings: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return each row's findings by visible guard. A row's warning is added to the causes of each of its flags."""
    flagged, absent = answer.flagged.tolist(), (~(answer.p_value >= 0)).tolist()
    return [
        {
            guard.name: {
                "p_value": None if absent[row][at] else answer.p_value[row, at].item(),
                "flagged": flagged[row][at],
                "causes": [*_causes(answer, row, guard), *([warnings[row]] if row in warnings else [])]
                if flagged[row][at]
                else [],
                **({"skipped": True} if guard.optional and answer.p_value[row, at] == LEFT_OUT else {}),
            }
            for at, guard in served.visible_guards
        }
        for row in range(len(answer))
    ]


def _causes(answer: Answer, row: int, guard: ServedGuard) -> list[str]:
    found = answer.causes.get(guard.name)
    return [] if found is None else [guard.causes[cause] for cause in np.flatnonzero(found[row])]


def classified(answer: Answer, classes: tuple[str, ...], top_k: int | None) -> list[dict[str, Any]]:
    """Return each row's label, probabilities and prediction set; ``top_k`` labels per row, or all if it is None."""
    assert answer.label is not None  # noqa: S101
    assert answer.probabilities is not None  # noqa: S101
    if answer.probabilities.size <= FEW:
        table = answer.probabilities.tolist()
        total = sum(map(sum, table))
        if total == total:  # noqa: PLR0124 - if the total is not NaN, no value is NaN, so values can be sorted
            members = None if answer.members is None else answer.members.tolist()
            return _few(answer.label.tolist(), table, members, classes, top_k)
    return _many(answer.label, answer.probabilities, answer.members, classes, top_k)


def _few(
    labels: list[int],
    table: list[list[float]],
    members: list[list[bool]] | None,
    classes: tuple[str, ...],
    top_k: int | None,
) -> list[dict[str, Any]]:
    """Return the same rows as :func:`_many`, computed from lists. The ``table`` (n, k) of probabilities has no NaN."""
    rows: list[dict[str, Any]] = []
    for label, values in zip(labels, table, strict=True):
        if top_k is None:
            named = dict(zip(classes, values, strict=True))
        else:
            order = sorted(range(len(values)), key=values.__getitem__, reverse=True)
            named = {classes[place]: values[place] for place in order[:top_k]}
        rows.append({"label": classes[label], "probabilities": named})
    if members is not None:
        most = len(classes) if top_k is None else max(top_k, SHOWN)
        for said, values, within in zip(rows, table, members, strict=True):
            places = [place for place, member in enumerate(within) if member]
            places.sort(key=values.__getitem__, reverse=True)  # equal probabilities keep the order of the labels
            said["prediction_set"] = [classes[place] for place in places[:most]]
            if len(places) > most:
                said["prediction_set_size"] = len(places)
    return rows


def _many(
    label: npt.NDArray[Any],
    probabilities: npt.NDArray[Any],
    members: npt.NDArray[np.bool_] | None,
    classes: tuple[str, ...],
    top_k: int | None,
) -> list[dict[str, Any]]:
    """Return the rows of a classification: ``label`` (n,) are indices, ``probabilities`` and ``members`` are (n, k)."""
    labels = [classes[each] for each in label.tolist()]
    if top_k is None:
        named = [dict(zip(classes, row, strict=True)) for row in probabilities.tolist()]
    else:
        order = most_likely(probabilities, top_k)
        shown = np.take_along_axis(probabilities, order, axis=1)
        named = [
            {classes[place]: value for place, value in zip(places, values, strict=True)}
            for places, values in zip(order.tolist(), shown.tolist(), strict=True)
        ]
    rows: list[dict[str, Any]] = [
        {"label": label, "probabilities": each} for label, each in zip(labels, named, strict=True)
    ]
    if members is not None:
        most = len(classes) if top_k is None else max(top_k, SHOWN)
        for said, found in zip(rows, _sets(probabilities, members, classes, most), strict=True):
            said.update(found)
    return rows


def _sets(
    probabilities: npt.NDArray[Any], members: npt.NDArray[np.bool_], classes: tuple[str, ...], most: int
) -> list[dict[str, Any]]:
    """Return the labels of each row's prediction set, the most probable first; ``members`` is (n, k).

    At most ``most`` labels are named. If a set has more labels, its size is added, so that clients see the cut.
    """
    sizes = members.sum(1)
    longest = min(most, int(sizes.max()))
    order = most_likely(np.where(members, probabilities, -1.0), longest) if longest else np.empty((len(sizes), 0), int)
    return [
        {
            "prediction_set": [classes[place] for place in places[:size]],
            **({"prediction_set_size": size} if size > longest else {}),
        }
        for places, size in zip(order.tolist(), sizes.tolist(), strict=True)
    ]


def regressed(answer: Answer) -> list[dict[str, Any]]:
    """Return each row's value, and its interval if the model has intervals."""
    assert answer.value is not None  # noqa: S101
    rows: list[dict[str, Any]] = [{"value": value} for value in answer.value.tolist()]
    if answer.interval is not None:
        for said, interval in zip(rows, answer.interval.tolist(), strict=True):
            said["interval"] = interval
    return rows
