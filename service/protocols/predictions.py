"""The rows of a v1 answer as JSON objects: the model's part and the guards' part."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from guards.bundle import Bundle
from service.answer import Answer
from service.protocols.top_k import SHOWN, most_likely

__all__ = ["classified", "details", "regressed"]


def details(answer: Answer, bundle: Bundle, warnings: Mapping[int, str]) -> list[dict[str, Any]]:
    """Give each row's findings by visible guard; ``warnings`` by row are added to the causes of every flag."""
    visible = [(index, spec) for index, spec in enumerate(bundle.config.guards) if spec.visible]
    flagged, crashed = answer.flagged.tolist(), np.isnan(answer.p_value).tolist()
    return [
        {
            spec.name: {
                "p_value": None if crashed[row][index] else answer.p_value[row, index].item(),
                "flagged": flagged[row][index],
                "causes": [*_causes(answer, row, bundle, spec.name), *([warnings[row]] if row in warnings else [])]
                if flagged[row][index]
                else [],
            }
            for index, spec in visible
        }
        for row in range(len(answer))
    ]


def _causes(answer: Answer, row: int, bundle: Bundle, guard: str) -> list[str]:
    if guard not in answer.causes:
        return []
    names = bundle.cause_names.get(guard, ())
    return [names[cause] for cause in np.flatnonzero(answer.causes[guard][row])]


def classified(answer: Answer, classes: tuple[str, ...], top_k: int | None) -> list[dict[str, Any]]:
    """Give each row's label, probabilities and prediction set; ``top_k`` labels per row, or all if it is None."""
    assert answer.label is not None  # noqa: S101
    assert answer.probabilities is not None  # noqa: S101
    labels = [classes[label] for label in answer.label.tolist()]
    if top_k is None:
        named = [dict(zip(classes, row, strict=True)) for row in answer.probabilities.tolist()]
    else:
        order = most_likely(answer.probabilities, top_k)
        named = [
            {classes[place]: value for place, value in zip(places, values, strict=True)}
            for places, values in zip(
                order.tolist(), np.take_along_axis(answer.probabilities, order, axis=1).tolist(), strict=True
            )
        ]
    rows = [
        {"label": label, "probabilities": probabilities} for label, probabilities in zip(labels, named, strict=True)
    ]
    if answer.members is not None:
        most = len(classes) if top_k is None else max(top_k, SHOWN)
        for said, members in zip(rows, _sets(answer.probabilities, answer.members, classes, most), strict=True):
            said.update(members)
    return rows


def _sets(
    probabilities: npt.NDArray[Any], members: npt.NDArray[np.bool_], classes: tuple[str, ...], most: int
) -> list[dict[str, Any]]:
    """Name the ``members`` (n, k) of each row's prediction set, the most probable first.

    At most ``most`` labels are named. If a set has more, its size is added, so that the set is not taken for whole.
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
    """Give each row's value and interval."""
    assert answer.value is not None  # noqa: S101
    rows: list[dict[str, Any]] = [{"value": value} for value in answer.value.tolist()]
    if answer.interval is not None:
        for said, interval in zip(rows, answer.interval.tolist(), strict=True):
            said["interval"] = interval
    return rows
