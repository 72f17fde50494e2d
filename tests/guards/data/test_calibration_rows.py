"""Calibration rows: copies of training rows are found, few rows are reported, and chance repetitions are no fault."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch

from guards import Rows
from guards.calibration.budget import Budget, first_turn, rows_needed
from guards.config.config import Config, parse
from guards.config.heldout_rows import heldout_needed, too_few_rows
from guards.data.calibration_rows import copied_rows, examine_calibration, row_hashes, shared_rows
from guards.notices import Notices
from guards.types import Mistake


def config(**changes: object) -> Config:
    return parse(tiny_models.document("tensor", **changes))


def examined(train: Rows, heldout: Rows, classes: tuple[str, ...] = tiny_models.CLASSES, **changes: object) -> Notices:
    notices = Notices()
    examine_calibration(config(**changes), Path(), train, heldout, classes, notices)
    return notices


def part(rows: Rows, start: int, end: int) -> Rows:
    return rows.take(torch.arange(start, end))


def joined(one: Rows, two: Rows) -> Rows:
    assert one.y is not None
    assert two.y is not None
    return Rows(torch.cat([one.x, two.x]), torch.cat([one.y, two.y]))


@pytest.fixture(scope="module")
def rows() -> Rows:
    made = tiny_models.rows("tensor", 1000)
    return Rows(made.x, made.y)


def test_rows_held_out_by_chance_are_no_fault(rows: Rows) -> None:
    """Rows that the training file does not have are taken without a word."""
    assert examined(part(rows, 0, 600), part(rows, 600, 1000)) == Notices()


def test_the_training_file_is_refused(rows: Rows) -> None:
    """The same path is refused, however it is written."""
    reference = {"path": "train.npz", "calibration": "./train.npz"}
    with pytest.raises(Mistake, match="is the training file itself: give rows"):
        examined(rows, rows, reference=reference)


def test_the_training_rows_in_another_order_are_refused(rows: Rows) -> None:
    """A copy of the training file is found by its rows, in whatever order."""
    shuffled = rows.take(torch.randperm(len(rows), generator=torch.Generator().manual_seed(1)))
    with pytest.raises(Mistake, match="holds the same rows"):
        examined(rows, shuffled)


@pytest.mark.parametrize("leaked", [12, 100, 400])
def test_a_share_of_the_training_rows_is_told(rows: Rows, leaked: int) -> None:
    """Calibration rows that are in the training file are counted in a warning."""
    train = part(rows, 0, 600)
    heldout = joined(part(rows, 600, 1000 - leaked), part(rows, 0, leaked))
    (warning,) = examined(train, heldout).warnings
    assert f"{leaked} of 400 rows ({leaked / 400:.1%}) are also in reference.path" in warning
    assert "explain about" in warning


def test_missing_values_hide_no_row(rows: Rows) -> None:
    """Two missing values are alike, whatever their bits, and so are 0 and -0; another label is another row."""
    x = torch.tensor([[1.0, torch.nan], [0.0, 2.0]])
    again = torch.tensor([[1.0, -torch.nan], [-0.0, 2.0]])
    y = torch.tensor([0, 1])
    assert row_hashes(x, y).tolist() == row_hashes(again, y).tolist()
    assert (row_hashes(x, y) != row_hashes(x, y.flip(0))).all()
    assert len(np.unique(row_hashes(rows.x, rows.y))) == len(rows)
    counts = torch.cartesian_prod(*[torch.arange(30.0)] * 3)
    assert len(np.unique(row_hashes(counts, None))) == len(counts)


@pytest.mark.parametrize("levels", [2, 3, 6])
def test_small_tables_repeat_themselves_honestly(levels: int) -> None:
    """A table of few categories has the same rows in both files by chance, and no warning says otherwise."""
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randint(levels, (900, 4), generator=generator).float()
        rows = Rows(x, torch.randint(3, (900,), generator=generator))
        assert examined(part(rows, 0, 500), part(rows, 500, 900)) == Notices()


def test_leaks_into_small_tables_are_found() -> None:
    """Rows that were copied into the calibration file are found, even if the table has honest repetitions."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(12, (900, 4), generator=generator).float()
    rows = Rows(x, torch.randint(3, (900,), generator=generator))
    heldout = joined(part(rows, 500, 700), part(rows, 0, 200))
    (warning,) = examined(part(rows, 0, 500), heldout).warnings
    assert "of 400 rows" in warning


def test_rows_that_were_copied_before_the_split_are_told(rows: Rows) -> None:
    """Oversampled rows on both sides repeat as chance would have it, but numbers of many digits do not repeat."""
    copies = rows.take(torch.randperm(3000, generator=torch.Generator().manual_seed(0)) % 1000)
    train, heldout = part(copies, 0, 1800), part(copies, 1800, 3000)
    (warning,) = examined(train, heldout).warnings
    assert "explain about 0 of these" in warning
    assert copied_rows(train, heldout) > 600


@pytest.mark.parametrize("encode", [lambda codes: codes, lambda codes: torch.nn.functional.one_hot(codes).flatten(1)])
def test_repetitions_of_few_values_are_honest(encode: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Rows of an age and some categories repeat by chance, as indices and one-hot."""
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        codes = torch.randint(3, (1500, 3), generator=generator)
        age = torch.randint(18, 80, (1500, 1), generator=generator)
        rows = Rows(torch.cat([age, encode(codes)], 1).float(), torch.randint(3, (1500,), generator=generator))
        assert examined(part(rows, 0, 1000), part(rows, 1000, 1500)) == Notices()
        assert copied_rows(part(rows, 0, 1000), part(rows, 1000, 1500)) == 0


@pytest.mark.parametrize(("levels", "heldout"), [(400, 400), (5000, 100), (30, 300)])
def test_shared_rows_are_judged_by_chance(levels: int, heldout: int) -> None:
    """The expected count is the mean over many random splits, and a small bound is as rare as it says."""
    generator = np.random.default_rng(0)
    values = generator.integers(levels, size=900).astype(np.uint64)
    found = []
    for _ in range(1000):
        generator.shuffle(values)
        found.append(shared_rows(values[heldout:], values[:heldout]))
    counts, means, bounds = np.array(found).T
    assert counts.mean() == pytest.approx(means[0], rel=0.02)
    for level in (0.2, 0.05, 0.01):
        assert (bounds <= level).mean() <= level


def test_twelve_pairs_that_are_all_torn_apart() -> None:
    """The bound is the probability itself if it is known: of twelve pairs each is torn apart with 2 p (1 - p)."""
    alone = np.arange(1000, dtype=np.uint64)
    shared, mean, bound = shared_rows(alone[:600], np.concatenate([alone[600:988], alone[:12]]))
    assert (shared, mean) == (12, pytest.approx(12 * 0.48))
    assert bound == pytest.approx(0.48**12, rel=0.01)


def test_a_class_that_one_file_lacks_is_told(rows: Rows) -> None:
    """A class that cannot be missing by chance is named, with the sorted file that explains why."""
    rows = Rows(rows.x, torch.arange(len(rows)) % 3)
    assert rows.y is not None
    ordered = rows.take(torch.argsort(rows.y, stable=True))
    train, heldout = part(ordered, 0, 500), part(ordered, 500, 1000)
    warnings = examined(train, heldout).warnings
    assert any("reference.path has no row of class 'cat'" in warning for warning in warnings)
    assert all("sorted by label" in warning for warning in warnings if "no row of class" in warning)
    alone = rows.take((rows.y == 1).nonzero()[:, 0][:100])
    (warning,) = examined(rows, Rows(alone.x + 9, alone.y)).warnings
    assert "reference.calibration has no row of class 'ant', 'cat'" in warning
    assert "all rows of reference.calibration are of class 'bee'" in warning


def test_a_rare_class_may_be_missing(rows: Rows) -> None:
    """A class of two training rows in a thousand may well be missing among the others: that is noted alone."""
    assert rows.y is not None
    y = rows.y % 2
    y[:2] = 2
    notices = examined(part(Rows(rows.x, y), 0, 800), part(Rows(rows.x, y), 800, 1000))
    assert notices.warnings == []
    assert "reference.calibration has no row of the rare class 'cat'" in notices.notes[0]


def test_sorted_calibration_rows_are_noted(rows: Rows) -> None:
    """A file that is sorted by label and has every class fits, and is noted."""
    assert rows.y is not None
    heldout = part(rows, 500, 1000)
    assert heldout.y is not None
    notices = examined(part(rows, 0, 500), heldout.take(torch.argsort(heldout.y)))
    assert notices.warnings == []
    assert "reference.calibration is sorted by label" in notices.notes[0]


def test_one_class_alone_is_told(rows: Rows) -> None:
    """Labels that are all alike get a warning."""
    y = torch.zeros(len(rows), dtype=torch.int64)
    (warning,) = examined(part(Rows(rows.x, y), 0, 500), part(Rows(rows.x, y), 500, 1000)).warnings
    assert warning == "reference.label: all rows are of class 'ant'"


@pytest.mark.parametrize("guarantee", ["marginal", "pac"])
@pytest.mark.parametrize("labelled", [True, False])
def test_too_few_rows_say_exactly_how_many_are_needed(rows: Rows, guarantee: str, labelled: bool) -> None:
    """One row fewer than the sentence says is refused, and exactly that number is accepted."""
    changes = {"guarantee": guarantee, "false_alarm_budget": 0.02, "coverage": 0.9}
    with pytest.raises(Mistake) as few:
        examined(rows, Rows(rows.x[:20] + 9, rows.y[:20] if labelled and rows.y is not None else None), **changes)
    needed = int(str(few.value).partition("give at least ")[2].split()[0])
    assert too_few_rows(config(**changes), needed, labelled=labelled) == []
    (sentence,) = too_few_rows(config(**changes), needed - 1, labelled=labelled)
    assert f"give at least {needed} rows" in sentence
    calibration = needed - (needed // 5 if labelled else 0)
    assert calibration == rows_needed(0.02, "pac" if guarantee == "pac" else "marginal")


def test_too_few_rows_for_the_coverage_are_refused() -> None:
    """A coverage that needs more rows than there are is refused with their number, beside the budget."""
    one, two = too_few_rows(config(coverage=0.999, false_alarm_budget=0.001), 100, labelled=True)
    assert "budget of 0.001" in one
    assert f"coverage of 0.999: give at least {heldout_needed(999, for_temperature=True)} rows" in two


def test_a_guard_that_could_not_flag_is_told_before_fitting(rows: Rows) -> None:
    """A guard whose share needs more rows is named with their number."""
    guards = tiny_models.document("tensor")["guards"]
    guards[1]["share"] = 1000.0
    warnings = examined(part(rows, 0, 500), part(rows, 500, 1000), guards=guards).warnings
    assert [warning.partition(":")[0] for warning in warnings] == ["guards.0", "guards.2"]
    assert all("cannot flag by its p-value: its share of the budget needs" in warning for warning in warnings)


@pytest.mark.parametrize("shares", [[1.0, 1.0], [1.0, 4.0], [3.0, 1.0, 2.0], [0.3, 0.1]])
def test_first_turn_is_that_of_the_budget(shares: list[float]) -> None:
    """With the rows that its first turn needs a guard has a threshold, and with one row fewer it has none."""
    for guard in range(len(shares)):
        rows = rows_needed(0.05, "marginal", first_turn(shares, guard))
        # Every guard's strangest rows are its own, so that no cut serves two of them.
        scores = torch.stack([torch.roll(torch.arange(float(rows)), 97 * index) for index in range(len(shares))])
        assert Budget(scores=scores, shares=shares, budget=0.05).ranks[guard] > 0
        assert rows_needed(0.05, "marginal") > rows - 1 or (
            Budget(scores=scores[:, 1:], shares=shares, budget=0.05).ranks[guard] == 0
        )
