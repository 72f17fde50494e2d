"""Figures as a reader of the report sees them."""

from guards.bundle.model_quality.quality import Quality
from guards.cli.report.charts import Estimate
from guards.cli.report.measures.differences import Difference
from guards.statistics.proportions import Proportion

__all__ = ["between", "estimate_of", "number", "percent", "points", "quality_words", "share_words", "very"]

SPACE = "\u00a0"


def percent(value: float, decimals: int = 1) -> str:
    """Write a share in percent.

    >>> percent(0.0123).replace(SPACE, " "), percent(0.00012).replace(SPACE, " "), percent(0.0).replace(SPACE, " ")
    ('1.2 %', '0.012 %', '0 %')
    """
    if value == 0:
        return f"0{SPACE}%"
    if abs(value) < 10 ** -(decimals + 2):
        return f"{value * 100:.2g}{SPACE}%"
    return f"{value:.{decimals}%}".replace("%", f"{SPACE}%")


def number(value: float) -> str:
    """Write a number: whole numbers with separators, others with four digits."""
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"  # noqa: PLR2004


def between(interval: tuple[float, float] | None, *, share: bool) -> str:
    """Write an interval, of shares in percent; empty if there is none."""
    if interval is None:
        return ""
    low, high = interval
    return f"[{low:.1%}, {high:.1%}]".replace("%", f"{SPACE}%") if share else f"[{low:.4g}, {high:.4g}]"


def points(found: Difference, *, lost: bool = False) -> str:
    """Write a difference between shares in percentage points, with its interval; ``lost`` turns its sign.

    >>> points(Difference(0.062, 0.051, 0.073)), points(Difference(-0.02, -0.03, -0.0005), lost=True)
    ('6.2 points [5.1, 7.3]', '2.0 points [0.05, 3.0]')
    """
    sign = -100 if lost else 100
    low, high = sorted((sign * found.low, sign * found.high))
    return f"{_one_digit(sign * found.value)} points [{_one_digit(low)}, {_one_digit(high)}]"


def _one_digit(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 0.1 or not value else f"{value:.1g}"  # noqa: PLR2004


def quality_words(found: Quality) -> str:
    """Say how good a model is, such as `right on 97.2 %`."""
    if found.measure == "accuracy":
        return f"right on {percent(found.value)}"
    return f"explains {percent(max(found.value, 0.0))} of the variance (R2 {found.value:.3f})"


def share_words(share: Proportion, decimals: int = 2) -> str:
    """Write a share with its interval and counts."""
    low, high = percent(share.low, decimals), percent(share.high, decimals)
    return f"{percent(share.value, decimals)} [{low}, {high}]"


def estimate_of(name: str, share: Proportion) -> Estimate:
    """Turn a share into a figure to draw."""
    return Estimate(name, share.value, share.interval)


def very(count: int, of: int) -> str:
    """Write a count with its share.

    >>> very(5, 100).replace(SPACE, " ")
    '5 of 100 (5.0 %)'
    """
    return f"{count:,} of {of:,} ({percent(count / of if of else 0.0)})"
