"""The proofs over many calibration sets: the error rate of answered rows, and the rate of false alarms."""

import torch
from scipy.stats import betabinom, kstest

from benchmarks.confidence.pools import Pool
from guards.calibration.abstention import Abstention, NoThresholdError
from guards.calibration.budget import Budget, Guarantee, largest_supported_rank

__all__ = ["abstention_figures", "budget_figures"]

CALIBRATION, BUDGET = 2000, 0.02


def abstention_figures(pool: Pool, *, splits: int) -> dict[str, float]:
    """Choose thresholds on rows drawn from a pool; the pool itself says each threshold's true error rate.

    Rows are drawn with replacement, so that the pool is the population. The target is half the model's error rate.
    """
    score, wrong = pool.scores[1], pool.logits.argmax(1) != pool.y
    target = round(float(wrong.double().mean()) / 2, 3)
    kept = answered = error = refused = 0.0
    for seed in range(splits):
        drawn = torch.randint(len(wrong), (CALIBRATION * 5 // 4,), generator=torch.Generator().manual_seed(seed))
        aside, calibration = drawn[CALIBRATION:], drawn[:CALIBRATION]
        try:
            found = Abstention.choose(target, (score[aside], wrong[aside]), (score[calibration], wrong[calibration]))
        except NoThresholdError:
            refused += 1
            continue
        passed = score <= found.limit
        rate = float(wrong[passed].double().mean())
        kept, answered, error = kept + (rate <= target), answered + float(passed.double().mean()), error + rate
    proven = max(splits - refused, 1)
    best = wrong[score.argsort()].double().cumsum(0) / torch.arange(1, len(wrong) + 1)
    return {
        "error of the model": float(wrong.double().mean()),
        "target_error": target,
        "kept": (kept + refused) / splits,
        "refused": refused / splits,
        "answered": answered / proven,
        "error of answered": error / proven,
        "answered by an oracle": float((best <= target).nonzero()[-1]) / len(wrong) if (best <= target).any() else 0.0,
    }


def budget_figures(pool: Pool, guarantee: Guarantee, *, splits: int) -> dict[str, float]:
    """Calibrate two guards jointly, and count the other rows of the pool that they flag.

    ``law`` is the p-value of a Kolmogorov-Smirnov test of the counts against the beta-binomial law.
    """
    n = min(CALIBRATION, len(pool.y) // 2)
    rates, uniform = [], []
    for seed in range(splits):
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(pool.y), generator=generator)
        scores, fresh = pool.scores[:, order[:n]], pool.scores[:, order[n:]]
        ranks = Budget(scores=scores, shares=[1.0, 1.0], budget=BUDGET, guarantee=guarantee).ranks
        limits = torch.stack(
            [guard.sort(descending=True).values[rank - 1] for guard, rank in zip(scores, ranks, strict=True)]
        )
        flagged = int((fresh >= limits[:, None]).any(0).sum()) if min(ranks) > 0 else 0
        rates.append(flagged / fresh.shape[1])
        k = largest_supported_rank(n, BUDGET, guarantee)
        law = betabinom(fresh.shape[1], k, n + 1 - k)
        uniform.append(law.cdf(flagged - 1) + float(torch.rand((), generator=generator)) * law.pmf(flagged))
    realised = torch.tensor(rates, dtype=torch.float64)
    return {
        "calibration rows": n,
        "budget": BUDGET,
        "mean rate": float(realised.mean()),
        "at or under the budget": float((realised <= BUDGET).double().mean()),
        "law": float(kstest(uniform, "uniform").pvalue),
    }
