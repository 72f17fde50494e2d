"""Checks that the calibration rows are enough, have every class, and are not rows that the model was trained on."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from guards.config.config import Config
from guards.config.heldout_rows import guard_without_turn, rows_set_aside, too_few_rows
from guards.notices import Notices
from guards.sentences import named
from guards.types import Mistake, Rows

__all__ = ["copied_rows", "examine_calibration", "row_hashes", "shared_rows"]

Hashes = npt.NDArray[np.uint64]
CHUNK_VALUES = 1 << 17
LEAST_ROWS, LEAST_SHARE, BY_CHANCE = 3, 0.01, 1e-3
LARGEST_TILT, SMALLEST = 20.0, 1e-12
MOST_PLACES, MANY_VALUES, NEAR = 64, 30, 0.1
IMPROBABLE = 1e-4
FEW = 20
SHOWN = 10


def examine_calibration(
    config: Config, folder: Path, train: Rows, heldout: Rows, classes: tuple[str, ...], notices: Notices
) -> None:
    """Compare the calibration rows with the training rows, and count them; ``classes`` is empty for a regression.

    Raises:
        Mistake: the calibration rows are the training rows, or too few for what the config promises.
    """
    if config.reference.calibration is not None:
        _compare(folder / config.reference.path, folder / config.reference.calibration, train, heldout, notices)
    if classes and train.y is not None and heldout.y is not None:
        _compare_classes(train.y, heldout.y, classes, notices)
    labelled = heldout.y is not None
    mistakes = too_few_rows(config, len(heldout), labelled=labelled)
    if mistakes:
        raise Mistake(*mistakes)
    rows = len(heldout) - rows_set_aside(config, len(heldout), labelled=labelled)
    for guard in range(len(config.guards)):
        sentence = guard_without_turn(config, guard, rows, labelled=labelled)
        if sentence is not None:
            notices.warn(sentence)


def _compare(path: Path, calibration: Path, train: Rows, heldout: Rows, notices: Notices) -> None:
    advice = (
        "give rows that the model was not trained on, or leave reference.calibration out: calibration rows are then "
        "split off reference.path"
    )
    if path.resolve() == calibration.resolve():
        raise Mistake(f"reference.calibration: {calibration} is the training file itself: {advice}")
    labelled = train.y is not None and heldout.y is not None
    ours = row_hashes(train.x, train.y if labelled else None)
    theirs = row_hashes(heldout.x, heldout.y if labelled else None)
    if len(ours) == len(theirs) and (np.sort(ours) == np.sort(theirs)).all():
        raise Mistake(f"reference.calibration: {calibration} holds the same rows as reference.path: {advice}")
    shared, expected, by_chance = shared_rows(ours, theirs)
    if shared < LEAST_ROWS or shared <= LEAST_SHARE * len(theirs):
        return
    copies = copied_rows(train, heldout)
    if copies >= LEAST_ROWS and copies > LEAST_SHARE * len(theirs):
        expected = 0.0
    if expected == 0 or (by_chance < BY_CHANCE and shared - expected > LEAST_SHARE * len(theirs)):
        notices.warn(
            f"reference.calibration: {shared} of {len(theirs)} rows ({shared / len(theirs):.1%}) are also in "
            f"reference.path; rows that are equal by chance explain about {expected:.0f} of these rows. If the model "
            "was trained on calibration rows, then false alarms are more frequent than the budget and prediction sets "
            "cover less than they promise: take these rows out of one of the files"
        )


def row_hashes(x: Tensor, y: Tensor | None) -> Hashes:
    """Hash each row of ``x`` (n, ...) float32 with its label, if there is one: (n,) uint64.

    Equal rows have the same hash; all NaN are equal, and so are 0 and -0. Two different rows have the same hash with a
    probability near 2^-64: the bits of each value are mixed and multiplied by a random odd number, and the products
    are added up.
    """
    values = x.reshape(len(x), -1)
    factors = _factors(values.shape[1])
    hashes = np.empty(len(values), dtype=np.uint64)
    step = max(1, CHUNK_VALUES // max(1, values.shape[1]))
    for start in range(0, len(values), step):
        hashes[start : start + step] = _mixed(values[start : start + step]) @ factors[:-1]
    if y is not None:
        hashes += _mixed(y) * factors[-1]
    return hashes


def _factors(places: int) -> Hashes:
    """Give a random odd number for each place of a row, and one more for the row's label."""
    numbers = np.random.default_rng(0).integers(1 << 63, dtype=np.uint64, size=places + 1)
    return numbers * np.uint64(2) + np.uint64(1)


def _mixed(values: Tensor) -> Hashes:
    numbers = values.numpy().astype(np.float32, copy=False) + np.float32(0)  # -0 becomes 0
    absent = np.isnan(numbers)
    if absent.any():
        numbers[absent] = np.nan
    bits = numbers.view(np.uint32).astype(np.uint64)
    bits *= np.uint64(0x9E3779B97F4A7C15)
    bits ^= bits >> np.uint64(29)
    return bits


def copied_rows(train: Rows, heldout: Rows) -> int:
    """Count the different held-out rows that are copies of training rows and do not repeat by chance.

    Values that repeat by chance also repeat in all places but one. If the training rows that are found among the
    held-out rows have no such neighbour, and a place has many values, then whole rows were copied, as oversampling
    does. The count is 0 if the rows may repeat by chance.
    """
    flat = train.x.reshape(len(train), -1)
    labels = (train.y, heldout.y) if train.y is not None and heldout.y is not None else (None, None)
    ours, first = np.unique(row_hashes(train.x, labels[0]), return_index=True)
    shared = np.isin(ours, row_hashes(heldout.x, labels[1]))
    places = np.random.default_rng(0).permutation(flat.shape[1])[:MOST_PLACES].tolist()
    if not shared.any() or max(len(torch.unique(flat[:, place])) for place in places) < MANY_VALUES:
        return 0
    kept = flat[torch.from_numpy(first)]
    near = np.zeros(len(ours), dtype=np.bool_)
    hashes, factors = row_hashes(kept, None), _factors(flat.shape[1])
    for place in places:
        rest = hashes - _mixed(kept[:, place]) * factors[place]
        _, index, counts = np.unique(rest, return_inverse=True, return_counts=True)
        near |= counts[index] > 1
    return int(shared.sum()) if near[shared].mean() < NEAR else 0


def shared_rows(train: Hashes, heldout: Hashes) -> tuple[int, float, float]:
    """Count the held-out rows that are also among the training rows.

    Gives the count, its mean, and a bound on the probability of so large a count. The mean and the bound hold if chance
    alone divided the rows between the files, given how often each row comes in both files together: the rows of a small
    table may repeat by chance. If a row comes g times, then k ~ Binomial(g, p) of its copies are held out, with p the
    held-out share of all rows; the k copies are counted unless all g are held out. The bound is Chernoff's: the least
    value of E[exp(l S)] exp(-l s) over l.
    """
    values, index = np.unique(np.concatenate([train, heldout]), return_inverse=True)
    ours = np.bincount(index[: len(train)], minlength=len(values))
    theirs = np.bincount(index[len(train) :], minlength=len(values))
    shared = int(theirs[ours > 0].sum())
    times, groups = np.unique((ours + theirs)[ours + theirs > 1], return_counts=True)
    p = len(heldout) / (len(train) + len(heldout))
    mean = float(((times * p - times * p**times) * groups).sum())
    tilt = np.concatenate([[0.0], np.geomspace(1e-3, LARGEST_TILT, 200)])[:, None]
    some = np.log1p(p * np.expm1(tilt))
    no_row, every_row = np.exp(times * (np.log(p) - some)), np.exp(times * (np.log(p) + tilt - some))
    growth = times * some + np.log1p(np.maximum(no_row - every_row, SMALLEST - 1))
    bound = (growth * groups).sum(1) - tilt[:, 0] * shared
    return shared, mean, float(np.exp(bound.min()))


def _compare_classes(train: Tensor, heldout: Tensor, classes: tuple[str, ...], notices: Notices) -> None:
    counts = {
        "reference.path": torch.bincount(train.long(), minlength=len(classes)).numpy(),
        "reference.calibration": torch.bincount(heldout.long(), minlength=len(classes)).numpy(),
    }
    order = _sorted_files({"reference.path": train, "reference.calibration": heldout})
    for name, other in (("reference.path", "reference.calibration"), ("reference.calibration", "reference.path")):
        here, there = counts[name], counts[other]
        share = there / max(1, there.sum())
        # A rare class may be absent by chance. Is the absence improbable if the class is as frequent in both files?
        absent = (here == 0) & (share > 0) & ((1 - share) ** here.sum() < IMPROBABLE)
        if absent.any():
            names = named([classes[index] for index in np.flatnonzero(absent)], SHOWN)
            only = f": all rows of {name} are of class {classes[int(here.argmax())]!r}" if (here > 0).sum() == 1 else ""
            notices.warn(
                f"{name} has no row of class {names}, but {other} has such rows{only}; {order}split one file by "
                "chance, so that both parts have every class"
            )
        elif ((here == 0) & (share > 0)).any():
            names = named([classes[index] for index in np.flatnonzero((here == 0) & (share > 0))], SHOWN)
            notices.note(f"{name} has no row of the rare class {names}: the guards are not measured on such rows")
    if "calibration" in order and not any("sorted by label" in said for said in notices.warnings):
        notices.note(
            "reference.calibration is sorted by label: fit shuffles its rows, but a replay of the file would see drift"
        )
    nowhere = [
        name
        for name, rows in zip(classes, counts["reference.path"] + counts["reference.calibration"], strict=True)
        if not rows
    ]
    if len(classes) - len(nowhere) == 1:
        notices.warn(f"reference.label: all rows are of class {named(sorted(set(classes) - set(nowhere)), SHOWN)}")
    elif nowhere:
        notices.note(
            f"no row is of class {named(nowhere, SHOWN)}: model.classes names more classes than the files have"
        )


def _sorted_files(labels: dict[str, Tensor]) -> str:
    """Say which files are sorted by label: if such a file was cut into two parts, the parts lack classes."""
    found = [
        name
        for name, y in labels.items()
        if len(y) >= FEW and bool((y[1:] >= y[:-1]).all() or (y[1:] <= y[:-1]).all()) and bool((y != y[0]).any())
    ]
    return f"{' and '.join(found)} {'is' if len(found) == 1 else 'are'} sorted by label: " if found else ""
