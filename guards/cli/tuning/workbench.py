"""Measures detectors on the rows of the search: the model has run once, and each detector is fitted on its outputs."""

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from pydantic import ValidationError
from torch import Tensor

from guards.bundle.preparation import Prepared
from guards.calibration.budget import Budget
from guards.calibration.p_values import Calibration
from guards.cli.tuning.feature_layers import Outputs
from guards.cli.tuning.latency import BATCH, Timed
from guards.config.config import Config
from guards.config.plugins import registered
from guards.detectors.base import Detector, Params
from guards.model.chunked_run import chunks_of
from guards.statistics.auroc import area
from guards.types import Batch, ModelOutput, Reference, Rows

__all__ = ["Choice", "Found", "Part", "Scored", "Workbench"]

NEAR, MOST = (1, 2, 4), 0.5
"""The multiples of the budget at which suspect rows are counted, and the largest budget that is tried."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Rows of the search, with the model's outputs for them by the layer of the features."""

    rows: Rows
    outputs: Outputs

    def batch(self, layer: str, count: int, device: torch.device) -> Batch:
        """Take the first rows, on the device of the model."""
        return Batch(self.rows.x[:count].to(device), output=_first(self.outputs[layer], count))


@dataclass(frozen=True, slots=True)
class Choice:
    """What a trial chose: a detector by its ``parameters``, with its kind; a layer; a share of the budget."""

    parameters: Mapping[str, Any]
    layer: str
    share: float

    @property
    def kind(self) -> str:
        """The kind of the detector."""
        return str(self.parameters["kind"])

    @property
    def key(self) -> str:
        """The same for choices whose detectors score alike."""
        return json.dumps([self.parameters, self.layer], sort_keys=True)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A fitted detector, its scores of clean and suspect rows (n,) and (m,), and which break a declared bound."""

    detector: Detector
    clean: Tensor
    suspect: Tensor
    clean_violated: Tensor
    suspect_violated: Tensor


@dataclass(frozen=True, slots=True)
class Found:
    """The share of suspect rows that all guards together find at the config's budget, and their joint AUROC.

    ``near`` is the mean of that share at the budget, at twice the budget and at four times the budget.
    """

    share: float
    near: float
    auroc: float

    @property
    def objective(self) -> float:
        """What the search maximises: ``near``; of equal means, the larger AUROC is better.

        The share at the budget alone would depend on the one or two strangest of few calibration rows.
        """
        return self.near + self.auroc / 1000


class Workbench:
    """Fits one guard's detector at a time, and measures all guards of the config together.

    The other guards are fitted once for each layer of features.
    """

    def __init__(
        self,
        config: Config,
        prepared: Prepared,
        *,
        guard: int,
        temperature: float,
        train: Part,
        clean: Part,
        suspect: Part,
    ) -> None:
        """Tune the guard number ``guard``: thresholds come from the ``clean`` rows, detectors learn from ``train``."""
        self._config, self._prepared, self._guard, self._temperature = config, prepared, guard, temperature
        self._train, self._clean, self._suspect = train, clean, suspect
        self._device = prepared.model.device
        self._scored: dict[tuple[str, int, int], Scored] = {}

    @property
    def rows(self) -> tuple[int, int]:
        """How many reference rows and suspect rows there are."""
        return len(self._train.rows), len(self._suspect.rows)

    def fit(self, choice: Choice, train: int, suspect: int) -> Scored:
        """Fit a detector on the first ``train`` reference rows; score all clean rows and the first suspect rows.

        Raises:
            ValueError: the detector does not suit the reference, or the parameters are out of bounds.
            RuntimeError: the detector's computation does not fit the features.
        """
        key = (choice.key, train, suspect)
        if key in self._scored:
            return self._scored[key]
        scored = self._fit(choice, train, suspect)
        if (train, suspect) == self.rows:
            self._scored[key] = scored
        return scored

    def measure(self, choice: Choice, train: int, suspect: int) -> Found:
        """Measure all guards that share the budget together, with the choice as the tuned guard.

        Raises:
            ValueError, RuntimeError: as :meth:`fit`.
        """
        places = self._config.budgeted
        guards = [self._other(index, choice) or self.fit(choice, train, suspect) for index in places]
        sound = ~torch.stack([each.clean_violated for each in guards]).any(0)
        clean = torch.stack([each.clean for each in guards])[:, sound].cpu()
        strange = torch.stack([each.suspect[:suspect] for each in guards]).cpu()
        violated = torch.stack([each.suspect_violated[:suspect] for each in guards]).any(0).cpu()
        shares = [choice.share if self._is_tuned(i) else self._config.guards[i].share for i in places]
        calibration = Calibration.from_scores(clean)
        weights = torch.tensor(shares, dtype=torch.float64)[:, None] / sum(shares)
        ranks = calibration.rank(strange)
        found = []
        for times in NEAR:
            budget = Budget(
                scores=clean,
                shares=shares,
                budget=min(times * self._config.false_alarm_budget, MOST),
                guarantee=self._config.guarantee,
            )
            flagged = (ranks <= torch.tensor(budget.ranks)[:, None]).any(0) | violated
            found.append(float(flagged.double().mean()))
        joint = [-(calibration.rank(scores) / weights).amin(0) for scores in (clean, strange)]
        joint[1][violated] = 0.0  # the strangest: ranks are negative here
        return Found(found[0], statistics.fmean(found), area(joint[0].numpy(), joint[1].numpy()).value)

    def timed(self, choice: Choice) -> Timed:
        """Give all fitted detectors with the choice, and a batch on which their latency is measured."""
        detectors = [
            (self._other(index, choice) or self.fit(choice, *self.rows)).detector
            for index in range(len(self._config.guards))
        ]
        return detectors, self._clean.batch(choice.layer, BATCH, self._device)

    def _is_tuned(self, index: int) -> bool:
        return index == self._guard

    def _other(self, index: int, choice: Choice) -> Scored | None:
        """Fit and score a guard that is not tuned, at the layer of the choice; None for the tuned guard."""
        if self._is_tuned(index):
            return None
        parameters = self._config.guards[index].detector.model_dump(mode="json")
        return self.fit(replace(choice, parameters=parameters), *self.rows)

    @torch.no_grad()
    def _fit(self, choice: Choice, train: int, suspect: int) -> Scored:
        detector_class = cast("type[Detector]", registered("detectors")[choice.kind])
        try:
            params: Params = detector_class.Params.model_validate(dict(choice.parameters))
        except ValidationError as invalid:
            first = invalid.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from invalid
        batch, y = self._train.batch(choice.layer, train, self._device), self._train.rows.y
        reference = Reference(
            batch=batch,
            y=None if y is None else y[:train].to(self._device),
            schema=self._prepared.schema,
            head=self._prepared.model.head,
            temperature=self._temperature,
        )
        detector = detector_class(params).to(self._device).fit(reference).to(self._device)
        clean = self._clean.batch(choice.layer, len(self._clean.rows), self._device)
        strange = self._suspect.batch(choice.layer, suspect, self._device)
        return Scored(detector, *_scores(detector, (clean, strange)), *_violations(detector, (clean, strange)))


def _first(output: ModelOutput, count: int) -> ModelOutput:
    """Take the first rows of an output, whatever tensors it has."""
    batch = Batch(output.logits, output=output)[:count]
    assert batch.output is not None  # noqa: S101 - it was given
    return batch.output


def _scores(detector: Detector, batches: Iterable[Batch]) -> list[Tensor]:
    return [torch.cat([detector.score(chunk) for chunk in chunks_of(batch)]).float() for batch in batches]


def _violations(detector: Detector, batches: Iterable[Batch]) -> list[Tensor]:
    found = []
    for batch in batches:
        parts = [detector.violations(chunk) for chunk in chunks_of(batch)]
        blank = torch.zeros(len(batch), dtype=torch.bool, device=batch.x.device)
        known = [part for part in parts if part is not None]
        found.append(torch.cat(known) if known else blank)
    return found
