"""A model behind the guard with memory, as attacks ask it: each account of each attack has a history of its own."""

from collections.abc import Sequence
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
    _watches: dict[str, Watch] = field(init=False, default_factory=dict)

    @torch.inference_mode()
    def ask(self, x: npt.NDArray[np.float32], clients: Sequence[Client]) -> Answers:
        """Answer rows (n, ...), in order."""
        rows = torch.from_numpy(x)
        probabilities = self.subject.probabilities(rows)
        flagged = np.zeros(len(rows), np.bool_)
        for attack in sorted({client.attack for client in clients}):
            # An attack on one row does not depend on attacks on other rows.
            watch = self._watches.setdefault(attack, Watch([self.guard]))
            asked = [row for row, client in enumerate(clients) if client.attack == attack]
            judgement = watch.judge(Batch(rows[asked]), [str(clients[row].account) for row in asked])
            watch.remember(judgement, 0, len(asked))
            flagged[asked] = judgement.guards[0].flagged
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
        self._watches.clear()
