"""The input and output tensors of a model in the Open Inference Protocol, and the output tensors of an answer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from guards.actions import Action
from guards.input.schema import InputSchema
from service.front.protocols.top_k import most_likely
from service.front.protocols.v2_rows import GROUP, ID, MATRIX
from service.front.protocols.v2_tensors import BYTES, Numbers
from service.front.protocols.verdicts import WORDS, shown_actions
from service.messages.answer import LEFT_OUT, Answer
from service.messages.served_model import ServedModel

__all__ = [
    "LABELS", "PROBABILITIES", "Output", "TensorSpec", "alternatives_of", "beside_of", "default_outputs", "inputs_of",
    "outputs_of", "to_outputs", "top_k_outputs_of",
]  # fmt: skip

FLOAT = "FP32"
LABEL, VALUE, INTERVAL, ACTION = "label", "value", "interval", "action"
P_VALUE, PROBABILITIES, LABELS = "p_value", "probabilities", "top_k_labels"
ACTIONS, ABSTAIN = tuple(Action), int(Action.ABSTAIN)
FLOATS = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """The description of a tensor. A size of -1 may vary, as the number of rows. ``parameters`` explain the values."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Output:
    """An output tensor: ``values`` is a float32 array, or a flat list of strings, (n,) or (n, ``columns``)."""

    name: str
    values: list[str] | Numbers
    parameters: Mapping[str, str] = field(default_factory=dict)
    columns: int | None = None

    @property
    def datatype(self) -> str:
        """The datatype in the protocol."""
        return BYTES if isinstance(self.values, list) else FLOAT

    @property
    def shape(self) -> list[int]:
        """The shape in the protocol."""
        if not isinstance(self.values, list):
            return list(self.values.shape)
        return [len(self.values)] if self.columns is None else [len(self.values) // self.columns, self.columns]


def inputs_of(schema: InputSchema) -> list[TensorSpec]:
    """Return the required inputs: one tensor for each column of a table; for other rows one tensor of whole rows."""
    if schema.kind == "tabular":
        return [TensorSpec(c.name, BYTES if c.kind == "categorical" else FLOAT, (-1,)) for c in schema.columns]
    return [TensorSpec(MATRIX, FLOAT, (-1, *schema.shape))]


def alternatives_of(schema: InputSchema) -> list[list[TensorSpec]]:
    """Return the inputs that may replace all of :func:`inputs_of`: another datatype, or a table as one tensor.

    These tensors are not listed as inputs: clients assume that every input in a model's metadata is required.
    """
    if schema.kind != "tabular":
        whole = [TensorSpec(MATRIX, "UINT8", (-1, *schema.shape))]
        return [whole, [TensorSpec(MATRIX, BYTES, (-1,))]] if schema.kind == "image" else [whole]
    # If the only column is called `x`, a tensor `x` is that column. If a number could mean two categories, a tensor
    # of all columns is refused.
    if schema.names == (MATRIX,) or any(column.misread_category for column in schema.columns):
        return []
    indices = {"categories": "index"} if any(column.kind == "categorical" for column in schema.columns) else {}
    return [[TensorSpec(MATRIX, FLOAT, (-1, len(schema.columns)), indices)]]


def beside_of(groups: Sequence[str]) -> list[TensorSpec]:
    """Return the optional inputs: the rows' ids, and the rows' values of declared attributes."""
    return [TensorSpec(name, BYTES, (-1,)) for name in (ID, *(GROUP + group for group in groups))]


def outputs_of(served: ServedModel) -> list[TensorSpec]:
    """Return the output tensors that a request may name. The p-values come last, and only if they are asked for."""
    classes = served.classes
    label, value = TensorSpec(LABEL, BYTES, (-1,)), TensorSpec(VALUE, FLOAT, (-1,))
    answers = (
        [label, TensorSpec(PROBABILITIES, FLOAT, (-1, len(classes)))]
        if classes
        else [value, TensorSpec(INTERVAL, FLOAT, (-1, 2))]
    )
    verdict = [TensorSpec(ACTION, BYTES, (-1,)), TensorSpec(ID, BYTES, (-1,))]
    return [*answers, *verdict, TensorSpec(P_VALUE, FLOAT, (-1, len(served.visible_guards)))]


def top_k_outputs_of(classes: Sequence[str]) -> list[TensorSpec]:
    """Return the output tensors of a request with ``top_k``; their columns are each row's most probable labels.

    These tensors are not listed as outputs: a client may ask for all listed outputs, but these need the parameter.
    """
    return [TensorSpec(PROBABILITIES, FLOAT, (-1, -1)), TensorSpec(LABELS, BYTES, (-1, -1))] if classes else []


def default_outputs(served: ServedModel, *, detail: bool, top_k: int | None = None) -> list[str]:
    """Return the names of the outputs that are sent if a request names no outputs."""
    names = [LABEL, PROBABILITIES] if served.classes else [VALUE, INTERVAL]
    if top_k is not None:
        names.append(LABELS)
    names += [ACTION, ID]
    return [*names, P_VALUE] if detail else names


def to_outputs(
    names: Sequence[str],
    answer: Answer,
    *,
    ids: Sequence[str],
    served: ServedModel,
    top_k: int | None = None,
) -> tuple[list[Output], Action]:
    """Return the named tensors, and the strictest action. Rows without an answer are blank: NaN, or "".

    If ``top_k`` is given, the columns of ``probabilities`` are each row's most probable labels; otherwise the columns
    are all labels in the model's order.
    """
    actions = shown_actions(answer, served)
    strictest = max(actions)
    blank = [action >= ABSTAIN for action in actions]
    made: dict[str, Output] = {}
    for name in names:
        if name in (PROBABILITIES, LABELS):
            if name not in made:
                for output in _probabilities(answer, blank, served.classes, top_k):
                    made[output.name] = output
        else:
            made[name] = _make(name, answer, actions, blank, ids, served)
    return [made[name] for name in names], ACTIONS[strictest]


def _probabilities(
    answer: Answer, blank: Sequence[bool], classes: Sequence[str], top_k: int | None
) -> Iterator[Output]:
    if answer.probabilities is None or top_k is None:
        yield Output(PROBABILITIES, _shown(answer.probabilities, (len(answer), len(classes)), blank))
        return
    order = most_likely(answer.probabilities, top_k)
    values = np.take_along_axis(answer.probabilities, order, axis=1)
    yield Output(
        PROBABILITIES, _shown(values, values.shape, blank), {"top_k": str(top_k), "classes": str(len(classes))}
    )
    rows = zip(order.tolist(), blank, strict=True)
    labels = ["" if silent else classes[place] for places, silent in rows for place in places]
    yield Output(LABELS, labels, columns=top_k)


def _make(
    name: str, answer: Answer, actions: list[int], blank: Sequence[bool], ids: Sequence[str], served: ServedModel
) -> Output:
    """Return one output tensor other than the probabilities and their labels."""
    n = len(answer)
    if name == LABEL:
        assert answer.label is not None  # noqa: S101 - a regression has no such output
        labels = zip(answer.label.tolist(), blank, strict=True)
        return Output(LABEL, ["" if silent else served.classes[label] for label, silent in labels])
    if name == ACTION:
        return Output(ACTION, [WORDS[action] for action in actions])
    if name == ID:
        return Output(ID, list(ids))
    if name == VALUE:
        return Output(VALUE, _shown(answer.value, (n,), blank))
    if name == INTERVAL:
        return Output(INTERVAL, _shown(answer.interval, (n, 2), blank))
    visible = [at for at, _ in served.visible_guards]
    guards = ",".join(guard.name for _, guard in served.visible_guards)
    p_value = np.ascontiguousarray(answer.p_value[:, visible], dtype=FLOATS)
    p_value[p_value == LEFT_OUT] = np.nan
    return Output(P_VALUE, p_value, {"guards": guards})


def _shown(values: Numbers | None, shape: tuple[int, ...], blank: Sequence[bool]) -> Numbers:
    """Blank the rows without an answer. If there are no ``values``, as in a model without intervals, all are NaN."""
    if values is None:
        return np.full(shape, np.nan, dtype=FLOATS)
    if not any(blank):
        return values.astype(FLOATS, copy=False)
    silent = np.array(blank).reshape(-1, *[1] * (values.ndim - 1))
    return np.where(silent, np.float32(np.nan), values).astype(FLOATS)
