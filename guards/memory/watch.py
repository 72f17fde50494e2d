"""Judges the rows that clients asked by all guards with memory, and remembers them once their answers are out."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from guards.memory.base import MemoryGuard
from guards.memory.crowd import Queries, owner
from guards.memory.crowd_evidence import judged_among
from guards.memory.history import History, LocalHistory
from guards.memory.staircase import blurred
from guards.types import Batch, Result

__all__ = ["Judged", "Judgement", "Watch"]

LOG = logging.getLogger("guardhouse")
DIGEST_BYTES = 8
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What one guard says of n rows. ``evidence`` (n,) is NaN, and the row is not remembered, where the guard crashed.

    ``states`` (n, s) are the states of the rows' clients after each row. ``repeats`` (n,) marks exact repeats of one of
    the client's remembered queries, which are no evidence. ``crossed`` (n,) marks rows that made the evidence stand.
    ``among`` (n,) is the part of the evidence that comes from queries of other clients; None if the guard has no crowd.
    """

    score: Array
    evidence: Array
    flagged: Array
    codes: Array
    states: Array
    repeats: Array
    crossed: Array
    among: Array | None = None

    @property
    def p_value(self) -> Array:
        """The probability (n,) that evidence of an honest client ever becomes so high, at most (Ville's inequality)."""
        return 1 / np.maximum(self.evidence, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """What every guard with memory says of a batch of n rows, and whose rows they are."""

    clients: tuple[str, ...]
    owners: npt.NDArray[np.uint64]
    digests: tuple[int, ...]
    guards: tuple[Judged, ...]


class Watch:
    """All guards with memory of a model, and what they remember. Used by one thread."""

    def __init__(
        self,
        guards: Sequence[MemoryGuard],
        *,
        shadow: bool = False,
        history: Callable[[MemoryGuard], History] = LocalHistory,
    ) -> None:
        """Judge by ``guards``, each with a ``history`` of its own. With ``shadow`` no answer changes."""
        self.guards, self._shadow = tuple(guards), shadow
        self._histories = [history(guard) for guard in self.guards]

    @property
    def entries(self) -> dict[str, int]:
        """How many queries each guard remembers of all clients, by the guard's name."""
        named = zip(self.guards, self._histories, strict=True)
        return {guard.name: history.entries for guard, history in named}

    def judge(self, batch: Batch, clients: Sequence[str]) -> Judgement:
        """Judge rows with the model's output, in the order in which they were asked; remember nothing yet."""
        digests = tuple(_digest(row) for row in batch.x.cpu().numpy())
        hashes = {client: owner(client) for client in set(clients)}
        owners = np.array([hashes[client] for client in clients], np.uint64)
        judged = tuple(
            _judged(guard, history, batch, clients, owners, digests)
            for guard, history in zip(self.guards, self._histories, strict=True)
        )
        return Judgement(tuple(clients), owners, digests, judged)

    def remember(self, judgement: Judgement, start: int, stop: int) -> None:
        """Remember the rows from ``start`` to ``stop``, whose answers are out."""
        for place, judged in enumerate(judgement.guards):
            rows = [row for row in range(start, stop) if not judged.repeats[row] and not np.isnan(judged.evidence[row])]
            by_client: dict[str, list[int]] = {}
            for row in rows:
                by_client.setdefault(judgement.clients[row], []).append(row)
            for client, asked in by_client.items():
                digests = [judgement.digests[row] for row in asked]
                self._histories[place].write(client, judged.codes[asked], digests, judged.states[asked[-1]])
            if judged.among is not None and rows:
                digests = [judgement.digests[row] for row in rows]
                told = Queries(judged.codes[rows], digests, judgement.owners[rows], judged.among[rows])
                self._histories[place].write_crowd(told)

    def conclude(self, result: Result, judgement: Judgement) -> Result:
        """Add what the guards with memory say to the pipeline's result for the same rows."""
        verdict, device = result.verdict, result.verdict.action.device
        action = verdict.action
        prediction = result.prediction
        for guard, judged in zip(self.guards, judgement.guards, strict=True):
            if self._shadow or not judged.flagged.any():
                continue
            flagged = torch.from_numpy(judged.flagged).to(device)
            action = torch.where(flagged, action.clamp(min=int(guard.params.flag_action)), action)
            if guard.params.on_evidence == "blur" and prediction.probabilities is not None:
                steps = blurred(prediction.probabilities)
                probabilities = torch.where(flagged[:, None], steps, prediction.probabilities)
                prediction = replace(prediction, probabilities=probabilities)
        names = (*verdict.guards, *(guard.name for guard in self.guards))
        violated = verdict.violated
        if violated is not None:
            violated = torch.cat([violated, violated.new_zeros((len(self.guards), len(action)))])
        verdict = replace(
            verdict,
            guards=names,
            score=_rows([judged.score for judged in judgement.guards], verdict.score),
            p_value=_rows([judged.p_value for judged in judgement.guards], verdict.p_value),
            flagged=_rows([judged.flagged for judged in judgement.guards], verdict.flagged),
            violated=violated,
            action=action,
        )
        return replace(result, prediction=prediction, verdict=verdict)


def _rows(found: Sequence[Array], before: Tensor) -> Tensor:
    """Append a row (n,) for each guard with memory to a tensor (g, n)."""
    return torch.cat([before, torch.from_numpy(np.stack(found)).to(before.device, before.dtype)])


def _judged(
    guard: MemoryGuard,
    history: History,
    batch: Batch,
    clients: Sequence[str],
    owners: npt.NDArray[np.uint64],
    digests: Sequence[int],
) -> Judged:
    """Judge rows in order. A row on which the guard crashes has NaN; the other rows are judged without that row."""
    codes, crashes = _codes(guard, batch)
    most = guard.params.average_run_length
    traces = dict(history.read(sorted(set(clients))))
    score, evidence, before = np.zeros((3, len(codes)))
    states, repeats = np.zeros((len(codes), guard.state_size)), np.zeros(len(codes), np.bool_)
    for row, (client, digest) in enumerate(zip(clients, digests, strict=True)):
        trace = traces[client]
        try:
            before[row] = guard.evidence(trace.state)
            if row in crashes or digest in trace.digests:
                repeats[row], states[row] = True, trace.state
            else:
                step = guard.step(codes[row], trace)
                score[row], states[row] = step.score, step.state
                traces[client] = trace.after(codes[row], digest, step.state, guard.params.window)
            evidence[row] = guard.evidence(states[row])
        except Exception as crash:  # noqa: BLE001 - a plug-in may raise anything, and predictions go on
            crashes[row] = crash
    sound = np.array([row not in crashes for row in range(len(codes))])
    among = None
    if guard.crowd_size:
        some = [digest for digest, kept in zip(digests, sound, strict=True) if kept]
        queries = Queries(codes[sound], some, owners[sound], np.zeros(len(some)))
        among, among_before = np.zeros((2, len(codes)))
        try:
            among[sound], among_before[sound] = judged_among(guard.among, queries, history.crowd)
        except Exception as crash:  # noqa: BLE001 - as above; nobody knows which row it was
            crashes, sound = dict.fromkeys(range(len(codes)), crash), np.zeros_like(sound)
        evidence, before = (evidence + among) / 2, (before + among_before) / 2
    if crashes:
        score[~sound] = evidence[~sound] = math.nan
        kind = type(next(iter(crashes.values()))).__name__
        LOG.error("guard %s crashed on %d of %d rows: %s", guard.name, len(crashes), len(codes), kind)
    flagged = evidence >= most
    return Judged(score, evidence, flagged, codes, states, repeats, flagged & (before < most), among)


def _codes(guard: MemoryGuard, batch: Batch) -> tuple[Array, dict[int, Exception]]:
    """Encode rows: codes (n, w), and the rows that crash the guard; if a batch crashes, each row is tried alone."""
    crashes: dict[int, Exception] = {}
    codes = np.zeros((len(batch), guard.width), np.float32)
    try:
        codes[:] = guard.encode(batch).cpu().numpy()
    except Exception:  # noqa: BLE001, S110 - a plug-in may raise anything; the rows tell which one it was
        pass
    else:
        return codes, crashes
    for row in range(len(batch)):
        try:
            codes[row] = guard.encode(batch[row : row + 1]).cpu().numpy()[0]
        except Exception as crash:  # noqa: BLE001 - as above
            crashes[row] = crash
    return codes, crashes


def _digest(row: Array) -> int:
    return int.from_bytes(blake2b(row.tobytes(), digest_size=DIGEST_BYTES).digest(), "little")
