"""Times the stages of the pipeline on this machine: input guards, model, output guards, and the decision."""

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from guards.pipeline import Pipeline
from guards.types import Batch

__all__ = ["BATCH", "StageCost", "machine", "stage_costs"]

BATCH = 32
ROUNDS, WARM_UP, SECONDS = 200, 10, 4.0
CPU = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class StageCost:
    """Microseconds a row of one stage: the median, and the 5 % and 95 % quantile over batches."""

    stage: str
    median: float
    low: float
    high: float


@torch.inference_mode()
def stage_costs(pipeline: Pipeline, batches: Sequence[Batch]) -> list[StageCost]:
    """Time each stage on the batches in turn, a few seconds in all.

    A round runs all stages, so that whatever else the machine does touches all stages alike.
    """
    stages = ("input guards", "model", "output guards", "decision")
    taken: list[list[float]] = []
    end = time.monotonic() + SECONDS
    for turn in range(ROUNDS + WARM_UP):
        batch = batches[turn % len(batches)]
        marks = _one_batch(pipeline, batch)
        if turn >= WARM_UP:
            taken.append([each / len(batch) / 1000 for each in marks])
            if time.monotonic() > end:
                break
    low, middle, high = np.quantile(np.array(taken), (0.05, 0.5, 0.95), axis=0).tolist()
    return [StageCost(*each) for each in zip(stages, middle, low, high, strict=True)]


def _one_batch(pipeline: Pipeline, batch: Batch) -> list[float]:
    """Give the nanoseconds of each stage for one batch; a GPU is waited for after each stage."""
    marks = [_now(batch)]
    findings = pipeline.check_input(batch)
    marks.append(_now(batch))
    batch = pipeline.forward(batch)
    marks.append(_now(batch))
    findings |= pipeline.check_output(batch)
    marks.append(_now(batch))
    pipeline.conclude(batch, findings)
    marks.append(_now(batch))
    return [float(later - earlier) for earlier, later in pairwise(marks)]


def _now(batch: Batch) -> int:
    if batch.x.device.type == "cuda":
        torch.cuda.synchronize(batch.x.device)
    return time.perf_counter_ns()


def machine(device: torch.device) -> str:
    """Name the processor, or the GPU, and how many threads torch has."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    if CPU.is_file():
        lines = CPU.read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'' if threads == 1 else 's'} of torch {torch.__version__}"
