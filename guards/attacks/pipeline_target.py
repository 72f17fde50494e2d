"""The target in this process: a bundle's guards, with what a server would show of their verdicts."""

from collections.abc import Sequence

import numpy as np
import torch

from guards.attacks.space import Rows
from guards.attacks.target import WITHHELD, Answers, Bools, Client
from guards.bundle.batches import batches_of
from guards.bundle.bundle import Bundle
from guards.config.config import Config
from guards.memory.watch import Watch
from guards.model.chunked_run import refusing
from guards.types import Action, Batch, Result
from guards.types import Rows as FileRows

__all__ = ["PipelineTarget", "shows_flags"]


def shows_flags(config: Config) -> bool:
    """Say whether answers show that a guard acted, by a reason or a missing label: the guards with memory, if any."""
    judges = config.memory_guards or config.guards
    return config.mode != "shadow" and any(guard.visible or guard.action != "flag" for guard in judges)


class PipelineTarget:
    """Answers as a server of the bundle would, and knows what every guard flagged, also the invisible guards.

    Guards with memory remember each attack on a row for itself, as if nobody else asked. All batches have the same
    number of rows. So an answer does not depend on which attacks run at the same time.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Make the bundle's pipeline.

        Raises:
            Mistake: the calibration rows cannot support the config's budget.
        """
        config = bundle.config
        self._bundle, self.pipeline = bundle, bundle.pipeline()
        self.size, self.shows_flags = config.server.max_batch_rows, shows_flags(config)
        shown = config.mode != "shadow"
        self._visible = [place for place, guard in enumerate(config.judges) if guard.visible and shown]
        self._watches: dict[str, Watch] = {}

    def ask(self, x: Rows, clients: Sequence[Client]) -> Answers:
        """Answer rows (n, ...), in order.

        Raises:
            Mistake: the model raises for some of the rows.
        """
        if not self._bundle.memory_guards:
            return self.alone(x)
        places: dict[str, list[int]] = {}
        for place, client in enumerate(clients):
            places.setdefault(client.attack, []).append(place)
        whole, result = self._run(x)
        parts = [self._remembered(whole, result, attack, rows, clients) for attack, rows in places.items()]
        order = np.argsort(np.concatenate(list(places.values())))
        return Answers.join(parts).reordered(order)

    def alone(self, x: Rows) -> Answers:
        """Answer rows (n, ...) as the first rows of as many clients: no guard remembers anything."""
        return self._answers(self._run(x)[1])

    def forget(self) -> None:
        """Forget all attacks so far."""
        self._watches.clear()

    def _run(self, x: Rows) -> tuple[Batch, Result]:
        batches, results = list(batches_of(self._bundle, FileRows(torch.from_numpy(x)), size=self.size)), []
        for batch in batches:
            padded = batch[torch.arange(self.size, device=batch.x.device).clamp(max=len(batch) - 1)]
            with refusing(self._bundle.model, padded.x):
                results.append(self.pipeline(padded, causes=False).first(len(batch)))
        result, whole = Result.join(results), Batch.join(batches)
        return Batch(whole.x, whole.groups, result.output, whole.draws), result

    def _remembered(
        self, whole: Batch, result: Result, attack: str, rows: Sequence[int], clients: Sequence[Client]
    ) -> Answers:
        """Answer the rows of one attack, and remember them: the only place where the queries of accounts pass."""
        watch = self._watches.setdefault(attack, self._bundle.watch())
        index = torch.tensor(rows, device=whole.x.device)
        judgement = watch.judge(whole[index], [str(clients[row].account) for row in rows])
        answers = self._answers(watch.conclude(result[index], judgement))
        watch.remember(judgement, 0, len(rows))
        return answers

    def _answers(self, result: Result) -> Answers:
        label, probabilities = result.prediction.label, result.prediction.probabilities
        assert label is not None  # noqa: S101 - a regression is not attacked
        assert probabilities is not None  # noqa: S101
        flagged: Bools = result.verdict.flagged.cpu().numpy()
        withheld = result.verdict.action.cpu().numpy() >= int(Action.ABSTAIN)
        visible = [place for place in self._visible if place < len(flagged)]  # alone, guards with memory say nothing
        shown = probabilities.double().cpu().numpy()
        return Answers(
            labels=np.where(withheld, WITHHELD, label.cpu().numpy()),
            probabilities=np.where(withheld[:, None], np.nan, shown),
            refused=withheld | np.logical_or.reduce(flagged[visible], axis=0),
            flagged=np.logical_or.reduce(flagged, axis=0),
        )
