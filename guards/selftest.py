"""Known rows with known verdicts: what a server must reproduce before it says that it is ready."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from guards.pipeline import Pipeline
from guards.schema import InputSchema
from guards.types import Batch, Mistake

__all__ = ["KNOWN_ROWS", "SelfTest", "fingerprint", "made_up_rows"]

KNOWN_ROWS = 16
LOOKED_AT = 256
"""Reference rows whose values go into made-up rows."""
INNER = 0.05, 0.95
"""Between these quantiles of a position: an outlier may be somebody's own."""
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}
P_VALUE_TOLERANCE = 0.05


def fingerprint(pipeline: Pipeline) -> str:
    """Name what bit-equality depends on: library, processor or device, threads, precision, compilation."""
    model = pipeline.model
    if model.device.type == "cuda":
        where = torch.cuda.get_device_name(model.device)
    else:
        where = f"{_processor()} {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()} threads"
    return f"torch {torch.__version__}, {where}, {model.precision}, compiled={model.compiled}"


def made_up_rows(x: Tensor, schema: InputSchema, count: int = KNOWN_ROWS, seed: int = 0) -> Tensor:
    """Make up rows (count, ...) that are like the reference rows x (n, ...), and none of them.

    Of a table the schema says enough. Of images and tensors each position gets a value that the reference has there,
    drawn by itself: token ids stay ids, and a sequence has a length.
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
    """Rows ``x`` with the logits, scores and p-values that the fitted pipeline gave them, and where it did."""

    x: Tensor
    logits: Tensor
    score: Tensor
    p_value: Tensor
    fingerprint: str

    @classmethod
    def record(cls, pipeline: Pipeline, x: Tensor) -> Self:
        """Run the pipeline and keep what it says."""
        logits, score, p_value = _run(pipeline, x)
        return cls(x, logits, score, p_value, fingerprint(pipeline))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], fingerprint: str) -> Self:
        """Read what :meth:`tensors` gave."""
        return cls(**{name: tensors[name] for name in ("x", "logits", "score", "p_value")}, fingerprint=fingerprint)

    def tensors(self) -> dict[str, Tensor]:
        """Give what a bundle keeps."""
        return {"x": self.x, "logits": self.logits, "score": self.score, "p_value": self.p_value}

    def check(self, pipeline: Pipeline) -> None:
        """Run the rows again: equal to the bit on the same device and build, within a tolerance elsewhere.

        Raises:
            Mistake: they came out otherwise.
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
        if pipeline.model.meaning != "logits":  # a logarithm makes much of the last bit of a probability near 0 or 1
            logits = known[0].softmax(1), found[0].softmax(1)
        close = torch.allclose(*logits, rtol=tolerance, atol=tolerance, equal_nan=True)
        near = torch.allclose(known[2], found[2], rtol=0, atol=P_VALUE_TOLERANCE, equal_nan=True)
        if not (close and near):
            raise Mistake(
                f"self-test: verdicts on known rows differ by more than {tolerance:g} from those of "
                f"{self.fingerprint!r}; fit the bundle anew on this device"
            )


def _run(pipeline: Pipeline, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    outcome = pipeline(Batch(x.to(pipeline.model.device)))
    return outcome.output.logits.cpu(), outcome.verdict.score.cpu(), outcome.verdict.p_value.cpu()
