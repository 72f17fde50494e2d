"""What the guards add to a forward pass of a ResNet-50-sized network, on the GPU if there is one.

No server is started. The bare network and the guarded pipeline take turns on
the same rows, and their ratio is taken pair by pair.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.report import print_document, print_table
from benchmarks.stacks.resnet import ResNet50
from guards.calibration.p_values import Calibration
from guards.calibration.prediction_sets import Classifier
from guards.detectors.base import Detector
from guards.detectors.confidence import Confidence, ConfidenceParams
from guards.detectors.mahalanobis import Mahalanobis, MahalanobisParams
from guards.detectors.ranges import Ranges, RangesParams
from guards.input.schema import InputSchema
from guards.model.torch_model import Precision, TorchModel
from guards.pipeline import Guard, Pipeline
from guards.types import Batch, ModelOutput, Reference

CLASSES = 1000
FITTED_ROWS = 2048
WARM_UP = 3
BATCHES: tuple[int, ...] = (1, 8, 32, 128)


def main(*, quick: bool) -> None:
    """Measure, print a table and the JSON document."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    gpu = device.type == "cuda"
    size, pairs = (224, 50) if gpu else (64, 5)
    batches = BATCHES if gpu else BATCHES[:3]
    precisions: tuple[Precision, ...] = ("float32", "bfloat16") if gpu else ("float32",)
    if quick:
        batches, pairs, precisions = batches[:1], 3, precisions[:1]
    rows: list[dict[str, Any]] = []
    for precision in precisions:
        for compiled in (False,) if quick else (False, True):
            model, pipeline = _pipeline(device, size, precision, compiled=compiled)
            for batch in batches:
                x = torch.rand((batch, 3, size, size), device=device)
                bare, guarded = _turns(model, pipeline, x, pairs)
                ratios = [b / a for a, b in zip(bare, guarded, strict=True)]
                rows.append(
                    {
                        "precision": precision,
                        "compiled": compiled,
                        "batch": batch,
                        "bare_ms": 1e3 * statistics.median(bare),
                        "guarded_ms": 1e3 * statistics.median(guarded),
                        "added": statistics.median(ratios) - 1,
                        "added_minimum": min(ratios) - 1,
                        "added_maximum": max(ratios) - 1,
                    }
                )
                sys.stderr.write(
                    f"{precision:9} {'compiled' if compiled else 'eager':8} batch {batch:4}: bare "
                    f"{rows[-1]['bare_ms']:8.3f} ms, guards add {rows[-1]['added']:7.2%}\n"
                )
    names = ("precision", "compiled", "batch")
    print_table(
        "what the guards add to a forward pass, pair by pair",
        {
            f"{row['precision']}, {'compiled' if row['compiled'] else 'eager'}, batch {row['batch']}": {
                key: value for key, value in row.items() if key not in names
            }
            for row in rows
        },
    )
    print_document("gpu", quick=quick, image_size=size, pairs=pairs, rows=rows)


def _pipeline(device: torch.device, size: int, precision: Precision, *, compiled: bool) -> tuple[TorchModel, Pipeline]:
    """Guard a network with random weights; the guards are fitted on made-up features, which cost what real ones do."""
    torch.manual_seed(0)
    schema = InputSchema(kind="image", shape=(3, size, size))
    model = TorchModel(
        ResNet50(CLASSES),
        example=schema.example_rows(2),
        outputs=CLASSES,
        precision=precision,
        device=device,
        compiled=compiled,
    )
    features = torch.rand((FITTED_ROWS, 2048), device=device)
    logits = torch.randn((FITTED_ROWS, CLASSES), device=device)
    images = schema.example_rows(8).to(device).repeat(FITTED_ROWS // 8, 1, 1, 1)[:64]
    labels = torch.arange(FITTED_ROWS, device=device) % 10  # ten class means: a thousand would be mostly one row each
    output = ModelOutput(logits, features)
    guards = []
    for name, detector, reference in (
        ("quality", Ranges(RangesParams()), Reference(Batch(images), None, schema)),
        ("ood", Mahalanobis(MahalanobisParams()), Reference(Batch(images, output=output), labels, schema)),
        ("confidence", Confidence(ConfidenceParams()), Reference(Batch(images, output=output), labels, schema)),
    ):
        fitted: Detector = detector.fit(reference).to(device)
        guards.append(Guard(name, fitted))
    scores: Tensor = torch.randn((len(guards), 5000))
    pipeline = Pipeline(
        model=model,
        guards=guards,
        calibration=Calibration.from_scores(scores),
        max_ranks=[16, 17, 17],
        predictor=Classifier(torch.rand(1000), coverage=0.9, temperature=1.0),
    )
    return model, pipeline


def _turns(model: TorchModel, pipeline: Pipeline, x: Tensor, pairs: int) -> tuple[list[float], list[float]]:
    """Time the bare model and the pipeline in turn, after a warm-up of each."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(WARM_UP + pairs):
        for kept, run in zip(times, (lambda: model(x), lambda: pipeline(Batch(x), causes=False)), strict=True):
            seconds = _seconds(run, x.device)
            if turn >= WARM_UP:
                kept.append(seconds)
    return times


def _seconds(function: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started
