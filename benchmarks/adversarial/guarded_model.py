"""A model behind the guard with memory, as attacks ask it: each account of each attack has a history of its own."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.adversarial.subjects import Subject
from guards.attacks.target import WITHHELD, Answers, Client
from guards.memory.base import MemoryGuard
from guards.memory.staircase import blurred
from guards.memory.watch import Watch
from guards.types import Batch

__all__ = ["GuardedModel"]


@dataclass(eq=False)
class GuardedModel:
    """Answers as a server would: with ``shows_flags`` a flagged row is refused, with ``blur`` it is blurred."""

    subject: Subject
    guard: MemoryGuard
    shows_flags: bool = False
    blur: bool = False
    _watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        """Forget the crowd: an attack on one row must not depend on attacks on other rows."""
        self.guard = deepcopy(self.guard)
        self.guard.params = self.guard.params.model_copy(update={"crowd": 0})
        self.forget()

    @torch.inference_mode()
    def ask(self, x: npt.NDArray[np.float32], clients: Sequence[Client]) -> Answers:
        """Answer rows (n, ...), in order."""
        rows = torch.from_numpy(x)
        probabilities = self.subject.probabilities(rows)
        judgement = self._watch.judge(Batch(rows), [f"{client.attack} {client.account}" for client in clients])
        self._watch.remember(judgement, 0, len(rows))
        flagged = judgement.guards[0].flagged
        if self.blur:
            probabilities = torch.where(torch.from_numpy(flagged)[:, None], blurred(probabilities), probabilities)
        withheld = flagged & self.shows_flags
        shown = probabilities.double().numpy()
        return Answers(
            labels=np.where(withheld, WITHHELD, shown.argmax(1)),
            probabilities=np.where(withheld[:, None], np.nan, shown),
            refused=withheld,
            flagged=flagged,
        )

    def forget(self) -> None:
        """Forget all attacks so far."""
        self._watch = Watch([self.guard])
