"""Answers to Triton's extensions of the protocol: the model's config and statistics, and the index of models."""

from collections.abc import Mapping, Sequence
from typing import Any

from service.front.protocols.v2_outputs import TensorSpec
from service.front.protocols.v2_tensors import BYTES
from service.messages.served_model import ServedModel

__all__ = ["Document", "Durations", "index", "model_config", "statistics"]

Document = dict[str, Any]
Durations = Mapping[str, tuple[int, float]]
STAGES = {"queue": "queue", "compute_input": "decode", "compute_infer": "model", "compute_output": "encode"}
"""Triton's name of a stage, and this server's name of the stage."""


def model_config(served: ServedModel, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Document:
    """Describe the model; ``dims`` are the sizes of one row, as Triton defines them if ``max_batch_size`` is not 0."""
    return {
        "name": served.name,
        "platform": served.platform,
        "backend": "",
        "max_batch_size": served.server.max_rows_per_request,
        "input": list(map(_tensor, inputs)),
        "output": list(map(_tensor, outputs)),
    }


def _tensor(spec: TensorSpec) -> Document:
    datatype = "STRING" if spec.datatype == BYTES else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{datatype}", "dims": list(spec.shape[1:]) or [1]}


def index(served: ServedModel, trouble: str | None, *, ready: bool) -> list[Document]:
    """List the one model, with the reason ``trouble`` if it is not ready; ``ready`` asks for ready models only."""
    if trouble is None:
        return [{"name": served.name, "version": served.version, "state": "READY", "reason": ""}]
    if ready:
        return []
    return [{"name": served.name, "version": served.version, "state": "UNAVAILABLE", "reason": trouble}]


def statistics(
    served: ServedModel, *, rows: int, last_inference: int, requests: Durations, stages: Durations
) -> Document:
    """Describe the counts since the server began: ``rows``, and (count, seconds) of ``requests`` and ``stages``.

    The keys of ``requests`` are `success` and `fail`. ``last_inference`` is in milliseconds since the epoch, 0 if there
    was no inference.
    """
    model = {"name": served.name, "version": served.version, "last_inference": last_inference}
    parts = {**requests, **{theirs: stages[ours] for theirs, ours in STAGES.items()}}
    spent = {name: {"count": count, "ns": round(seconds * 1e9)} for name, (count, seconds) in parts.items()}
    model |= {"inference_count": rows, "execution_count": stages["model"][0], "inference_stats": spent}
    return {"model_stats": [model]}
