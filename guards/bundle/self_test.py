"""The self-test: known rows with known answers, which a bundle must reproduce before it answers other rows."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from guards.input.schema import InputSchema
from guards.pipeline import Pipeline
from guards.types import Batch, Mistake

__all__ = ["KNOWN_ROWS", "SelfTest", "fingerprint", "made_up_rows"]

KNOWN_ROWS = 16
LOOKED_AT = 256
"""How many reference rows give their values to made-up rows."""
INNER = 0.05, 0.95
"""Made-up values lie between these quantiles of a position: an outlier may identify a person."""
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}
P_VALUE_TOLERANCE = 0.05
ANSWERS = "logits", "score", "p_value", "probabilities"


def fingerprint(pipeline: Pipeline) -> str:
    """Name what equality to the bit depends on: library, processor or device, threads, precision, compilation."""
    model = pipeline.model
    if model.device.type == "cuda":
        where = torch.cuda.get_device_name(model.device)
    else:
        where = f"{_processor()} {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()} threads"
    return f"torch {torch.__version__}, {where}, {model.precision}, compiled={model.compiled}"


def made_up_rows(x: Tensor, schema: InputSchema, count: int = KNOWN_ROWS, seed: int = 0) -> Tensor:
    """Make up rows (count, ...) that are like the reference rows x (n, ...), but copy none of them.

    For a table, the schema says enough. For images and tensors, each position gets a value that some reference row has
    at this position, drawn independently of the others: so token ids stay ids, and a sequence has a length.
    """
    if schema.kind == "tabular":
        return schema.example_rows(count, seed)
    some = x[torch.linspace(0, len(x) - 1, min(len(x), LOOKED_AT)).round().long()].flatten(1).cpu().sort(0).values
    drawn = torch.rand((count, some.shape[1]), generator=torch.Generator().manual_seed(seed))
    places = ((INNER[0] + (INNER[1] - INNER[0]) * drawn) * len(some)).long()
    return some.gather(0, places).reshape(count, *x.shape[1:])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


@dataclass(frozen=True, slots=True, eq=False)
class SelfTest:
    """Rows ``x`` with the fitted pipeline's answers, the ``labels`` in logit order, and the machine's fingerprint.

    ``logits`` (n, k), ``score`` and ``p_value`` (g, n) of the guards, and the calibrated ``probabilities`` (n, k),
    which are empty for a regression. The labels lie beside the answers, and not only in the manifest, so that a
    manifest with other labels is found.
    """

    x: Tensor
    logits: Tensor
    score: Tensor
    p_value: Tensor
    probabilities: Tensor
    labels: tuple[str, ...]
    fingerprint: str

    @classmethod
    def record(cls, pipeline: Pipeline, x: Tensor, labels: Sequence[str]) -> Self:
        """Run the pipeline on rows ``x`` and keep the results."""
        return cls(x, *_run(pipeline, x), tuple(labels), fingerprint(pipeline))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], fingerprint: str) -> Self:
        """Make a self-test from the tensors that :meth:`tensors` returned."""
        labels = tuple(json.loads(tensors["labels"].numpy().tobytes()))
        return cls(**{name: tensors[name] for name in ("x", *ANSWERS)}, labels=labels, fingerprint=fingerprint)

    def tensors(self) -> dict[str, Tensor]:
        """Give the tensors that a bundle keeps, by name; the labels are the bytes of a JSON list."""
        labels = torch.frombuffer(bytearray(json.dumps(self.labels).encode()), dtype=torch.uint8)
        return {"x": self.x, **{name: getattr(self, name) for name in ANSWERS}, "labels": labels}

    def check(self, pipeline: Pipeline, labels: Sequence[str]) -> None:
        """Run the rows again: results must be equal to the bit on the same device and build, elsewhere nearly equal.

        ``labels`` are the labels in logit order that answers would show.

        Raises:
            Mistake: the results or the labels differ.
        """
        if tuple(labels) != self.labels:
            raise Mistake("self-test: the labels, or their order, are not those of the fit; fit the bundle anew")
        known = (self.logits, self.score, self.p_value, self.probabilities)
        found = _run(pipeline, self.x)
        if self.fingerprint == fingerprint(pipeline):
            if not all(_equal(*pair) for pair in zip(known, found, strict=True)):
                raise Mistake("self-test: this device and build gave other verdicts on known rows; fit the bundle anew")
            return
        tolerance = TOLERANCE[pipeline.model.precision]
        logits = known[0], found[0]
        if pipeline.model.meaning != "logits":  # logarithms enlarge rounding of probabilities near 0 and 1
            logits = known[0].softmax(1), found[0].softmax(1)
        close = all(_close(*pair, tolerance, tolerance) for pair in (logits, (known[3], found[3])))
        near = _close(known[2], found[2], P_VALUE_TOLERANCE, 0.0)
        if not (close and near):
            raise Mistake(
                f"self-test: verdicts on known rows differ by more than {tolerance:g} from the verdicts of "
                f"{self.fingerprint!r}; fit the bundle anew on this device"
            )


def _run(pipeline: Pipeline, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Give the answers in the order of :data:`ANSWERS`."""
    result = pipeline(Batch(x.to(pipeline.model.device)))
    logits, verdict, probabilities = result.output.logits, result.verdict, result.prediction.probabilities
    probabilities = logits.new_empty(0) if probabilities is None else probabilities
    return logits.cpu(), verdict.score.cpu(), verdict.p_value.cpu(), probabilities.cpu()


def _equal(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.nan_to_num(-1.0), other.nan_to_num(-1.0))


def _close(one: Tensor, other: Tensor, absolute: float, relative: float) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=relative, atol=absolute, equal_nan=True)
