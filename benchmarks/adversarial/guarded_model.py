"""A model behind the guard with memory, as attacks ask it, with one history for each attack."""

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
    _watches: dict[str, Watch] = field(default_factory=dict)

    @torch.inference_mode()
    def ask(self, x: npt.NDArray[np.float32], clients: Sequence[Client]) -> Answers:
        """Answer rows (n, ...), in order."""
        rows = torch.from_numpy(x)
        probabilities = self.subject.probabilities(rows)
        places: dict[str, list[int]] = {}
        for place, client in enumerate(clients):
            places.setdefault(client.attack, []).append(place)
        flagged = np.zeros(len(x), np.bool_)
        for attack, mine in places.items():
            watch = self._watches.setdefault(attack, Watch([self.guard]))
            judgement = watch.judge(Batch(rows[mine]), [str(clients[place].account) for place in mine])
            watch.remember(judgement, 0, len(mine))
            flagged[mine] = judgement.guards[0].flagged
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
