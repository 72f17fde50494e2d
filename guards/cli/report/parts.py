"""Reads the rows that a report is about, and runs a bundle on them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from guards.bundle.batches import batches_of
from guards.bundle.bundle import Bundle
from guards.bundle.fit_rows import places_set_aside
from guards.bundle.labelled import Labelled
from guards.bundle.model_quality.quality import Quality, quality
from guards.cli.report.measures.losses import losses
from guards.config.config import Config
from guards.data.reference import ReferenceFile, read_reference, read_rows, split_order
from guards.data.row_parts import unlabelled_rows
from guards.data.rows import load_rows
from guards.data.value_spread import compare_spread
from guards.model.chunked_run import CHUNK, refusing, run_model
from guards.notices import Notices
from guards.pipeline import Pipeline
from guards.types import Mistake, ModelOutput, Result, Rows

__all__ = ["Parts", "ReportPart", "Track", "calibration_scores", "read_parts", "refuse_absent"]

Floats = npt.NDArray[np.float64]
Track = Callable[[range, str], Iterable[int]]
CLOSE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class ReportPart:
    """The rows of one file, or of a part of one, with the model's output on the host.

    ``place`` (n,) is each row's number in its file, from 0. ``result`` is the pipeline's; only the training rows have
    none, since no threshold is judged on them.
    """

    name: str
    path: Path
    rows: Rows
    place: Tensor
    output: ModelOutput
    result: Result | None = None

    @property
    def judged(self) -> Result:
        """The pipeline's result for these rows, which are not the training rows."""
        assert self.result is not None  # noqa: S101 - only the training rows have none
        return self.result

    @property
    def y(self) -> Floats | None:
        """The labels (n,), class indices or values; None without labels."""
        return None if self.rows.y is None else self.rows.y.double().numpy()

    def quality(self, classes: tuple[str, ...]) -> Quality | None:
        """Measure the model on these rows; None without labels."""
        return quality(Labelled(self.output.logits, self.rows.y), classes)

    def losses(self, classes: tuple[str, ...]) -> Floats:
        """Give the model's loss of each row (n,); the rows have labels."""
        assert self.y is not None  # noqa: S101 - the caller looked
        return losses(self.output.logits.double().numpy(), self.y, classification=bool(classes))


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Everything that a report is about.

    ``heldout`` are all held-out rows of the reference; ``calibration`` are those of them that set the thresholds: a
    part of the others set the temperature. ``clean`` and ``suspect`` are the files of the command line. ``separate``
    is true if the config names a file of calibration rows: only then it is sure that the model was not trained on them.
    """

    bundle: Bundle
    pipeline: Pipeline
    reference: ReferenceFile
    train: ReportPart
    heldout: ReportPart
    calibration: ReportPart
    clean: ReportPart | None
    suspect: ReportPart | None
    separate: bool

    @property
    def both(self) -> tuple[ReportPart, ReportPart]:
        """The training rows and the held-out rows."""
        return self.train, self.heldout

    @property
    def fresh(self) -> ReportPart:
        """The rows for which confidence and guards are judged: the clean file, or else the calibration rows."""
        return self.calibration if self.clean is None else self.clean


def read_parts(
    bundle: Bundle, folder: Path, clean: Path | None, suspect: Path | None, notices: Notices, track: Track
) -> Parts:
    """Read the reference of a bundle's config, whose paths start from ``folder``, and run the model on all rows.

    Raises:
        Mistake: a file does not fit the bundle, or the rows are not those that the bundle was fitted on.
    """
    config, schema, classes = bundle.config, bundle.schema, bundle.classes
    reference = read_reference(config, folder, notices)
    _, train, heldout = read_rows(reference, config, folder, notices, schema=schema, classes=classes)
    path = held_path = reference.path
    places = (torch.arange(len(train)), torch.arange(len(heldout)))
    if config.reference.calibration is None:
        places = split_order(len(train) + len(heldout), config.reference)
    else:
        held_path = folder / config.reference.calibration
    # The rows that set the temperature come first, so that the calibration rows are a slice.
    tuning, calibration = places_set_aside(heldout, config)
    order = torch.cat([tuning, calibration])
    pipeline = bundle.pipeline()
    output = run_model(bundle.model, train.x, lambda steps: track(steps, "training"))
    held = _judged("held-out", held_path, heldout.take(order), places[1][order], bundle, pipeline, track)
    parts = Parts(
        bundle=bundle,
        pipeline=pipeline,
        reference=reference,
        train=ReportPart("training", path, train, places[0], _on_host(output)),
        heldout=held,
        calibration=_since(held, len(tuning)),
        clean=_given("clean", clean, bundle, pipeline, notices, track),
        suspect=_given("suspect", suspect, bundle, pipeline, notices, track),
        separate=config.reference.calibration is not None,
    )
    _refuse_other_rows(parts)
    return parts


def calibration_scores(parts: Parts) -> Tensor:
    """Give the guards' scores (g, n) of the calibration rows, on the host."""
    return parts.calibration.judged.verdict.score.cpu()


def refuse_absent(config: Config, folder: Path, clean: Path | None, suspect: Path | None) -> None:
    """Refuse a report if a file that it needs is not there.

    Raises:
        Mistake: one sentence for each such file.
    """
    named = {"reference.path": config.reference.path, "reference.calibration": config.reference.calibration}
    files = {key: folder / name for key, name in named.items() if name is not None}
    given = {"--clean": clean, "--suspect": suspect}
    absent = [
        f"{key}: no file {path}: a report needs the rows that the bundle was fitted on, and a bundle does not hold "
        "them; --config names the config from whose folder their paths start"
        for key, path in files.items()
        if not path.exists()
    ]
    absent += [f"{key}: no file {path}" for key, path in given.items() if path is not None and not path.exists()]
    if absent:
        raise Mistake(*absent)


def _given(
    name: str, path: Path | None, bundle: Bundle, pipeline: Pipeline, notices: Notices, track: Track
) -> ReportPart | None:
    if path is None:
        return None
    schema = bundle.schema
    if name == "suspect":
        rows = unlabelled_rows(path, bundle.config, schema, notices)
    else:
        rows = load_rows(path, bundle.config, schema, bundle.classes, notices)
        compare_spread(rows, schema.spread, kind=schema.kind, path=path, notices=notices)
    return _judged(name, path, rows, torch.arange(len(rows)), bundle, pipeline, track)


def _judged(
    name: str, path: Path, rows: Rows, place: Tensor, bundle: Bundle, pipeline: Pipeline, track: Track
) -> ReportPart:
    results = []
    for _, batch in zip(track(range(0, len(rows), CHUNK), name), batches_of(bundle, rows), strict=True):
        with refusing(bundle.model, batch.x):
            results.append(pipeline(batch, causes=False))
    result = Result.join(results)
    return ReportPart(name, path, rows, place, _on_host(result.output), result)


def _since(part: ReportPart, start: int) -> ReportPart:
    """Take the held-out rows from a place on: the calibration rows."""
    rows = slice(start, len(part.rows))
    return ReportPart(
        name="calibration",
        path=part.path,
        rows=part.rows.take(torch.arange(start, len(part.rows))),
        place=part.place[rows],
        output=part.output[rows],
        result=part.judged[rows],
    )


def _on_host(output: ModelOutput) -> ModelOutput:
    return ModelOutput(output.logits.cpu(), output.features.cpu())


def _refuse_other_rows(parts: Parts) -> None:
    """Refuse rows for which the guards' scores are not those of the bundle: the files changed since the fit.

    Raises:
        Mistake: there are such rows.
    """
    ours, theirs = calibration_scores(parts), parts.bundle.scores.cpu()
    violated = parts.calibration.judged.verdict.violated
    if violated is not None:
        ours = ours[:, ~violated.any(0).cpu()]
    if not len(theirs):
        return
    one, two = (torch.nan_to_num(each.double()).sort(1).values for each in (ours, theirs))
    if one.shape == two.shape and float(torch.isclose(one, two, CLOSE, CLOSE).double().mean()) > 1 - CLOSE:
        return
    key = "reference.calibration" if parts.separate else "reference.path"
    raise Mistake(
        f"{key}: {parts.heldout.path} does not hold the rows that this bundle was calibrated on (the guards give them "
        "other scores): give the file as it was, or fit the bundle anew"
    )
