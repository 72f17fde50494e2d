"""Finds out from the last operation and the values whether outputs are logits, probabilities or log-probabilities."""

from torch import Tensor

from guards.examination.trace import Operation, Trace
from guards.model.outputs import Declared, Meaning
from guards.notices import Notices
from guards.types import Mistake

__all__ = ["find_meaning"]

TOLERANCE, HALF_TOLERANCE = 1e-3, 3e-2
SOFTMAX, LOG_SOFTMAX = ("softmax", "_softmax"), ("log_softmax", "_log_softmax")
LOG_SIGMOID = ("log_sigmoid", "log_sigmoid_forward")
LINEAR = ("linear", "addmm", "mm", "bmm", "matmul", "convolution", "native_layer_norm", "native_batch_norm")
"""Operations whose values may be any number: their outputs are logits."""
DECLARE = "set model.output to logits, probabilities or log_probabilities"


def find_meaning(trace: Trace, outputs: Tensor, declared: Declared, *, binary: bool, notices: Notices) -> Meaning:
    """Find out what the outputs (n, k) of reference rows are; ``binary``: the only output is about ``classes[1]``.

    Raises:
        Mistake: the values contradict the declared meaning, or do not show which meaning they have.
    """
    last, width = trace.last(), outputs.shape[1]
    likeness = _likeness(outputs, HALF_TOLERANCE if trace.outputs.dtype.itemsize == 2 else TOLERANCE)  # noqa: PLR2004
    if width == 1 and last is not None and last.name in (*SOFTMAX, *LOG_SOFTMAX) and _axis(last) != 0:
        raise Mistake(
            "model: it ends in a softmax over one output, which is 1 whatever the row: return the output before the "
            "softmax, or two outputs"
        )
    if declared != "auto":
        return _as_declared(declared, likeness, outputs, notices)
    if width > 1 and last is not None and last.name == "sigmoid" and likeness is None:
        raise Mistake(
            "model: it ends in a sigmoid for each class (several labels a row), and the gateway serves one label a "
            "row: return the values before the sigmoid, or, if the labels exclude one another, set model.output to "
            "logits"
        )
    found = _found(last, likeness, binary=binary, clamped=trace.clamps)
    if found is None:
        raise Mistake(
            f"model.output: all outputs of {len(outputs)} reference rows lie in [0, 1], and it cannot be told whether "
            f"they are probabilities of classes[1] or logits: {DECLARE}"
        )
    if found == "probabilities" and bool(((outputs == 0) | (outputs == 1)).all()):
        notices.warn(
            f"model.output: every output of {len(outputs)} reference rows is 0 or 1: these are labels, not "
            "probabilities, and no guard can tell a sure answer from another; return the values before the argmax"
        )
    if found != "logits":
        by = f"its last operation is {last.name.strip('_')}" if last and _sure(last) else "by their values"
        notices.note(
            f"model.output: the outputs are {found.replace('_', '-')} ({by}); their logits are used, "
            "so that the probabilities are the model's own"
        )
    return found


def _found(last: Operation | None, likeness: Meaning | None, *, binary: bool, clamped: bool) -> Meaning | None:
    name = last.name if last is not None else ""
    if not binary:
        return likeness or "logits"
    if name == "sigmoid":
        return "probabilities"
    if name in LOG_SIGMOID:
        return "log_probabilities"
    if name == "select" and last is not None and last.tensor is not None and likeness == "probabilities":
        inner = last.tensor
        return "probabilities" if last.args[2] in (inner.shape[-1] - 1, -1) else None
    return None if likeness == "probabilities" and (clamped or name not in LINEAR) else "logits"


def _sure(last: Operation) -> bool:
    return last.name in (*SOFTMAX, *LOG_SOFTMAX, "sigmoid", *LOG_SIGMOID)


def _likeness(outputs: Tensor, tolerance: float) -> Meaning | None:
    """Say what the values could be; None if they are neither probabilities nor logarithms of probabilities."""
    within = bool(((outputs >= -tolerance) & (outputs <= 1 + tolerance)).all())
    if outputs.shape[1] == 1:
        return "probabilities" if within else None
    if within and bool(((outputs.sum(1) - 1).abs() <= tolerance).all()):
        return "probabilities"
    if bool((outputs <= tolerance).all()) and bool(((outputs.exp().sum(1) - 1).abs() <= tolerance).all()):
        return "log_probabilities"
    return None


def _as_declared(declared: Meaning, likeness: Meaning | None, outputs: Tensor, notices: Notices) -> Meaning:
    low, high = float(outputs.min()), float(outputs.max())
    if declared == "logits":
        if likeness is not None and outputs.shape[1] > 1:
            notices.warn(
                f"model.output: logits are declared, and the outputs of reference rows look like "
                f"{likeness.replace('_', '-')}: a second softmax would change the probabilities"
            )
        return declared
    one_logarithm = outputs.shape[1] == 1 and declared == "log_probabilities"
    if not (high <= HALF_TOLERANCE if one_logarithm else likeness == declared):
        sums = outputs.sum(1) if declared == "probabilities" else outputs.exp().sum(1)
        over = (
            f", with sums of {float(sums.min()):.3g} to {float(sums.max()):.3g} a row" if outputs.shape[1] > 1 else ""
        )
        raise Mistake(
            f"model.output: {declared} are declared, and the outputs of reference rows lie between {low:.3g} and "
            f"{high:.3g}{over}: set model.output to auto, or to what the model returns"
        )
    return declared


def _axis(softmax: Operation) -> int:
    return int(softmax.args[1]) if len(softmax.args) > 1 and isinstance(softmax.args[1], int) else -1
