"""What Triton's clients ask of a server besides the protocol: a model's config, its statistics, and an index."""

from collections.abc import Mapping, Sequence
from typing import Any

from guards.config import Config
from service.protocols.outputs import TensorSpec
from service.protocols.tensors import BYTES

__all__ = ["Document", "Durations", "index", "model_config", "statistics"]

Document = dict[str, Any]
Durations = Mapping[str, tuple[int, float]]
STAGES = {"queue": "queue", "compute_input": "decode", "compute_infer": "model", "compute_output": "encode"}
"""Triton's word for a stage, and ours."""


def model_config(
    config: Config, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], platform: str
) -> Document:
    """Describe the model; ``dims`` are a row's, as always where ``max_batch_size`` is not 0."""
    return {
        "name": config.name,
        "platform": platform,
        "backend": "",
        "max_batch_size": config.server.max_rows_per_request,
        "input": list(map(_tensor, inputs)),
        "output": list(map(_tensor, outputs)),
    }


def _tensor(spec: TensorSpec) -> Document:
    datatype = "STRING" if spec.datatype == BYTES else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{datatype}", "dims": list(spec.shape[1:]) or [1]}


def index(config: Config, trouble: str | None, *, ready: bool) -> list[Document]:
    """List the one model; with ``ready`` only if it is, and else with why it is not."""
    if trouble is None:
        return [{"name": config.name, "version": config.version, "state": "READY", "reason": ""}]
    if ready:
        return []
    return [{"name": config.name, "version": config.version, "state": "UNAVAILABLE", "reason": trouble}]


def statistics(config: Config, *, rows: int, last_inference: int, requests: Durations, stages: Durations) -> Document:
    """Count since the process began: ``rows``, and counts with seconds of requests (`success`, `fail`) and stages.

    ``last_inference`` is in milliseconds since the epoch, 0 if there was none.
    """
    model = {"name": config.name, "version": config.version, "last_inference": last_inference}
    parts = {**requests, **{theirs: stages[ours] for theirs, ours in STAGES.items()}}
    spent = {name: {"count": count, "ns": round(seconds * 1e9)} for name, (count, seconds) in parts.items()}
    model |= {"inference_count": rows, "execution_count": stages["model"][0], "inference_stats": spent}
    return {"model_stats": [model]}
