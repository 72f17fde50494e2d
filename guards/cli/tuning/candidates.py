"""The detectors that a guard may have: all registered detectors that suit the reference, and are not in use."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch

from guards.cli.tuning.feature_layers import DEFAULT
from guards.cli.tuning.search_space import Searched, searched_fields
from guards.cli.tuning.workbench import Choice, Part, Workbench
from guards.config.plugins import registered
from guards.detectors.base import Detector
from guards.sentences import first_line
from guards.types import Batch

__all__ = ["Candidate", "candidates"]

TRIED = 512
"""The reference rows on which a detector is tried."""
PROBED = 16


@dataclass(frozen=True, slots=True)
class Candidate:
    """A kind of detector, the fields of its parameters that are searched, and whether it reads the features."""

    kind: str
    fields: tuple[Searched, ...]
    reads_features: bool


def candidates(
    bench: Workbench, clean: Part, device: torch.device, taken: Sequence[str]
) -> tuple[list[Candidate], dict[str, str]]:
    """List the detectors that suit the rows, and for each other detector the reason why it is left out.

    ``taken`` are the kinds of the other guards: the same detector twice finds nothing new.
    """
    found: list[Candidate] = []
    left_out: dict[str, str] = {}
    rows, suspects = (min(count, TRIED) for count in bench.rows)
    for kind, plugin in sorted(registered("detectors").items()):
        if kind in taken:
            left_out[kind] = "another guard has this detector"
            continue
        detector_class = cast("type[Detector]", plugin)
        try:
            scored = bench.fit(Choice({"kind": kind}, DEFAULT, 1.0), rows, suspects)
        except (ValueError, RuntimeError) as unfit:
            left_out[kind] = first_line(unfit)
            continue
        reads = _reads_features(scored.detector, clean.batch(DEFAULT, min(PROBED, len(clean.rows)), device))
        found.append(Candidate(kind, tuple(searched_fields(detector_class.Params)), reads))
    return found, left_out


@torch.inference_mode()
def _reads_features(detector: Detector, batch: Batch) -> bool:
    """Whether scores of rows (n, ...) change if the rows' features change places."""
    output = batch.output
    assert output is not None  # noqa: S101 - the model has run
    moved = Batch(batch.x, output=replace(output, features=output.features.roll(1, 0)))
    before, after = (detector.score(each).nan_to_num(-1.0) for each in (batch, moved))
    return not torch.equal(before, after)
