"""From the pipeline's answer to the output tensors of the Open Inference Protocol, and what a model's tensors are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from guards.config import Config
from guards.schema import InputSchema
from guards.types import Action
from service.answer import Answer
from service.protocols.rows import GROUP, ID, MATRIX
from service.protocols.tensors import BYTES, Numbers
from service.protocols.top_k import most_likely
from service.protocols.v1 import verdicts

__all__ = [
    "LABELS", "PROBABILITIES", "Output", "TensorSpec", "alternatives_of", "beside_of", "default_outputs", "inputs_of",
    "outputs_of", "to_outputs", "top_k_outputs_of",
]  # fmt: skip

FLOAT = "FP32"
P_VALUE, PROBABILITIES, LABELS = "p_value", "probabilities", "top_k_labels"
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a tensor is called and may be; -1 is the number of rows. ``parameters`` say how its values are read."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """A tensor to answer; ``values`` are float32 of its shape, or strings, in ``columns`` or in one dimension (n,)."""

    name: str
    values: list[str] | Numbers
    parameters: Mapping[str, str] = field(default_factory=dict)
    columns: int | None = None

    @property
    def datatype(self) -> str:
        """The datatype on the wire."""
        return BYTES if isinstance(self.values, list) else FLOAT

    @property
    def shape(self) -> list[int]:
        """The sizes."""
        if not isinstance(self.values, list):
            return list(self.values.shape)
        return [len(self.values)] if self.columns is None else [len(self.values) // self.columns, self.columns]


def inputs_of(schema: InputSchema) -> list[TensorSpec]:
    """Name the tensors that make a row: one for each column, or one for all of it."""
    if schema.kind == "tabular":
        return [TensorSpec(c.name, BYTES if c.kind == "categorical" else FLOAT, (-1,)) for c in schema.columns]
    return [TensorSpec(MATRIX, FLOAT, (-1, *schema.shape))]


def alternatives_of(schema: InputSchema) -> list[list[TensorSpec]]:
    """Name what may be sent instead of all of :func:`inputs_of`: other datatypes, or a table as one tensor.

    They are not among the inputs themselves: clients take every input of a model's metadata for required.
    """
    if schema.kind != "tabular":
        whole = [TensorSpec(MATRIX, "UINT8", (-1, *schema.shape))]
        return [whole, [TensorSpec(MATRIX, BYTES, (-1,))]] if schema.kind == "image" else [whole]
    # A single column that is called `x` is that column; and a number that could mean two categories is refused.
    if schema.names == (MATRIX,) or any(column.misread_category for column in schema.columns):
        return []
    indices = {"categories": "index"} if any(column.kind == "categorical" for column in schema.columns) else {}
    return [[TensorSpec(MATRIX, FLOAT, (-1, len(schema.columns)), indices)]]


def beside_of(groups: Sequence[str]) -> list[TensorSpec]:
    """Name the tensors that may be sent beside the rows: their ids, and their values of declared attributes."""
    return [TensorSpec(name, BYTES, (-1,)) for name in (ID, *(GROUP + group for group in groups))]


def outputs_of(classes: Sequence[str], config: Config) -> list[TensorSpec]:
    """Name the tensors that may be asked for; the p-values come last, and only when asked for."""
    label, value = TensorSpec("label", BYTES, (-1,)), TensorSpec("value", FLOAT, (-1,))
    answers = (
        [label, TensorSpec(PROBABILITIES, FLOAT, (-1, len(classes)))]
        if classes
        else [value, TensorSpec("interval", FLOAT, (-1, 2))]
    )
    verdict = [TensorSpec("action", BYTES, (-1,)), TensorSpec("id", BYTES, (-1,))]
    return [*answers, *verdict, TensorSpec(P_VALUE, FLOAT, (-1, sum(guard.visible for guard in config.guards)))]


def top_k_outputs_of(classes: Sequence[str]) -> list[TensorSpec]:
    """Name the tensors whose columns are each row's most probable labels, if a request has ``top_k``.

    They are not among the outputs themselves: a client may ask for all of those, and these need the parameter.
    """
    return [TensorSpec(PROBABILITIES, FLOAT, (-1, -1)), TensorSpec(LABELS, BYTES, (-1, -1))] if classes else []


def default_outputs(classes: Sequence[str], config: Config, *, detail: bool, top_k: int | None = None) -> list[str]:
    """Name the tensors that are answered where a request names none."""
    names = [spec.name for spec in outputs_of(classes, config) if detail or spec.name != P_VALUE]
    if top_k is not None:
        names.insert(names.index(PROBABILITIES) + 1, LABELS)
    return names


def to_outputs(
    names: Sequence[str],
    answer: Answer,
    *,
    ids: Sequence[str],
    classes: Sequence[str],
    config: Config,
    top_k: int | None = None,
) -> tuple[list[Output], Action]:
    """Make the named tensors, and tell the strictest action; rows that have no answer are blank: NaN, or "".

    With ``top_k`` the columns of ``probabilities`` are each row's most probable labels, else all labels in order.
    """
    actions, _ = verdicts(answer, config)
    silent = np.array(actions) >= Action.ABSTAIN
    wide = _probabilities(answer, silent, classes, top_k) if {PROBABILITIES, LABELS} & set(names) else ()
    made = {output.name: output for output in (*wide, *_make(answer, actions, silent, ids, classes, config))}
    return [made[name] for name in names], Action(max(actions))


def _probabilities(answer: Answer, silent: Flags, classes: Sequence[str], top_k: int | None) -> Iterator[Output]:
    if answer.probabilities is None or top_k is None:
        yield Output(PROBABILITIES, _shown(answer.probabilities, (len(answer), len(classes)), silent))
        return
    order = most_likely(answer.probabilities, top_k)
    values = np.take_along_axis(answer.probabilities, order, axis=1)
    yield Output(
        PROBABILITIES, _shown(values, values.shape, silent), {"top_k": str(top_k), "classes": str(len(classes))}
    )
    rows = zip(order.tolist(), silent.tolist(), strict=True)
    labels = ["" if blank else classes[place] for places, blank in rows for place in places]
    yield Output(LABELS, labels, columns=top_k)


def _make(
    answer: Answer,
    actions: list[int],
    silent: Flags,
    ids: Sequence[str],
    classes: Sequence[str],
    config: Config,
) -> Iterator[Output]:
    n = len(answer)
    if answer.label is not None:
        labels = zip(answer.label.tolist(), silent.tolist(), strict=True)
        yield Output("label", ["" if blank else classes[label] for label, blank in labels])
    yield Output("value", _shown(answer.value, (n,), silent))
    yield Output("interval", _shown(answer.interval, (n, 2), silent))
    yield Output("action", [Action(action).label for action in actions])
    yield Output("id", list(ids))
    visible = [index for index, spec in enumerate(config.guards) if spec.visible]
    names = ",".join(config.guards[index].name for index in visible)
    yield Output(P_VALUE, np.ascontiguousarray(answer.p_value[:, visible], dtype="<f4"), {"guards": names})


def _shown(values: Numbers | None, shape: tuple[int, ...], silent: Flags) -> Numbers:
    """Blank the rows that have no answer; a model without labelled calibration rows has no intervals at all."""
    if values is None:
        return np.full(shape, np.nan, dtype="<f4")
    blank = silent.reshape(-1, *[1] * (values.ndim - 1))
    return np.where(blank, np.float32(np.nan), values).astype("<f4")
