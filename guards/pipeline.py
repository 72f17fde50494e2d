"""One pass over a batch: input guards, the model, output guards, and one action per row."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from guards.calibration import Calibration
from guards.conformal import Predictor
from guards.detector import Detector
from guards.model import TorchModel
from guards.types import Action, Batch, Finding, Outcome, Verdict

__all__ = ["Guard", "Pipeline", "fatal"]


@dataclass(frozen=True, slots=True, eq=False)
class Guard:
    """A fitted detector, and what its flag or its crash does to a row."""

    name: str
    detector: Detector
    action: Action = Action.FLAG
    on_error: Action = Action.ALLOW

    def check(self, batch: Batch, *, causes: bool = True) -> Finding:
        """Examine each row alone. A crash costs only the rows that cause it: the batch is halved until they show."""
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
        nothing = torch.full((len(batch),), torch.nan, device=batch.x.device)
        return Finding(nothing, crashed=nothing.isnan())


class Pipeline:
    """A pure function of the batch.

    ``calibration`` holds the scores of the same clean rows under every guard (g, n), ``max_ranks`` the rank at and
    under which each flags. ``shadow`` judges and never acts.
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
    ) -> None:
        self.model, self.guards, self.shadow = model, tuple(guards), shadow
        self.names = tuple(guard.name for guard in guards)
        self.predictor = predictor.to(model.device)
        self.calibration = None if calibration is None else calibration.to(model.device)
        self.max_ranks = tuple(max_ranks)
        self._input = [index for index, guard in enumerate(guards) if not guard.detector.needs_output]
        self._output = [index for index, guard in enumerate(guards) if guard.detector.needs_output]
        self._max_rank = self._column(self.max_ranks)
        self._action = self._column([int(guard.action) for guard in guards])
        self._on_error = self._column([int(guard.on_error) for guard in guards])

    def _column(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self.model.device)[:, None]

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The p-value at and under which each guard flags; 0 where it cannot."""
        rows = 0 if self.calibration is None else len(self.calibration)
        return tuple(rank / (rows + 1) for rank in self.max_ranks)

    def __call__(self, batch: Batch, *, causes: bool = True) -> Outcome:
        """Judge and predict every row of a batch on the model's device."""
        findings = self.check_input(batch, causes=causes)
        batch = self.forward(batch)
        return self.conclude(batch, findings | self.check_output(batch, causes=causes))

    @torch.inference_mode()
    def check_input(self, batch: Batch, *, causes: bool = True) -> dict[int, Finding]:
        """Run the guards that look at the input alone."""
        return {index: self.guards[index].check(batch, causes=causes) for index in self._input}

    @torch.inference_mode()
    def forward(self, batch: Batch) -> Batch:
        """Run the model once, and add its output to the batch."""
        return replace(batch, output=self.model(batch.x))

    @torch.inference_mode()
    def check_output(self, batch: Batch, *, causes: bool = True) -> dict[int, Finding]:
        """Run the guards that look at features and logits."""
        return {index: self.guards[index].check(batch, causes=causes) for index in self._output}

    @torch.inference_mode()
    def conclude(self, batch: Batch, findings: dict[int, Finding]) -> Outcome:
        """Calibrate all findings at once, decide every row's action, and read the model's output."""
        assert batch.output is not None  # noqa: S101 - forward() came first
        verdict = self._judge(batch, [findings[index] for index in range(len(self.guards))])
        # Logits that are not finite are no answer, whatever the guards or the mode say.
        finite = batch.output.logits.isfinite().all(1)
        action = torch.where(finite, verdict.action, verdict.action.clamp(min=int(Action.ABSTAIN)))
        return Outcome(batch.output, self.predictor(batch.output), replace(verdict, action=action))

    def _judge(self, batch: Batch, findings: Sequence[Finding]) -> Verdict:
        allow = torch.zeros(len(batch), dtype=torch.int64, device=batch.x.device)
        if self.calibration is None:
            empty = torch.zeros((0, len(batch)), device=batch.x.device)
            return Verdict((), empty, empty, empty.bool(), None, allow, {})
        score = torch.stack([finding.score for finding in findings])
        rank = self.calibration.rank(score)
        p_value, flagged = rank / (len(self.calibration) + 1), rank <= self._max_rank
        violated = _stacked([finding.violated for finding in findings], len(batch))
        if violated is not None:
            flagged |= violated
        crashed = _stacked([finding.crashed for finding in findings], len(batch))
        if crashed is not None:
            p_value, flagged = p_value.masked_fill(crashed, torch.nan), flagged & ~crashed
        asked = torch.where(flagged, self._action, 0)
        if crashed is not None:
            asked = torch.where(crashed, self._on_error, asked)
        return Verdict(
            guards=self.names,
            score=score,
            p_value=p_value,
            flagged=flagged,
            violated=violated,
            action=allow if self.shadow else asked.amax(0),
            causes={
                name: finding.causes
                for name, finding in zip(self.names, findings, strict=True)
                if finding.causes is not None
            },
        )


def fatal(crash: Exception) -> bool:
    """Tell a lost device from a bad row: after a CUDA device-side assert no retry can help."""
    return isinstance(crash, torch.AcceleratorError)


def _stacked(parts: Sequence[Tensor | None], rows: int) -> Tensor | None:
    """Stack masks (n,) to (g, n), blank where a guard has none; None where none has."""
    present = next((part for part in parts if part is not None), None)
    if present is None:
        return None
    blank = present.new_zeros(rows)
    return torch.stack([blank if part is None else part for part in parts])


def _join(first: Finding, second: Finding) -> Finding:
    """Put the findings of two halves of a batch together; what one half lacks is blank."""
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
