"""From findings to a verdict: numpy on the CPU and torch on a device give the same bits."""

import math

import pytest
import torch
from torch import Tensor

from guards import Action, Calibration, Finding
from guards.calibration.decision_rule import DecisionRule
from guards.types import Verdict

ROWS, CLEAN = 40, 199
ODD = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0])


def rule(
    guards: int = 3, *, shadow: bool = False, scores: Tensor | None = None, limits: tuple[float, ...] = ()
) -> DecisionRule:
    if scores is None:
        scores = torch.randn((guards, CLEAN), generator=torch.Generator().manual_seed(1))
        scores[:1] = scores[:1].round(decimals=1)  # with ties
    return DecisionRule(
        [f"guard{guard}" for guard in range(guards)],
        calibration=Calibration.from_scores(scores) if guards else None,
        max_ranks=[20, 0, 60][:guards],
        actions=[Action.FLAG, Action.ABSTAIN, Action.REJECT][:guards],
        on_error=[Action.ALLOW, Action.REJECT, Action.FLAG][:guards],
        shadow=shadow,
        device=torch.device("cpu"),
        limits=limits,
    )


def findings(guards: int = 3, *, violated: bool = False, crashed: bool = False) -> list[Finding]:
    generator = torch.Generator().manual_seed(2)
    found = []
    for guard in range(guards):
        score = torch.randn(ROWS, generator=generator)
        score[: len(ODD)] = ODD
        mark = torch.rand(ROWS, generator=generator) < 0.3
        found.append(
            Finding(
                score,
                violated=mark if violated and guard != 1 else None,
                causes=mark[:, None] if guard == 2 else None,
                crashed=~mark if crashed and guard == 1 else None,
            )
        )
    return found


def logits() -> Tensor:
    made = torch.randn((ROWS, 3), generator=torch.Generator().manual_seed(3))
    made[7, 1], made[8, 0], made[9, 2] = math.nan, math.inf, -math.inf
    return made


def both(decide: DecisionRule, found: list[Finding], output: Tensor) -> tuple[Verdict, Verdict]:
    """Judge with numpy, and with torch as on a GPU."""
    with torch.inference_mode():
        on_host = decide(found, output)
    return on_host, decide(found, output)


def require_same(one: Verdict, other: Verdict) -> None:
    for name in ("score", "p_value", "flagged", "violated", "action"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype
            assert a.shape == b.shape
            assert torch.equal(a.isnan(), b.isnan())
            assert torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))
    assert one.guards == other.guards
    assert one.causes.keys() == other.causes.keys()


@pytest.mark.parametrize("shadow", [False, True])
@pytest.mark.parametrize("crashed", [False, True])
@pytest.mark.parametrize("violated", [False, True])
def test_numpy_and_torch_decide_alike(*, violated: bool, crashed: bool, shadow: bool) -> None:
    """Ranks, p-values, flags and actions are the same bits on both ways, with odd scores, violations and crashes."""
    verdicts = both(rule(shadow=shadow), findings(violated=violated, crashed=crashed), logits())
    require_same(*verdicts)
    assert (verdicts[0].action > 0).any()


@pytest.mark.parametrize("guards", [0, 1])
def test_few_guards_are_judged_alike(guards: int) -> None:
    """Without a guard, or with one, both ways give arrays of the same shapes and types."""
    require_same(*both(rule(guards), findings(guards), logits()))


def test_a_score_limit_flags_what_is_above_it() -> None:
    """A guard with a limit flags rows whose score is above the limit or NaN, and the flag is no alarm of the budget."""
    limits = (math.inf, 0.5, math.inf)
    on_host, on_device = both(rule(limits=limits), findings(), logits())
    require_same(on_host, on_device)
    score = findings()[1].score
    assert torch.equal(on_host.flagged[1], (score > 0.5) | score.isnan())
    without = both(rule(), findings(), logits())[0]
    assert not without.flagged[1].any()
    assert torch.equal(on_host.flagged[[0, 2]], without.flagged[[0, 2]])
    assert on_host.on_purpose == on_device.on_purpose == (1,)
    assert torch.equal(on_host.alarmed, without.flagged.any(0))
    assert not torch.equal(on_host.flagged.any(0), on_host.alarmed)


def test_infinite_calibration_scores_tie_with_nan() -> None:
    """A score that is NaN ranks with the infinite scores among the calibration rows, and not above them."""
    scores = torch.randn((3, CLEAN), generator=torch.Generator().manual_seed(4))
    scores[:, :5], scores[:, 5:8] = math.inf, math.nan
    on_host, on_device = both(rule(scores=scores), findings(), logits())
    require_same(on_host, on_device)
    assert (on_host.p_value[:, 0] == 9 / (CLEAN + 1)).all()


def test_logits_that_are_not_finite_are_no_answer_in_shadow_either() -> None:
    """In shadow every row is allowed but those whose logits are not finite, which are abstained from."""
    on_host, _ = both(rule(shadow=True), findings(), logits())
    assert on_host.action[7:10].tolist() == [int(Action.ABSTAIN)] * 3
    assert on_host.action.sum() == 3 * int(Action.ABSTAIN)
