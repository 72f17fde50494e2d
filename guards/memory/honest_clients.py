"""Sequences of queries as honest clients ask them, made of clean rows."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from guards.memory.row_codes import RowCodes

__all__ = ["DRIFTING", "KINDS", "changed", "honest_queries"]

LARGEST_BURST = 8
FILM_NOISE, NOISE, BRIGHTNESS, SHIFT = 0.01, 0.05, 0.1, 0.08
"""The most noise of a film, and the largest changes of a copy, as shares of the values' spread or an image's side."""
NARROW, LEAST_SUBJECT = 0.1, 100
"""The share of all rows among which a client with one subject chooses, and the least number of rows."""
FRAMES = (15, 60)
"""How many queries a slow change takes from one row to the next."""

Client = Callable[[Tensor, RowCodes, int, torch.Generator], Tensor]


def honest_queries(kind: str, rows: Tensor, codes: RowCodes, length: int, generator: torch.Generator) -> Tensor:
    """Give the queries (length, ...) of one honest client of a kind of :data:`KINDS`, made of clean rows (n, ...)."""
    return KINDS[kind](rows, codes, length, generator)


def _any_row(rows: Tensor, codes: RowCodes, length: int, generator: torch.Generator) -> Tensor:  # noqa: ARG001
    """Ask for rows in random order."""
    return rows[_endless(len(rows), length, generator)]


def _one_subject(rows: Tensor, codes: RowCodes, length: int, generator: torch.Generator) -> Tensor:
    """Ask for rows that are like one row."""
    known = codes(rows)
    centre = int(torch.randint(len(rows), (1,), generator=generator))
    count = min(len(rows), max(LEAST_SUBJECT, int(NARROW * len(rows))))
    nearest = (known - known[centre]).square().sum(1).topk(count, largest=False).indices.cpu()
    return rows[nearest[_endless(count, length, generator)]]


def _copies(rows: Tensor, codes: RowCodes, length: int, generator: torch.Generator) -> Tensor:
    """Ask for each row several times, slightly changed each time."""
    copies = int(torch.randint(1, LARGEST_BURST + 1, (1,), generator=generator))
    which = _endless(len(rows), length, generator).repeat_interleave(copies)[:length]
    return changed(rows[which], codes, generator)


def _slow_change(rows: Tensor, codes: RowCodes, length: int, generator: torch.Generator) -> Tensor:
    """Ask for a picture that slowly becomes another, as the frames of a film do; for numbers of a table likewise."""
    frames = int(torch.randint(*FRAMES, (1,), generator=generator))
    scenes = rows[_endless(len(rows), length // frames + 2, generator)]
    time = torch.arange(length, device=rows.device) / frames
    scene = time.long()
    share = (time - scene).reshape(-1, *(1,) * (rows.ndim - 1))
    before, after = scenes[scene], scenes[scene + 1]
    mixed = before * (1 - share) + after * share
    if not len(codes.source):
        noise = FILM_NOISE * _spread(rows) * float(torch.rand(1, generator=generator))
        mixed = mixed + noise * torch.randn(mixed.shape, generator=generator).to(rows.device)
    if rows.ndim == 2 and len(codes.source):  # noqa: PLR2004 - a table's categories change at once
        names = codes.source[~codes.category.isnan()].unique()  # type: ignore[no-untyped-call] # torch declares no types here
        mixed[:, names] = torch.where(share < 0.5, before, after)[:, names]  # noqa: PLR2004
    return mixed


def _moving(rows: Tensor, codes: RowCodes, length: int, generator: torch.Generator) -> Tensor:
    """Ask for a picture that drifts in one direction, as before a camera that turns; rows without places grow."""
    frames = int(torch.randint(*FRAMES, (1,), generator=generator))
    which = _endless(len(rows), length // frames + 1, generator).repeat_interleave(frames)[:length]
    part = (torch.arange(length, device=rows.device) % frames) / frames - 0.5
    if rows.ndim == 4:  # noqa: PLR2004 - an image
        return _shifted(rows[which], 3 * SHIFT * part * rows.shape[3])
    if len(codes.source):
        return _slow_change(rows, codes, length, generator)
    return rows[which] * (1 + part.reshape(-1, *(1,) * (rows.ndim - 1)))


KINDS: Mapping[str, Client] = {
    "any_row": _any_row,
    "one_subject": _one_subject,
    "copies": _copies,
    "slow_change": _slow_change,
    "moving": _moving,
}
"""The kinds of honest clients."""
DRIFTING = ("slow_change", "moving")
"""The kinds whose rows drift: each row is near to the rows before."""


def _endless(count: int, length: int, generator: torch.Generator) -> Tensor:
    """Give places in random order, each place again only after all others."""
    rounds = -(-length // count)
    return torch.cat([torch.randperm(count, generator=generator) for _ in range(rounds)])[:length]


def changed(rows: Tensor, codes: RowCodes, generator: torch.Generator) -> Tensor:
    """Change each row slightly, as copies of a row differ that a client makes, or that its sensor makes."""
    n = len(rows)
    if len(codes.source):
        return _retyped(rows, codes, generator)
    spread = _spread(rows)
    shape = (n, *(1,) * (rows.ndim - 1))
    strength = torch.rand(shape, generator=generator).to(rows.device) * NOISE * spread
    noise = torch.randn(rows.shape, generator=generator).to(rows.device) * strength
    light = (2 * torch.rand(shape, generator=generator).to(rows.device) - 1) * BRIGHTNESS * spread
    kind = torch.randint(3, (n,), generator=generator).to(rows.device).reshape(shape)
    changed = rows + torch.where(kind == 0, noise, torch.zeros_like(noise)) + torch.where(kind == 1, light, 0 * light)
    if rows.ndim == 4:  # noqa: PLR2004 - an image
        pixels = (2 * torch.rand(n, generator=generator).to(rows.device) - 1) * SHIFT * rows.shape[3]
        changed = torch.where(kind == 2, _shifted(rows, pixels), changed)  # noqa: PLR2004
    low, high = rows.amin(), rows.amax()
    return changed.clamp(min=low, max=high)


def _retyped(rows: Tensor, codes: RowCodes, generator: torch.Generator) -> Tensor:
    """Change one number of each row of a table by a small part of its spread, or one category to another row's."""
    n, columns = rows.shape
    column = torch.randint(columns, (n,), generator=generator).to(rows.device)
    other = rows[torch.randperm(n, generator=generator)]
    numeric = torch.zeros(columns, device=rows.device)
    numeric[codes.source[codes.category.isnan()]] = codes.scale[codes.category.isnan()]
    at = column[:, None]
    moved = (
        rows.gather(1, at) + torch.randn((n, 1), generator=generator).to(rows.device) * 0.2 * numeric[column][:, None]
    )
    swapped = other.gather(1, at)
    return rows.scatter(1, at, torch.where(numeric[column][:, None] > 0, moved, swapped))


def _shifted(images: Tensor, pixels: Tensor) -> Tensor:
    """Shift each image (n, c, h, w) to the right by its number of pixels (n,), with interpolation; the edge repeats."""
    width = images.shape[3]
    place = torch.arange(width, device=images.device) - pixels[:, None]
    left = place.floor()
    share = (place - left)[:, None, None, :]

    def taken(index: Tensor) -> Tensor:
        at = index.long().clamp(0, width - 1)[:, None, None, :].expand(images.shape)
        return images.gather(3, at)

    return taken(left) * (1 - share) + taken(left + 1) * share


def _spread(rows: Tensor) -> float:
    flat = rows.flatten()[:10_000].float()
    return float(flat.quantile(0.95) - flat.quantile(0.05))
