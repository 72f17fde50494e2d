"""One pass over a batch: input guards, the model, output guards, and one action per row."""

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from guards.calibration.decision_rule import DecisionRule
from guards.calibration.p_values import Calibration
from guards.calibration.prediction_sets import Predictor
from guards.detectors.base import Detector
from guards.model.torch_model import TorchModel
from guards.types import Action, Batch, Finding, Result

__all__ = ["Guard", "Pipeline", "fatal"]


@dataclass(frozen=True, slots=True, eq=False)
class Guard:
    """A fitted detector, the action for rows that it flags, and the action for rows on which it crashes.

    A guard with a finite ``limit`` flags rows whose score is above the limit, whatever their p-value.
    """

    name: str
    detector: Detector
    action: Action = Action.FLAG
    on_error: Action = Action.ALLOW
    limit: float = math.inf

    def check(self, batch: Batch, *, causes: bool = True) -> Finding:
        """Score each row of a batch; if the detector crashes, mark only the rows that cause the crash.

        After a crash the batch is halved, and its halves are scored, until the rows that cause the crash are found.
        """
        try:
            finding = self.detector.examine(batch, causes=causes)
            if finding.score.shape != (len(batch),):
                shape = tuple(finding.score.shape)
                raise ValueError(f"guard {self.name}: a score of shape {shape} for {len(batch)} rows")  # noqa: TRY301
        except Exception as crash:
            if fatal(crash):
                raise
            if len(batch) > 1:
                middle = len(batch) // 2
                first, second = self.check(batch[:middle], causes=causes), self.check(batch[middle:], causes=causes)
                return _join(first, second)
        else:
            return finding
        return nothing(batch)


class Pipeline:
    """Runs guards and model on a batch. The result depends on the batch alone.

    ``calibration`` holds the scores of the same n clean rows under each of g guards: (g, n). A guard flags a row if
    the row's rank among the calibration rows is at most the guard's entry in ``max_ranks``. With ``shadow`` the verdict
    shows the flags, but a flag never changes a row's action. ``stratum_of`` gives each row's stratum (n,), if the
    predictor is calibrated by groups.
    """

    def __init__(
        self,
        *,
        model: TorchModel,
        guards: Sequence[Guard],
        calibration: Calibration | None,
        max_ranks: Sequence[int],
        predictor: Predictor,
        shadow: bool = False,
        stratum_of: Callable[[Batch], Tensor] | None = None,
    ) -> None:
        self.model, self.guards, self.shadow = model, tuple(guards), shadow
        self.names = tuple(guard.name for guard in guards)
        self.predictor = predictor.to(model.device)
        self.calibration = None if calibration is None else calibration.to(model.device)
        self.max_ranks = tuple(max_ranks)
        self._stratum_of = stratum_of
        self._input = [index for index, guard in enumerate(guards) if not guard.detector.needs_output]
        self._output = [index for index, guard in enumerate(guards) if guard.detector.needs_output]
        self._rule = DecisionRule(
            self.names,
            calibration=self.calibration,
            max_ranks=self.max_ranks,
            actions=[guard.action for guard in guards],
            on_error=[guard.on_error for guard in guards],
            shadow=shadow,
            device=model.device,
            limits=[guard.limit for guard in guards],
        )

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Each guard's largest p-value at which it flags a row; 0 if the guard can never flag.

        For a guard with a score limit: the share of calibration rows above the limit.
        """
        if self.calibration is None:
            return ()
        ranks = list(self.max_ranks)
        for place, guard in enumerate(self.guards):
            if guard.limit < math.inf:
                ranks[place] = int((self.calibration.scores[place] > guard.limit).sum())
        return tuple(rank / (len(self.calibration) + 1) for rank in ranks)

    @torch.inference_mode()
    def __call__(self, batch: Batch, *, causes: bool = True) -> Result:
        """Judge and predict every row of a batch, whose tensors are on the model's device."""
        findings = self.check_input(batch, causes=causes)
        batch = self.forward(batch)
        return self.conclude(batch, findings | self.check_output(batch, causes=causes))

    # The stages of a call, for callers that time each stage. The caller enters inference mode once, around all stages.

    def check_input(
        self, batch: Batch, *, causes: bool = True, skip: Container[int] = frozenset()
    ) -> dict[int, Finding]:
        """Run the guards that read only the input; the findings are by the guard's index.

        The guards at the places ``skip`` judge nothing, as if they crashed on every row.
        """
        return self._check(self._input, batch, causes, skip)

    def forward(self, batch: Batch) -> Batch:
        """Run the model once, and add its output to the batch."""
        return Batch(batch.x, batch.groups, self.model(batch.x), batch.draws)

    def check_output(
        self, batch: Batch, *, causes: bool = True, skip: Container[int] = frozenset()
    ) -> dict[int, Finding]:
        """Run the guards that read features or logits, but for the places ``skip``; the findings are by index."""
        return self._check(self._output, batch, causes, skip)

    def _check(self, places: Sequence[int], batch: Batch, causes: bool, skip: Container[int]) -> dict[int, Finding]:
        return {
            place: nothing(batch) if place in skip else self.guards[place].check(batch, causes=causes)
            for place in places
        }

    def conclude(self, batch: Batch, findings: dict[int, Finding]) -> Result:
        """Turn the findings into a verdict, and the model's output into a prediction."""
        output = batch.output
        assert output is not None  # noqa: S101 - forward() came first
        verdict = self._rule([findings[index] for index in range(len(self.guards))], output.logits)
        stratum = None if self._stratum_of is None else self._stratum_of(batch)
        return Result(output, self.predictor(output, batch.draws, stratum), verdict)


def nothing(batch: Batch) -> Finding:
    """Return what a guard finds that judges no row."""
    score = torch.full((len(batch),), torch.nan, device=batch.x.device)
    return Finding(score, crashed=score.isnan())


def fatal(crash: BaseException) -> bool:
    """Return whether a crash means a lost device, not a bad row: after a CUDA device-side assert every retry fails."""
    return isinstance(crash, torch.AcceleratorError)


def _join(first: Finding, second: Finding) -> Finding:
    """Concatenate the findings of two halves of a batch; a field that only one half has is zero in the other half."""
    sizes = (len(first.score), len(second.score))
    return Finding(
        score=torch.cat([first.score, second.score]),
        violated=_joined((first.violated, second.violated), sizes),
        causes=_joined((first.causes, second.causes), sizes),
        crashed=_joined((first.crashed, second.crashed), sizes),
    )


def _joined(parts: tuple[Tensor | None, Tensor | None], sizes: tuple[int, int]) -> Tensor | None:
    present = next((part for part in parts if part is not None), None)
    if present is None:
        return None
    blanks = [present.new_zeros((size, *present.shape[1:])) for size in sizes]
    return torch.cat([blank if part is None else part for part, blank in zip(parts, blanks, strict=True)])
