"""One pass over a batch: input guards, the model, output guards, and one action per row."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from guards.calibration import Calibration
from guards.conformal import Predictor
from guards.detector import Detector
from guards.model import TorchModel
from guards.types import Action, Batch, Finding, Outcome, Verdict

__all__ = ["Guard", "Pipeline", "decide"]


class Guard:
    """A fitted detector with its calibration, the rank at which it flags, and what a flag does."""

    def __init__(
        self,
        *,
        name: str,
        detector: Detector,
        calibration: Calibration,
        max_rank: int,
        action: Action = Action.FLAG,
        on_error: Action = Action.ALLOW,
    ) -> None:
        """Flag rows of rank ``max_rank`` and under; a row on which the detector crashes gets ``on_error``."""
        self.name, self.detector, self.calibration = name, detector, calibration
        self.max_rank, self.action, self.on_error = max_rank, action, on_error

    @property
    def threshold(self) -> float:
        """The p-value at and under which the guard flags."""
        return self.max_rank / (len(self.calibration) + 1)

    def check(self, batch: Batch) -> Finding:
        """Judge each row alone. A crash costs only the rows that cause it: the batch is halved until they stand out."""
        try:
            return self._check(batch)
        except Exception as crash:
            if fatal(crash):
                raise
            if len(batch) > 1:
                middle = len(batch) // 2
                return _join(self.check(batch[:middle]), self.check(batch[middle:]))
        nothing = torch.zeros(len(batch), device=batch.x.device)
        return Finding(self.name, nothing + torch.nan, nothing + torch.nan, nothing.bool())

    def _check(self, batch: Batch) -> Finding:
        score = self.detector.score(batch)
        if score.shape != (len(batch),):
            raise ValueError(f"guard {self.name}: a score of shape {tuple(score.shape)} for {len(batch)} rows")
        rank = self.calibration.rank(score)
        violated = self.detector.violations(batch)
        flagged = rank <= self.max_rank
        return Finding(
            guard=self.name,
            score=score,
            p_value=rank.float() / (len(self.calibration) + 1),
            flagged=flagged if violated is None else flagged | violated,
            violated=violated,
            causes=self.detector.causes(batch),
        )


class Pipeline:
    """A pure function of the batch: model, guards in order, predictor; ``shadow`` judges and never acts."""

    def __init__(
        self, *, model: TorchModel, guards: Sequence[Guard], predictor: Predictor, shadow: bool = False
    ) -> None:
        self.model, self.guards, self.predictor, self.shadow = model, tuple(guards), predictor, shadow
        self.input_guards = tuple(guard for guard in guards if not guard.detector.needs_output)
        self.output_guards = tuple(guard for guard in guards if guard.detector.needs_output)

    def __call__(self, batch: Batch) -> Outcome:
        """Judge and predict every row of a batch on the model's device."""
        findings = self.check_input(batch)
        batch = self.forward(batch)
        return self.conclude(batch, [*findings, *self.check_output(batch)])

    @torch.inference_mode()
    def check_input(self, batch: Batch) -> list[Finding]:
        """Run the guards that look at the input alone."""
        return [guard.check(batch) for guard in self.input_guards]

    @torch.inference_mode()
    def forward(self, batch: Batch) -> Batch:
        """Run the model once, and add its output to the batch."""
        return replace(batch, output=self.model(batch.x))

    @torch.inference_mode()
    def check_output(self, batch: Batch) -> list[Finding]:
        """Run the guards that look at features and logits."""
        return [guard.check(batch) for guard in self.output_guards]

    @torch.inference_mode()
    def conclude(self, batch: Batch, findings: Sequence[Finding]) -> Outcome:
        """Decide every row's action, and read the model's output."""
        assert batch.output is not None  # noqa: S101 - forward() came first
        verdict = decide(self.guards, findings, rows=len(batch), device=batch.x.device, shadow=self.shadow)
        # Logits that are not finite are no answer, whatever the guards or the mode say.
        broken = ~batch.output.logits.isfinite().all(1)
        action = torch.where(broken, verdict.action.clamp(min=int(Action.ABSTAIN)), verdict.action)
        verdict = replace(verdict, action=action)
        return Outcome(batch.output, self.predictor(batch.output), verdict)


def decide(
    guards: Sequence[Guard], findings: Sequence[Finding], *, rows: int, device: torch.device, shadow: bool
) -> Verdict:
    """Take the strictest action that any guard asks for; findings may come in any order."""
    if not guards:
        empty = torch.zeros((0, rows), device=device)
        allow = torch.zeros(rows, dtype=torch.int64, device=device)
        return Verdict((), empty, empty, empty.bool(), empty.bool(), allow, {})
    by_name = {finding.guard: finding for finding in findings}
    ordered = [by_name[guard.name] for guard in guards]
    flagged = torch.stack([finding.flagged for finding in ordered])
    p_value = torch.stack([finding.p_value for finding in ordered])
    asked = torch.stack(
        [
            torch.where(finding.flagged, int(guard.action), 0)
            + torch.where(finding.p_value.isnan(), int(guard.on_error), 0)
            for guard, finding in zip(guards, ordered, strict=True)
        ]
    )
    action = asked.amax(0)
    return Verdict(
        guards=tuple(guard.name for guard in guards),
        score=torch.stack([finding.score for finding in ordered]),
        p_value=p_value,
        flagged=flagged,
        violated=torch.stack(
            [torch.zeros_like(f.flagged) if f.violated is None else f.violated for f in ordered],
        ),
        action=torch.zeros_like(action) if shadow else action,
        causes={finding.guard: finding.causes for finding in ordered if finding.causes is not None},
    )


def fatal(crash: Exception) -> bool:
    """Tell a lost device from a bad row: after a CUDA device-side assert no retry can help."""
    return isinstance(crash, torch.AcceleratorError)


def _join(first: Finding, second: Finding) -> Finding:
    """Put the findings of two halves of a batch together; what one half lacks because it crashed is blank."""
    return Finding(
        guard=first.guard,
        score=torch.cat([first.score, second.score]),
        p_value=torch.cat([first.p_value, second.p_value]),
        flagged=torch.cat([first.flagged, second.flagged]),
        violated=_join_optional(first, second, first.violated, second.violated),
        causes=_join_optional(first, second, first.causes, second.causes),
    )


def _join_optional(first: Finding, second: Finding, one: Tensor | None, two: Tensor | None) -> Tensor | None:
    present = two if one is None else one
    if present is None:
        return None
    blanks = [present.new_zeros((len(half.score), *present.shape[1:])) for half in (first, second)]
    return torch.cat([blank if part is None else part for part, blank in zip((one, two), blanks, strict=True)])
