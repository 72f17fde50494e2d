"""PGD: the white-box attack, by the gradients of the model, and of the guards if the attacker knows them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from guards.attacks.ball import Ball
from guards.attacks.guard_excess import GuardExcess
from guards.attacks.pipeline_target import PipelineTarget
from guards.attacks.query_attack import Norm
from guards.attacks.space import Rows, Space
from guards.attacks.target import Bools, Ints
from guards.attacks.wrong_side import is_wrong
from guards.types import Batch, Mistake

__all__ = ["KNOWLEDGE", "Crafted", "Knowledge", "Pgd"]

Knowledge = Literal["oblivious", "aware"]
KNOWLEDGE: tuple[Knowledge, ...] = ("oblivious", "aware")
STEPS = ("oblivious", "selective", "orthogonal")
SURE = 0.05
"""The aware attack turns from the model to the guards if another label leads by so many logits."""
TINY = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Crafted:
    """Rows (n, ...) that an attack crafted, whether each got a wrong label, and whether it did so without a flag."""

    rows: Rows
    success: Bools
    undetected: Bools


class Pgd:
    """Signed (linf) or normalised (rms) gradient steps within eps; the first is as long as eps, the last near zero.

    The first start is the row itself, and its steps lower the lead of the true label over any other. Restart r begins
    at a random point, and aims at the r-th most likely other label alone (Croce, Hein 2020, "Reliable evaluation of
    adversarial robustness with an ensemble of diverse parameter-free attacks").

    ``oblivious`` lowers the margin of the true label alone, and is judged by the row after its last step (Madry et al.
    2018, "Towards deep learning models resistant to adversarial attacks"). ``aware`` also lowers the largest excess of
    a guard's score, and is judged by every row on its way, because this attacker can run the guards. From each start it
    also takes the steps of Bryniarski et al. 2021, "Evading adversarial example detection defenses with orthogonal
    projected gradient descent": selective steps follow the gradient of what is not achieved yet; orthogonal steps
    leave out the part of this gradient that would undo the other. So ``aware`` never achieves less than ``oblivious``.
    If a guard reads views of the rows, selective steps lower the lead in all views (He et al. 2017, "Adversarial
    example defenses: ensembles of weak defenses are not strong"): where the model is sure, the score has no gradient.
    """

    def __init__(self, target: PipelineTarget, space: Space, *, steps: int = 100, restarts: int = 4) -> None:
        self._target, self._space, self._steps, self._restarts = target, space, steps, restarts
        self._model, self.excess = target.pipeline.model, GuardExcess(target.pipeline)

    def __call__(
        self,
        knowledge: Knowledge,
        norm: Norm,
        x: Rows,
        y: Ints,
        *,
        eps: float,
        seed: int,
        advance: Callable[[int], None] = lambda _: None,
    ) -> Crafted:
        """Attack rows (n, ...) with the labels ``y`` (n,); ``advance`` is called with the number of rows done.

        Raises:
            Mistake: the model gives no gradient.
        """
        size, parts = self._target.size, []
        for start in range(0, len(x), size):
            few = np.minimum(np.arange(start, start + size), len(x) - 1)  # batches of one size, as in the target
            crafted = self._craft(knowledge, norm, x[few], y[few], eps, [[seed, place] for place in few.tolist()])
            parts.append(crafted)
            advance(min(size, len(x) - start))
        rows, reached = (np.concatenate(part)[: len(x)] for part in zip(*parts, strict=True))
        return Crafted(rows, reached > 0, reached > 1)

    def _craft(
        self, knowledge: Knowledge, norm: Norm, x: Rows, y: Ints, eps: float, seeds: list[list[int]]
    ) -> tuple[Rows, Ints]:
        """Give the best row found for each row, and what it reached: 1 a wrong label, 2 a wrong label and no flag."""
        ball, best, reached = Ball(self._space, x, eps, norm, self._model.device), x.copy(), np.zeros_like(y)
        label, generators = torch.from_numpy(y).to(self._model.device), [np.random.default_rng(seed) for seed in seeds]
        aims = self._aims(ball, label)
        for restart in range(self._restarts):
            aim = None if not restart else aims[:, min(restart, aims.shape[1]) - 1]
            first = ball.random(generators) if restart else ball.centre()
            for steps in STEPS if knowledge == "aware" else STEPS[:1]:
                points = first
                for step in range(self._steps):
                    direction = self._direction(steps, ball, points, label, aim)
                    points = ball.descend(points, direction, 1 - step / self._steps)
                    if steps != "oblivious" or step == self._steps - 1:
                        self._keep(ball.rows(points).cpu().numpy(), y, best, reached)
                    if (reached > 1).all():
                        return best, reached
        return best, reached

    @torch.no_grad()
    def _aims(self, ball: Ball, label: Tensor) -> Tensor:
        """Give the other labels (n, k - 1) of the rows themselves, the most likely first."""
        logits = self._model.logits(self._model.prepare(ball.rows(ball.centre())))
        return logits.scatter(1, label[:, None], torch.inf).argsort(1, descending=True)[:, 1:]

    def _direction(self, steps: str, ball: Ball, points: Tensor, label: Tensor, aim: Tensor | None) -> Tensor:
        """Give the direction (n, w) against which a step goes."""
        margin, down, aside = self._gradients(steps, ball, points, label, aim)
        if aside is None:
            return down
        if steps == "orthogonal":
            down, aside = _without(down, aside), _without(aside, down)
        return torch.where(margin[:, None] < -SURE, aside, down)

    def _gradients(
        self, steps: str, ball: Ball, points: Tensor, label: Tensor, aim: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Give the lead of the true label (n,), its gradient (n, w), and the gradient of the guards' excess."""
        points, guards = points.detach().requires_grad_(), steps != "oblivious"
        with torch.enable_grad():
            rows = ball.rows(points)
            output = self._model.output(self._model.prepare(rows), views=guards and self.excess.reads_views)
            margin = _lead(output.logits, label, aim)
            if output.views is not None and steps == "selective":
                margin = torch.stack([margin, *(_lead(view, label, aim) for view in output.views.unbind(1))]).amax(0)
            excess = self.excess(Batch(rows, output=output)) if guards and len(self.excess) else None
        if not margin.requires_grad:
            raise Mistake("attack pgd: the model gives no gradient of its inputs; leave pgd out of --attacks")
        aside = None
        if excess is not None and excess.requires_grad:
            aside = _gradient(excess, points, keep=True)
        return margin.detach(), _gradient(margin, points, keep=False), aside

    def _keep(self, rows: Rows, y: Ints, best: Rows, reached: Ints) -> None:
        """Keep each row that reaches more than the best row so far."""
        answers = self._target.alone(rows)
        wrong = is_wrong(answers, y)
        now = wrong.astype(np.int64) + (wrong & ~answers.flagged)
        better = now > reached
        best[better], reached[better] = rows[better], now[better]


def _lead(logits: Tensor, label: Tensor, aim: Tensor | None) -> Tensor:
    """Give the lead (n,) of the true label over the label ``aim``, or over any other label."""
    others = logits.scatter(1, label[:, None], -torch.inf)
    return logits.gather(1, label[:, None])[:, 0] - (
        others.amax(1) if aim is None else others.gather(1, aim[:, None])[:, 0]
    )


def _gradient(values: Tensor, points: Tensor, *, keep: bool) -> Tensor:
    return torch.autograd.grad(values.sum(), points, retain_graph=keep)[0].nan_to_num(0.0, 0.0, 0.0)


def _without(gradient: Tensor, other: Tensor) -> Tensor:
    """Leave out the part of a gradient (n, w) along another one."""
    along = (gradient * other).sum(1, keepdim=True) / other.square().sum(1, keepdim=True).clamp_min(TINY)
    return gradient - along * other
