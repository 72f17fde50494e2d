"""Errors found in tables and images by `ranges`, by its bounds alone, by the guards of a model, and by `image_quality`.

The detectors' design was chosen on the train parts of Adult and Fashion-MNIST. What is reported are their test parts,
and MNIST, which no choice has seen.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.report import print_document, print_table
from benchmarks.harness.servers import ROOT
from benchmarks.input_quality.contamination import contamination, shown
from benchmarks.input_quality.image_errors import CORRUPTIONS, images
from benchmarks.input_quality.table_errors import ERRORS, Adult
from guards.bundle.fitted_state import named_state, restored
from guards.calibration.p_values import Calibration
from guards.detectors.base import Detector
from guards.detectors.image_quality import ImageQuality, ImageQualityParams
from guards.detectors.ranges import Ranges, RangesParams
from guards.input.schema import InputSchema
from guards.statistics.proportions import proportion
from guards.types import Batch, Reference

DATA = Path(os.environ.get("GUARDHOUSE_DATA", ROOT.parent / "shared" / "data"))
RARE, SELDOM = 0.01, 0.05
"""The rates of false alarms at which errors are searched."""
CALIBRATION, CHUNK, ROUNDS = 5000, 1000, 200
BOUNDS = (
    *("low", "high", "width", "missing_surprise", "never"),
    *("declared_low", "declared_high", "declared_present", "image"),
)
"""The state of `ranges` before it knew combinations."""


class Judge:
    """A detector with its calibration on clean rows."""

    def __init__(self, detector: Detector, calibration: Tensor) -> None:
        self.detector = detector
        self._calibration = Calibration.from_scores(self._score(calibration))

    def p_value(self, x: Tensor) -> Tensor:
        """Give the p-value of each row."""
        return self._calibration.p_value(self._score(x))

    def _score(self, x: Tensor) -> Tensor:
        return torch.cat([self.detector.score(Batch(part)) for part in torch.split(x, CHUNK)])


@torch.inference_mode()
def main(*, quick: bool) -> None:
    """Measure, print tables and the JSON document."""
    if not (DATA / "adult").is_dir() or not (DATA / "fashion-mnist").is_dir():
        sys.exit(f"no data at {DATA}: set GUARDHOUSE_DATA to a folder with adult, fashion-mnist and mnist")
    torch.set_num_threads(1)
    rows = 3000 if quick else 20_000
    adult = Adult.load(DATA)
    clean, test = adult.train[rows : rows + CALIBRATION], adult.test[: 1000 if quick else None]
    reference = Reference(Batch(adult.train[:rows]), None, adult.schema)
    ranges = Ranges(RangesParams()).fit(reference)
    judges = {"ranges": Judge(ranges, clean), "bounds alone": Judge(_bounds_alone(ranges), clean)}
    table = _errors(adult, judges, test)
    alarms = {name: _false_alarms(judge, test) for name, judge in judges.items()}
    named = _named(ranges, adult, test)
    files, accuracy = contamination(adult, ranges.score, test, rows=rows, calibration=CALIBRATION)
    pictures, picture_alarms = {}, {}
    for name in ("fashion-mnist", "mnist"):
        pictures[name], picture_alarms[name], detectors = _corruptions(name, quick=quick)
    cost = {
        "table": _cost({name: judge.detector for name, judge in judges.items()}, test, quick=quick),
        "image": _cost(detectors, images(DATA, "mnist", "t10k")[:64], quick=quick),
    }
    print_table("Adult: errors in rows of the test part", table)
    print_table("Adult: clean rows with p <= .01 and p <= .05", alarms)
    print_table("Adult: share of rows whose error is named", named)
    for share, figures in files.items():
        print_table(f"Adult: what is flagged at 1 % if {share}", shown(figures))
    for name, found in pictures.items():
        print_table(f"{name}: share of corrupted images with p <= .01, by severity", found)
        print_table(f"{name}: clean images with p <= .01 and p <= .05", picture_alarms[name])
    print_table("microseconds a row", cost["table"] | cost["image"])
    print_document(
        "input_quality",
        quick=quick,
        table=table,
        false_alarms=alarms,
        named=named,
        contamination=files,
        accuracy_of_the_model=accuracy,
        images=pictures,
        image_false_alarms=picture_alarms,
        cost=cost,
    )


def _bounds_alone(ranges: Ranges) -> Ranges:
    """Give the detector that a bundle of an earlier version holds."""
    state = named_state("it", ranges)
    return restored(Ranges(RangesParams()), {f"it.{name}": state[f"it.{name}"] for name in BOUNDS}, "it")


def _errors(adult: Adult, judges: dict[str, Judge], test: Tensor) -> dict[str, dict[str, float | None]]:
    """Measure each error: found at 1 and 5 %, and AUROC."""
    clean = {name: judge.p_value(test) for name, judge in judges.items()}
    table: dict[str, dict[str, float | None]] = {}
    for error, put in ERRORS.items():
        changed, differs = put(adult, test, torch.Generator().manual_seed(1))
        p_value = {name: judge.p_value(changed[differs]) for name, judge in judges.items()}
        ours, before = p_value["ranges"], p_value["bounds alone"]
        table[error] = {
            "rows": len(ours),
            "found at 1 %": float((ours <= RARE).float().mean()),
            "at 5 %": float((ours <= SELDOM).float().mean()),
            "AUROC": _auroc(clean["ranges"], ours),
            "bounds alone, at 1 %": float((before <= RARE).float().mean()),
            "AUROC of bounds": _auroc(clean["bounds alone"], before),
        }
    return table


def _auroc(clean: Tensor, faulty: Tensor) -> float:
    """Give the probability that a faulty row has a smaller p-value than a clean row; a tie counts half."""
    ordered = clean.sort().values
    above = len(ordered) - torch.searchsorted(ordered, faulty, right=True)
    ties = torch.searchsorted(ordered, faulty, right=True) - torch.searchsorted(ordered, faulty)
    return float((above + ties / 2).double().mean() / len(ordered))


def _false_alarms(judge: Judge, clean: Tensor) -> dict[str, float]:
    p_value = judge.p_value(clean)
    figures: dict[str, float] = {}
    for level in (RARE, SELDOM):
        share = proportion(int((p_value <= level).sum()), len(clean))
        figures |= {f"{level:.0%}": share.value, f"{level:.0%} low": share.low, f"{level:.0%} high": share.high}
    return figures


def _named(ranges: Ranges, adult: Adult, test: Tensor) -> dict[str, dict[str, float]]:
    """Measure which share of the rows with a slip of age, or with two columns swapped, has the right cause."""
    names = ranges.cause_names()
    age, hours, education = (adult.schema.names.index(name) for name in ("age", "hours-per-week", "education-num"))
    factors = {
        "like centimetres, not inches": 2.54,
        "like kilograms, not pounds": 0.4536,
        "like feet, not metres": 1 / 0.3048,
    }
    table = {}
    for looks, factor in factors.items():
        changed = test.clone()
        changed[:, age] = test[:, age] * factor
        table[f"age: looks {looks}"] = changed
    for one, other in ((age, education), (education, hours), (age, hours)):
        changed = test.clone()
        changed[:, [one, other]] = test[:, [other, one]]
        first, second = sorted((one, other))
        table[f"{adult.schema.names[first]} and {adult.schema.names[second]} look swapped"] = changed
    marks = {}
    for cause, changed in table.items():
        found, clean = (ranges.causes(Batch(x)) for x in (changed[:CHUNK], test[:CHUNK]))
        assert found is not None  # noqa: S101
        assert clean is not None  # noqa: S101
        place = names.index(cause)
        marks[cause] = {
            "named": float(found[:, place].float().mean()),
            "of clean rows": float(clean[:, place].float().mean()),
        }
    return marks


def _corruptions(name: str, *, quick: bool) -> tuple[dict[str, Any], dict[str, Any], dict[str, Detector]]:
    """Fit both detectors on a part of a data set, and measure every corruption on other images."""
    if name == "mnist":  # only its test part is here
        every = images(DATA, name, "t10k")
        train, clean, test = every[:5000], every[5000:8000], every[8000:]
    else:
        every = images(DATA, name, "train")
        train, clean = every[:20_000], every[20_000 : 20_000 + CALIBRATION]
        test = images(DATA, name, "t10k")
    if quick:
        train, clean, test = train[:500], clean[:500], test[:200]
    reference = Reference(Batch(train), None, InputSchema(kind="image", shape=(1, 28, 28)))
    detectors: dict[str, Detector] = {
        "image_quality": ImageQuality(ImageQualityParams()).fit(reference),
        "ranges": Ranges(RangesParams()).fit(reference),
    }
    judges = {kind: Judge(detector, clean) for kind, detector in detectors.items()}
    found = {}
    for corruption, severities in CORRUPTIONS.items():
        for kind, judge in judges.items():
            shares = [float((judge.p_value(put(test)) <= RARE).float().mean()) for put in severities]
            found[f"{corruption}, {kind}"] = {str(severity): share for severity, share in enumerate(shares, 1)}
    return found, {kind: _false_alarms(judge, test) for kind, judge in judges.items()}, detectors


def _cost(detectors: dict[str, Detector], x: Tensor, *, quick: bool) -> dict[str, dict[str, float]]:
    """Measure processor time in turns: the median of rounds, in microseconds a row, alone and in batches of 32."""
    table: dict[str, dict[str, float]] = {}
    for rows in (1, 32):
        seconds: dict[str, list[float]] = {name: [] for name in detectors}
        for _ in range(20 if quick else ROUNDS):
            for name, detector in detectors.items():
                batch = Batch(x[:rows])
                started = time.thread_time()
                detector.examine(batch, causes=False)
                seconds[name].append(time.thread_time() - started)
        for name, taken in seconds.items():
            figure = 1e6 * sorted(taken)[len(taken) // 2] / rows
            table.setdefault(f"{name}, {'image' if x.ndim > 2 else 'table'}", {})[f"{rows} rows"] = figure  # noqa: PLR2004
    return table
