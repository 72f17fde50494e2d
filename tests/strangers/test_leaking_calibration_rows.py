"""Calibration rows that the model was trained on, or that are too few for the budget."""

import numpy as np
import pandas as pd
import pytest
from newcomers import SIZES, Newcomer, mlp, numbers, pictures, tensors, train_input

TABLE = numbers("length", "mass", "age")
LEAK = r"(calibration|heldout).*(same|train|both|also|share|overlap|\d ?%|reference)|(same|both|overlap).*calibration"


def plain(newcomer: Newcomer, *, suffix: str = ".csv", **sections: object) -> None:
    """Write a plain table with its net."""
    net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=("ant", "bee", "cat"), suffix=suffix)
    newcomer.config(model={"weights": newcomer.weights(net)}, **sections)


def table(newcomer: Newcomer, part: str) -> pd.DataFrame:
    """Read a CSV of the folder."""
    return pd.read_csv(newcomer.folder / f"{part}.csv")


def test_training_file_as_calibration_is_found(newcomer: Newcomer) -> None:
    """`calibration: train.csv` is refused or warned of."""
    plain(newcomer, reference={"calibration": "train.csv"})
    newcomer.expect(refused=LEAK, warned=LEAK)


def test_training_file_under_another_path_is_found(newcomer: Newcomer) -> None:
    """A link or another spelling of the training file's path is the same file."""
    plain(newcomer, reference={"calibration": "sub/../train.csv"})
    (newcomer.folder / "sub").mkdir()
    newcomer.expect(refused=LEAK, warned=LEAK)


def test_copy_of_the_training_file_is_found(newcomer: Newcomer) -> None:
    """A copy of the training file under another name, its rows in another order, is found by its rows."""
    plain(newcomer)
    table(newcomer, "train").sample(frac=1, random_state=0).to_csv(newcomer.folder / "heldout.csv", index=False)
    newcomer.expect(refused=LEAK, warned=LEAK)


def test_copy_in_another_format_is_found(newcomer: Newcomer) -> None:
    """The training rows as Parquet are found beside a CSV."""
    plain(newcomer)
    table(newcomer, "train").to_parquet(newcomer.folder / "heldout.parquet")
    newcomer.config(model={"weights": "model.safetensors"}, reference={"calibration": "heldout.parquet"})
    newcomer.expect(refused=LEAK, warned=LEAK)


def test_columns_in_another_order_hide_no_copy(newcomer: Newcomer) -> None:
    """The training rows with their columns in another order are found."""
    plain(newcomer)
    table(newcomer, "train")[["y", "age", "mass", "length"]].to_csv(newcomer.folder / "heldout.csv", index=False)
    newcomer.expect(refused=LEAK, warned=LEAK)


@pytest.mark.parametrize("share", [0.4, 0.1])
def test_share_of_training_rows_is_found(newcomer: Newcomer, share: float) -> None:
    """A calibration file of which 40 % (10 %) are training rows is warned of, with a number."""
    plain(newcomer)
    train, heldout = table(newcomer, "train"), table(newcomer, "heldout")
    leaked = train.sample(round(share * len(heldout)), random_state=0)
    kept = heldout.head(len(heldout) - len(leaked))
    pd.concat([kept, leaked]).to_csv(newcomer.folder / "heldout.csv", index=False)
    newcomer.expect(refused=LEAK, warned=rf"{len(leaked)}|{share * 100:.0f}")


def test_oversampled_rows_on_both_sides_are_found(newcomer: Newcomer) -> None:
    """Rows that were copied to balance classes, and split afterwards, are on both sides: warned of."""
    plain(newcomer)
    frame = pd.concat([table(newcomer, "train")] * 3).sample(frac=1, random_state=0)
    frame.head(800).to_csv(newcomer.folder / "train.csv", index=False)
    frame.tail(700).to_csv(newcomer.folder / "heldout.csv", index=False)
    newcomer.expect(refused=LEAK, warned=LEAK)


def test_images_on_both_sides_are_found(newcomer: Newcomer) -> None:
    """Training images among the calibration images are found."""
    clean = pictures(1, 6, 6)
    net = newcomer.build(mlp(36, 3).replace("Sequential(", "Sequential(nn.Flatten(), "), clean(500, 1))
    newcomer.arrays(net, clean)
    train, heldout = (dict(np.load(newcomer.folder / f"{part}.npz")) for part in ("train", "heldout"))
    for name in heldout:
        heldout[name] = np.concatenate([heldout[name][:200], train[name][:100]])
    np.savez(newcomer.folder / "heldout.npz", **heldout)
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "image", "shape": [1, 6, 6]})
    newcomer.expect(refused=LEAK, warned=LEAK)


def test_too_few_rows_for_the_budget_are_counted(newcomer: Newcomer) -> None:
    """A budget of 0.1 % with 300 calibration rows is too small, and the number that is needed is named."""
    plain(newcomer, false_alarm_budget=0.001)
    newcomer.expect(refused=r"\d{3,}", warned=r"(need|at least|few).*\d{3,}|\d{3,}.*(need|at least)")


def test_handful_of_rows_is_refused(newcomer: Newcomer) -> None:
    """Five calibration rows calibrate nothing: refused or warned of with the number that is needed."""
    plain(newcomer)
    table(newcomer, "heldout").head(5).to_csv(newcomer.folder / "heldout.csv", index=False)
    newcomer.expect(refused=r"\d+ (more )?(calibration )?rows|at least \d+", warned=r"(need|at least|few).*\d+")


def test_no_calibration_file_is_warned_of(newcomer: Newcomer) -> None:
    """Without a calibration file, rows are split off, and this is warned of."""
    plain(newcomer, reference={"calibration": None})
    newcomer.expect(warned=r"reference\.calibration", refused=r"reference\.calibration")


def test_constant_column_hides_no_honest_file(newcomer: Newcomer) -> None:
    """Two honest files that share a constant column and a rounded one are no leak: read without a warning."""
    clean = numbers("length", "mass", "age")
    net = newcomer.build(mlp(4, 3), train_input(lambda count, seed: clean(count, seed).assign(site=1.0)))
    newcomer.tables(net, lambda count, seed: clean(count, seed).assign(site=1.0), classes=("ant", "bee", "cat"))
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(read=True)


def test_honest_sensor_rows_that_idle_are_no_leak(newcomer: Newcomer) -> None:
    """Rows of zeros of a machine that stands still are in both files by their nature: no leak is cried."""

    def clean(count: int, seed: int) -> pd.DataFrame:
        frame = TABLE(count, seed)
        frame[np.random.default_rng(seed).random(count) < 0.15] = 0.0
        return frame

    net = newcomer.build(mlp(3, 3), train_input(clean))
    newcomer.tables(net, clean, classes=("ant", "bee", "cat"))
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(read=True)


def test_honest_arrays_are_no_leak(newcomer: Newcomer) -> None:
    """Two honest .npz files of few values each are read without a warning."""

    def clean(count: int, seed: int) -> object:
        return tensors(3)(count, seed).round()

    net = newcomer.build(mlp(3, 3), clean(SIZES["train"], 1))
    newcomer.arrays(net, clean)
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "tensor", "shape": [3]})
    newcomer.expect(read=True)
