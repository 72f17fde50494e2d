"""The answers to rows as the columns of a table: each column holds what a v1 answer of the server holds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch import Tensor

from guards.bundle.bundle import Bundle
from guards.data.table import GROUP
from guards.types import Action, Prediction, Result, Verdict

__all__ = ["MANY", "TOP", "AnswerColumns"]

Array = npt.NDArray[Any]
MANY = 100
"""With more labels than this, the columns hold the probabilities of the most likely labels alone."""
TOP = 5
"""How many labels of a row have a column each if there are many."""
WORDS = np.array([action.label for action in Action], dtype=object)
LISTS = pa.list_(pa.string())


class AnswerColumns:
    """Turns the pipeline's results into tables whose columns are always the same, in the same order.

    A guard that the config makes invisible has no columns and is no reason, as in the answers of a server.
    """

    def __init__(self, bundle: Bundle) -> None:
        config = bundle.config
        self._classes = np.array([*bundle.classes, None], dtype=object)[:-1]
        self._shadow = config.mode == "shadow"
        self._guards = [
            (index, guard.name, bool(guard.error_action), bundle.cause_names.get(guard.name, ()))
            for index, guard in enumerate(config.guards)
            if guard.visible
        ]

    def table(
        self, results: Sequence[Result], ids: Sequence[str], groups: Mapping[str, Sequence[str | None]]
    ) -> pa.Table:
        """Put the results of consecutive batches into one table, with the rows' ids and groups."""
        joined = Result.join(results)
        action, reasons = self._verdict(joined.verdict)
        withheld = action >= int(Action.ABSTAIN)
        columns: dict[str, pa.Array] = {"id": pa.array(ids, pa.string())}
        columns |= {f"{GROUP}{name}": pa.array(values, pa.string()) for name, values in groups.items()}
        columns |= self._predicted(joined.prediction, withheld)
        columns["action"] = pa.array(WORDS[action], pa.string())
        columns["reasons"] = reasons
        columns |= self._detail(joined.verdict, [result.verdict for result in results])
        return pa.table(columns)

    def _verdict(self, verdict: Verdict) -> tuple[Array, pa.Array]:
        """Give each row's shown action, and its reasons: a flag that no visible guard explains is shown as allow."""
        action = _host(verdict.action)
        flagged, crashed = _host(verdict.flagged), np.isnan(_host(verdict.p_value))
        marks = np.zeros((len(action), len(self._guards)), dtype=np.bool_)
        for place, (index, _, acts_on_error, _) in enumerate(self._guards):
            if not self._shadow:
                marks[:, place] = flagged[index] | (crashed[index] & acts_on_error)
        unexplained = (action == int(Action.FLAG)) & ~marks.any(1)
        return np.where(unexplained, int(Action.ALLOW), action), _lists(marks, [name for _, name, *_ in self._guards])

    def _predicted(self, prediction: Prediction, withheld: Array) -> dict[str, pa.Array]:
        if prediction.value is not None:
            columns = {"value": pa.array(_host(prediction.value), mask=withheld)}
            if prediction.interval is not None:
                low, high = _host(prediction.interval).T
                columns |= {
                    "interval_low": pa.array(low, mask=withheld),
                    "interval_high": pa.array(high, mask=withheld),
                }
            return columns
        assert prediction.label is not None  # noqa: S101 - a prediction has a value or a label
        assert prediction.probabilities is not None  # noqa: S101
        probabilities = _host(prediction.probabilities)
        columns = {"label": pa.array(self._classes[_host(prediction.label)], pa.string(), mask=withheld)}
        if len(self._classes) <= MANY:
            for name, values in zip(self._classes, probabilities.T, strict=True):
                columns[f"probabilities.{name}"] = pa.array(values, mask=withheld)
        else:
            order = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
            for place in range(TOP):
                likely = order[:, place]
                columns[f"top_{place + 1}.label"] = pa.array(self._classes[likely], pa.string(), mask=withheld)
                shown = np.take_along_axis(probabilities, likely[:, None], axis=1)[:, 0]
                columns[f"top_{place + 1}.probability"] = pa.array(shown, mask=withheld)
        if prediction.members is not None:
            columns["prediction_set"] = _lists(_host(prediction.members), self._classes, probabilities, withheld)
        return columns

    def _detail(self, verdict: Verdict, parts: Sequence[Verdict]) -> dict[str, pa.Array]:
        columns: dict[str, pa.Array] = {}
        p_value, flagged = _host(verdict.p_value), _host(verdict.flagged)
        for index, name, _, cause_names in self._guards:
            # A batch has no causes if the guard crashed on all its rows.
            found = [part.causes.get(name) for part in parts]
            causes = np.concatenate(
                [
                    np.zeros((len(part.action), len(cause_names)), dtype=np.bool_) if marks is None else _host(marks)
                    for part, marks in zip(parts, found, strict=True)
                ]
            )
            columns[f"guards.{name}.p_value"] = pa.array(p_value[index], mask=np.isnan(p_value[index]))
            columns[f"guards.{name}.flagged"] = pa.array(flagged[index])
            columns[f"guards.{name}.causes"] = _lists(causes & flagged[index][:, None], cause_names)
        return columns


def _host(tensor: Tensor) -> Array:
    return tensor.cpu().numpy()


def _lists(
    marks: Array, names: Sequence[str] | Array, order: Array | None = None, withheld: Array | None = None
) -> pa.Array:
    """Name the marked columns of each row of ``marks`` (n, m); first those with the largest ``order`` (n, m)."""
    rows, places = np.nonzero(marks)
    if order is not None:
        by_order = np.lexsort((places, -order[rows, places], rows))
        places = places[by_order]
    offsets = np.concatenate([[0], marks.sum(1).cumsum()]).astype(np.int32)
    values = pa.array(np.array([*names, None], dtype=object)[places], pa.string())
    mask = None if withheld is None else pa.array(withheld)
    return pa.ListArray.from_arrays(offsets, values, type=LISTS, mask=mask)
