"""How often honest clients are flagged, whose rows neither trained nor calibrated anything."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.adversarial.subjects import Subject
from guards.memory.honest_clients import KINDS, changed, honest_queries
from guards.memory.query_similarity import QuerySimilarity
from guards.memory.row_codes import RowCodes
from guards.memory.watch import Watch
from guards.statistics.proportions import proportion
from guards.types import Batch

__all__ = ["blur_costs", "crowd_figures", "honest_figures", "microseconds"]

SEED = 10**6
BURST = 8
FILM_NOISE = 0.01
BINS = 15
AT_ONCE = 32
Maker = Callable[[Tensor, RowCodes, int, torch.Generator], Tensor]


def _bursts_of_eight(rows: Tensor, codes: RowCodes, length: int, generator: torch.Generator) -> Tensor:
    """Ask for each row eight times, with a little noise in each; a number of a table is typed anew."""
    which = torch.randint(len(rows), (-(-length // BURST),), generator=generator).repeat_interleave(BURST)[:length]
    noise = torch.randn(rows[which].shape, generator=generator) * 0.03
    if len(codes.source):
        numeric = codes.source[codes.category.isnan()]
        spread = torch.zeros(rows.shape[1])
        spread[numeric] = codes.scale[codes.category.isnan()]
        noise *= spread
    return rows[which] + noise


def _two_films(rows: Tensor, codes: RowCodes, length: int, generator: torch.Generator) -> Tensor:
    """Ask for the frames of two films in turns."""
    films = [honest_queries("slow_change", rows, codes, length // 2, generator) for _ in range(2)]
    return torch.stack(films, 1).flatten(0, 1)


def _noisy_film(rows: Tensor, codes: RowCodes, length: int, generator: torch.Generator) -> Tensor:
    """Ask for the frames of a film with more noise than the calibration's films have."""
    film = honest_queries("slow_change", rows, codes, length, generator)
    return film + FILM_NOISE * torch.randn(film.shape, generator=generator)


UNSEEN: Mapping[str, Maker] = {
    "bursts of eight": _bursts_of_eight, "two films in turns": _two_films, "noisy film": _noisy_film
}  # fmt: skip
"""Kinds of honest clients that no calibration has seen."""


@torch.inference_mode()
def honest_figures(subject: Subject, guard: QuerySimilarity, *, clients: int, queries: int) -> dict[str, Any]:
    """Ask as clients of every kind do: the share of flagged rows, and the queries for each false alarm."""
    figures: dict[str, Any] = {}
    for place, (name, make) in enumerate({**KINDS, **UNSEEN}.items()):
        if name == "noisy film" and subject.schema.kind == "tabular":
            continue
        generator = torch.Generator().manual_seed(SEED + place)
        flagged, alarms = [], 0
        for client in range(clients):
            rows = make(subject.test, guard.codes, queries, generator)
            judged = Watch([guard]).judge(Batch(rows), [str(client)] * len(rows)).guards[0]
            flagged.append(judged.flagged)
            alarms += int(judged.crossed.sum())
        all_flagged = np.concatenate(flagged)
        touched = proportion(sum(bool(each.any()) for each in flagged), clients)
        figures[name] = {
            "queries": len(all_flagged),
            "flagged": float(all_flagged.mean()),
            "alarms": alarms,
            "queries for an alarm": len(all_flagged) / alarms if alarms else None,
            "clients flagged": touched.value,
            "clients flagged, at most": touched.high,
            "in the calibration": name in KINDS,
        }
    return figures


@torch.inference_mode()
def crowd_figures(subject: Subject, guard: QuerySimilarity, *, clients: int, queries: int) -> dict[str, Any]:
    """Ask as many clients do in turns, of all kinds that calibration knows; and as clients do that love the same rows.

    Of the popular rows, the r-th is asked in proportion to 1 / r, each time as another copy by another client.
    """
    generator = torch.Generator().manual_seed(SEED)
    names = list(KINDS)
    asked = [
        honest_queries(names[client % len(names)], subject.test, guard.codes, queries, generator)
        for client in range(clients)
    ]
    order = torch.randperm(clients * queries, generator=generator)
    turns = (torch.arange(clients).repeat_interleave(queries))[order]
    places = torch.zeros(clients * queries, dtype=torch.int64)
    for client in range(clients):
        places[turns == client] = torch.arange(queries)
    mixed = torch.stack(asked)[turns, places]
    ranks = 1 / torch.arange(1, len(subject.test) + 1)
    popular = subject.test[torch.multinomial(ranks, len(mixed), replacement=True, generator=generator)]
    copies = changed(popular, guard.codes, generator)
    strangers = [str(place) for place in range(len(mixed))]
    return {
        name: _flagged_share(guard, rows, who)
        for name, rows, who in (
            ("clients of all kinds in turns", mixed, [str(int(client)) for client in turns]),
            ("popular rows, each copy by another client", copies, strangers),
        )
    }


def _flagged_share(guard: QuerySimilarity, rows: Tensor, clients: list[str]) -> dict[str, Any]:
    watch, flagged, alarms = Watch([guard]), 0, 0
    for start in range(0, len(rows), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        judgement = watch.judge(Batch(rows[part]), clients[part])
        watch.remember(judgement, 0, len(rows[part]))
        flagged += int(judgement.guards[0].flagged.sum())
        alarms += int(judgement.guards[0].crossed.sum())
    share = proportion(flagged, len(rows))
    return {"queries": len(rows), "flagged": share.value, "flagged, at most": share.high, "alarms": alarms}


@torch.inference_mode()
def blur_costs(subject: Subject) -> dict[str, float]:
    """Give the expected calibration error of exact and of coarse probabilities, in bins of equal width."""
    from guards.memory.staircase import blurred  # noqa: PLC0415 - a name like this function's

    exact = subject.probabilities(subject.test)
    return {
        name: _calibration_error(probabilities, subject.labels)
        for name, probabilities in (("exact", exact), ("coarse", blurred(exact)))
    }


def _calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    top, label = probabilities.max(1)
    right, bins = (label == labels).double(), (top * BINS).long().clamp(max=BINS - 1)
    gaps = [abs(float((right - top)[bins == place].sum())) for place in range(BINS)]
    return sum(gaps) / len(labels)


@torch.inference_mode()
def microseconds(subject: Subject, guard: QuerySimilarity, *, remembered: int, rounds: int) -> dict[str, float]:
    """Give the processor time for judging and remembering a row, with so many queries remembered: a median."""
    watch, figures = Watch([guard]), {}
    rows = subject.test[torch.randint(len(subject.test), (remembered,), generator=torch.Generator().manual_seed(0))]
    rows = rows + 1e-3 * torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))
    for start in range(0, remembered, 32):
        _ask(watch, rows[start : start + 32], start)
    for size in (1, 32):
        times = []
        for place in range(rounds):
            start = place * size % (remembered - size)
            part = rows[start:][:size] + 1e-3 * (place + 1)
            began = time.process_time()
            _ask(watch, part, start)
            times.append((time.process_time() - began) / size * 1e6)
        figures[f"batches of {size}"] = float(np.median(times))
    return {"remembered": watch.entries[guard.name], **figures}


def _ask(watch: Watch, rows: Tensor, start: int) -> None:
    """Ask as 250 clients do in turns."""
    clients = [str((start + row) % 250) for row in range(len(rows))]
    watch.remember(watch.judge(Batch(rows), clients), 0, len(rows))
