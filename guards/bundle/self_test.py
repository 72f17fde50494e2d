"""The self-test: known rows with known verdicts, which a server must reproduce before it says that it is ready."""

import platform
from collections.abc import Mapping
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
    """Rows ``x`` with the logits, scores and p-values of the fitted pipeline, and the fingerprint of its machine."""

    x: Tensor
    logits: Tensor
    score: Tensor
    p_value: Tensor
    fingerprint: str

    @classmethod
    def record(cls, pipeline: Pipeline, x: Tensor) -> Self:
        """Run the pipeline on rows ``x`` and keep the results."""
        logits, score, p_value = _run(pipeline, x)
        return cls(x, logits, score, p_value, fingerprint(pipeline))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], fingerprint: str) -> Self:
        """Make a self-test from the tensors that :meth:`tensors` returned."""
        return cls(**{name: tensors[name] for name in ("x", "logits", "score", "p_value")}, fingerprint=fingerprint)

    def tensors(self) -> dict[str, Tensor]:
        """Give the tensors that a bundle keeps, by name."""
        return {"x": self.x, "logits": self.logits, "score": self.score, "p_value": self.p_value}

    def check(self, pipeline: Pipeline) -> None:
        """Run the rows again: results must be equal to the bit on the same device and build, elsewhere nearly equal.

        Raises:
            Mistake: the results differ.
        """
        known = (self.logits, self.score, self.p_value)
        found = _run(pipeline, self.x)
        if self.fingerprint == fingerprint(pipeline):
            equal = all(torch.equal(a.nan_to_num(-1.0), b.nan_to_num(-1.0)) for a, b in zip(known, found, strict=True))
            if not equal:
                raise Mistake("self-test: this device and build gave other verdicts on known rows; fit the bundle anew")
            return
        tolerance = TOLERANCE[pipeline.model.precision]
        logits = known[0], found[0]
        if pipeline.model.meaning != "logits":  # logarithms enlarge rounding of probabilities near 0 and 1
            logits = known[0].softmax(1), found[0].softmax(1)
        close = torch.allclose(*logits, rtol=tolerance, atol=tolerance, equal_nan=True)
        near = torch.allclose(known[2], found[2], rtol=0, atol=P_VALUE_TOLERANCE, equal_nan=True)
        if not (close and near):
            raise Mistake(
                f"self-test: verdicts on known rows differ by more than {tolerance:g} from the verdicts of "
                f"{self.fingerprint!r}; fit the bundle anew on this device"
            )


def _run(pipeline: Pipeline, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    result = pipeline(Batch(x.to(pipeline.model.device)))
    return result.output.logits.cpu(), result.verdict.score.cpu(), result.verdict.p_value.cpu()
