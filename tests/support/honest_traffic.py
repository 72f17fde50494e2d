"""Honest clients of a classifier of pictures who ask near-duplicates, made in ways of which no calibration knows."""

import io
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["KINDS", "queries"]

Picture = npt.NDArray[np.float64]
Maker = Callable[[Picture, np.random.Generator], list[Picture]]


def queries(kind: str, pictures: Picture, count: int, seed: int) -> Picture:
    """Give the queries (count, 1, h, w) of one client of a kind, made of pictures (n, 1, h, w) in its own order."""
    rng = np.random.default_rng(seed)
    made: list[Picture] = []
    for picture in _endless(pictures, rng):
        made += KINDS[kind](picture[0], rng)
        if len(made) >= count:
            break
    return np.stack(made[:count])[:, None].clip(0, 1).round(6)


def _endless(pictures: Picture, rng: np.random.Generator) -> Iterator[Picture]:
    while True:
        yield from pictures[rng.permutation(len(pictures))]


def _retries(picture: Picture, rng: np.random.Generator) -> list[Picture]:
    """Send the same bytes one to twenty times."""
    return [picture] * int(rng.integers(1, 21))


def _saved_again(picture: Picture, rng: np.random.Generator) -> list[Picture]:
    """Send up to eight JPEG files of a picture, each of another quality."""
    qualities = rng.permutation(np.arange(30, 96))[: rng.integers(1, 9)]
    return [_jpeg(picture, int(quality)) for quality in qualities]


def _shifted(picture: Picture, rng: np.random.Generator) -> list[Picture]:
    """Send up to eight copies, each moved by up to two pixels in each direction, as augmentation at test time does."""
    moves = rng.integers(-2, 3, (rng.integers(1, 9), 2))
    return [np.roll(picture, move, (0, 1)) for move in moves]


def _noisy(picture: Picture, rng: np.random.Generator) -> list[Picture]:
    """Send up to eight pictures that a sensor takes of the same thing."""
    return [picture + rng.normal(0, 0.02, picture.shape) for _ in range(rng.integers(1, 9))]


def _film(picture: Picture, rng: np.random.Generator) -> list[Picture]:
    """Send the frames of a film in which a picture turns slowly, with a little noise."""
    frames, turn = int(rng.integers(20, 61)), rng.uniform(0.5, 2) * rng.choice([-1, 1])
    return [_turned(picture, turn * frame) + rng.normal(0, 0.005, picture.shape) for frame in range(frames)]


def _mixed(picture: Picture, rng: np.random.Generator) -> list[Picture]:
    """Do any of this, and mostly send a picture once."""
    if rng.random() < 0.5:
        return [picture]
    makers = (_retries, _saved_again, _shifted, _noisy, _film)
    return makers[rng.integers(len(makers))](picture, rng)


KINDS: dict[str, Maker] = {
    "retries": _retries, "JPEG copies": _saved_again, "shifted copies": _shifted, "noisy copies": _noisy,
    "films": _film, "mixed": _mixed,
}  # fmt: skip
"""The kinds of clients."""


def _grey(picture: Picture) -> Image.Image:
    return Image.fromarray((picture * 255).round().astype(np.uint8))


def _jpeg(picture: Picture, quality: int) -> Picture:
    file = io.BytesIO()
    _grey(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), np.float64) / 255


def _turned(picture: Picture, degrees: float) -> Picture:
    return np.asarray(_grey(picture).rotate(degrees, Image.Resampling.BILINEAR), np.float64) / 255
