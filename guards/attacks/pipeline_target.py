"""The target in this process: a bundle's pipeline, with what a server would show of its verdicts."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from guards.attacks.target import WITHHELD, Answers, Bools, Client
from guards.bundle.batches import batches_of
from guards.bundle.bundle import Bundle
from guards.config.config import Config
from guards.model.chunked_run import refusing
from guards.types import Action, Batch, Result, Rows

__all__ = ["PipelineTarget", "shows_flags"]


def shows_flags(config: Config) -> bool:
    """Say whether an answer may show that a guard acted: by a reason, or by the missing label."""
    return config.mode != "shadow" and any(guard.visible or guard.action != "flag" for guard in config.guards)


class PipelineTarget:
    """Answers as a server of the bundle would, and knows what every guard flagged, also the invisible guards.

    All batches have the same number of rows, so that a row's answer does not depend on which rows run with it.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Make the bundle's pipeline.

        Raises:
            Mistake: the calibration rows cannot support the config's budget.
        """
        config = bundle.config
        self._bundle, self.pipeline = bundle, bundle.pipeline()
        self.size = config.server.max_batch_rows
        self.shows_flags = shows_flags(config)
        shown = config.mode != "shadow"
        self._visible = [place for place, guard in enumerate(config.guards) if guard.visible and shown]

    def ask(self, x: npt.NDArray[np.float32], clients: Sequence[Client]) -> Answers:
        """Answer rows (n, ...), in order.

        Raises:
            Mistake: the model raises for some of the rows.
        """
        results, batches = [], batches_of(self._bundle, Rows(torch.from_numpy(x)), size=self.size)
        for batch in batches:
            padded = _filled(batch, self.size)
            with refusing(self._bundle.model, padded.x):
                results.append(self.pipeline(padded, causes=False).first(len(batch)))
        del clients  # guards judge rows alone
        return Answers.join([self._answers(result) for result in results])

    def forget(self) -> None:
        """Guards judge rows alone: there is nothing to forget."""

    def _answers(self, result: Result) -> Answers:
        label, probabilities = result.prediction.label, result.prediction.probabilities
        assert label is not None  # noqa: S101 - a regression is not attacked
        assert probabilities is not None  # noqa: S101
        flagged: Bools = result.verdict.flagged.cpu().numpy()
        withheld = result.verdict.action.cpu().numpy() >= int(Action.ABSTAIN)
        shown = probabilities.double().cpu().numpy()
        return Answers(
            labels=np.where(withheld, WITHHELD, label.cpu().numpy()),
            probabilities=np.where(withheld[:, None], np.nan, shown),
            refused=withheld | np.logical_or.reduce(flagged[self._visible], axis=0),
            flagged=np.logical_or.reduce(flagged, axis=0),
        )


def _filled(batch: Batch, size: int) -> Batch:
    index = torch.arange(size, device=batch.x.device).clamp(max=len(batch) - 1)
    return batch[index]
