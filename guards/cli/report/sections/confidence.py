"""The section about confidence: do probabilities mean what they say, and do sets and intervals cover?"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from guards.cli.report.charts import bars, estimates, residuals
from guards.cli.report.charts import reliability as draw_reliability
from guards.cli.report.measures.promises import contradicts_coverage
from guards.cli.report.measures.reliability import Reliability, reliability
from guards.cli.report.parts import Parts
from guards.cli.report.sections.covered_kinds import covered_kinds
from guards.cli.report.sections.section import Block, Finding, Grid, Remark, Section, chart
from guards.cli.report.words import between, estimate_of, number, percent, share_words
from guards.statistics.proportions import Proportion, proportion

__all__ = ["confidence_section"]

Floats = npt.NDArray[np.float64]
DRAWN_POINTS, SHOWN, LARGE_SET = 600, 20, 6
FEWEST = 30
SURE = 0.05
"""A model whose confidence is so much above its accuracy misleads whoever acts on its probabilities."""


def confidence_section(parts: Parts, *, seed: int) -> Section:
    """Measure calibration and coverage on the clean file, or else on the calibration rows."""
    title = "Confidence and coverage"
    part = parts.fresh
    if part.rows.y is None:
        return Section(
            "confidence",
            title,
            (Finding("look", f"The {part.name} rows have no labels, so that calibration and coverage are unknown."),),
            (),
        )
    prediction = part.judged.prediction
    findings: list[Finding] = []
    blocks: list[Block] = []
    if prediction.probabilities is not None and prediction.label is not None:
        sure = prediction.probabilities.amax(1).double().cpu().numpy()
        measured = reliability(sure, (prediction.label.cpu() == part.rows.y).numpy(), seed=seed)
        findings.append(_calibration_finding(measured, part.name))
        blocks += _reliability_blocks(measured, sure)
    covered = _covered(parts)
    if covered is not None:
        share = proportion(int(covered.sum()), len(covered))
        findings.append(_coverage_finding(parts, share))
        blocks += _coverage_blocks(parts, covered, findings)
    if prediction.value is not None:
        findings.insert(0, _bias_finding(parts))
        blocks = [*_residual_blocks(parts), *blocks]
    return Section("confidence", title, tuple(findings), tuple(blocks))


def _calibration_finding(found: Reliability, name: str) -> Finding:
    low, high = found.by_chance
    size = (
        f"On {name} rows confidence and accuracy differ by {percent(found.error)} on average (ECE "
        f"{percent(found.error)} {between(found.interval, share=True)})"
    )
    if found.error > high:
        too = f"too {'sure' if found.excess > 0 else 'unsure'} by {abs(found.excess) * 100:.1f} points on average"
        return Finding(
            "act" if found.excess > SURE else "look",
            f"{size}; chance alone gives a calibrated model at most {percent(high)}. The model is {too}.",
        )
    return Finding(
        "good",
        f"{size}, as chance alone gives a calibrated model ({percent(low)} to {percent(high)}): "
        "probabilities mean what they say.",
    )


def _reliability_blocks(found: Reliability, sure: Floats) -> Iterator[Block]:
    figure = draw_reliability(found.confidence, [estimate_of("", each) for each in found.accuracy], sure)
    yield chart(
        "reliability",
        "Reliability diagram",
        "Points on the dashed line are calibrated; below the line the model is too sure. The "
        "histogram counts the rows.",
        figure,
    )
    lines = tuple(
        (percent(sure), f"{each.n:,}", percent(each.value), between(each.interval, share=True))
        for sure, each in zip(found.confidence.tolist(), found.accuracy, strict=True)
    )
    yield Grid(
        "Confidence and accuracy in bins of as many rows", ("mean confidence", "rows", "right", "95 % interval"), lines
    )


def _covered(parts: Parts) -> torch.Tensor | None:
    """Tell which rows (n,) have their label in the set or interval; None if there are no sets or intervals."""
    part = parts.fresh
    assert part.rows.y is not None  # noqa: S101
    prediction = part.judged.prediction
    if prediction.members is not None:
        return prediction.members.cpu().gather(1, part.rows.y.long()[:, None])[:, 0]
    if prediction.interval is not None:
        low, high = prediction.interval.cpu().unbind(1)
        return (low <= part.rows.y) & (part.rows.y <= high)
    return None


def _coverage_finding(parts: Parts, share: Proportion) -> Finding:
    promised, what = parts.bundle.config.coverage, "Prediction sets" if parts.bundle.classes else "Intervals"
    if parts.clean is None:
        return Finding(
            "good",
            f"{what} hold {percent(share.value)} of the calibration rows' labels, {percent(promised)} by construction: "
            "the same rows set their size. Rows given as --clean would test the promise.",
        )
    said = f"{what} hold {share_words(share, 1)} of the clean rows' labels"
    calibration_rows = len(parts.calibration.rows)
    if contradicts_coverage(share.hits, share.n, coverage=promised, calibration_rows=calibration_rows):
        return Finding("act", f"{said}, fewer than chance explains if {percent(promised)} are promised.")
    if share.low > promised + 0.05:
        return Finding(
            "look", f"{said}, far more than the promised {percent(promised)}: they are larger than they need to be."
        )
    return Finding("good", f"{said}; promised are {percent(promised)}.")


def _coverage_blocks(parts: Parts, covered: torch.Tensor, findings: list[Finding]) -> Iterator[Block]:
    """Show the coverage of each kind of row, and tell of kinds that are covered too seldom."""
    promised, kinds = parts.bundle.config.coverage, covered_kinds(parts)
    of, members = kinds.of, kinds.codes
    found = {
        name: proportion(int(covered[members == place].sum()), int((members == place).sum()))
        for place, name in enumerate(kinds.names)
        if bool((members == place).any())
    }
    level = 0.05 / len(found)  # so that one of many kinds is not found by chance
    broken = [
        name
        for name, rows in (kinds.promised if parts.clean is not None else {}).items()
        if name in found
        and contradicts_coverage(
            found[name].hits, found[name].n, coverage=promised, calibration_rows=rows, level=level / 2
        )
    ]
    low = [
        name
        for name, each in found.items()
        if name not in kinds.promised
        and each.n >= FEWEST
        and proportion(each.hits, each.n, level=1 - level).high < promised
    ]
    if broken:
        worst = min(broken, key=lambda name: found[name].value)
        said = f"Of {of} {worst} only {share_words(found[worst], 1)} are held, fewer than chance explains"
        findings.append(Finding("act", f"{said} if {percent(promised)} are promised for each {kinds.each}."))
    elif low:
        worst = min(low, key=lambda name: found[name].value)
        said = f"Coverage is not equal: of {of} {worst} only {share_words(found[worst], 1)} are held"
        findings.append(Finding("look", f"{said}. The promise of {percent(promised)} is for all rows together."))
    shown = dict(list(found.items())[:SHOWN])
    figure = estimates(
        [estimate_of(name, each) for name, each in shown.items()],
        label="labels held",
        percent=True,
        marks={"promised": promised},
    )
    yield chart(
        "coverage",
        f"Coverage by {of}",
        f"The promise holds for each {kinds.each}."
        if kinds.promised
        else "The promise holds for all rows together, and not for every kind of row.",
        figure,
    )
    lines = tuple(
        (name, f"{each.n:,}", percent(each.value), between(each.interval, share=True)) for name, each in shown.items()
    )
    yield Grid(f"Coverage by {of}", (of, "rows", "held", "95 % interval"), lines)
    sets = parts.fresh.judged.prediction.members
    if sets is not None:
        yield from _set_sizes(sets.sum(1).cpu().numpy())


def _set_sizes(sizes: npt.NDArray[np.int64]) -> Iterator[Block]:
    cut = np.minimum(sizes, LARGE_SET)
    counts = np.bincount(cut, minlength=2)
    names = [
        f"{LARGE_SET} or more" if size == LARGE_SET else f"{size} label{'' if size == 1 else 's'}"
        for size in range(len(counts))
    ]
    shares = dict(zip(names, (counts / len(sizes)).tolist(), strict=True))
    yield chart(
        "sets",
        "Size of prediction sets",
        "An empty set says that the row is unlike every label at this coverage.",
        bars(shares, label="share of the rows", percent=True),
    )


def _errors(parts: Parts) -> tuple[Floats, Floats]:
    part = parts.fresh
    assert part.y is not None  # noqa: S101
    assert part.judged.prediction.value is not None  # noqa: S101 - a regression has values
    value = part.judged.prediction.value.double().cpu().numpy()
    return value, part.y - value


def _bias_finding(parts: Parts) -> Finding:
    _, error = _errors(parts)
    mean, reach = float(error.mean()), 1.96 * float(error.std()) / len(error) ** 0.5
    said = f"On {parts.fresh.name} rows the values are off by {number(float(np.abs(error).mean()))} on average"
    if abs(mean) > reach:
        direction = "too low" if mean > 0 else "too high"
        return Finding(
            "look",
            f"{said}, and {direction} by {number(abs(mean))} [{number(abs(mean) - reach)}, "
            f"{number(abs(mean) + reach)}].",
        )
    return Finding("good", f"{said}, as often too high as too low (mean error {number(mean)} ± {number(reach)}).")


def _residual_blocks(parts: Parts) -> Iterator[Block]:
    value, error = _errors(parts)
    interval = parts.fresh.judged.prediction.interval if parts.fresh.result is not None else None
    radius = None if interval is None else float((interval[:, 1] - interval[:, 0]).median() / 2)
    kept = np.random.default_rng(0).permutation(len(value))[:DRAWN_POINTS]
    more = f" {DRAWN_POINTS} random rows of {len(value):,}." if len(value) > DRAWN_POINTS else ""
    figure = residuals(value[kept], error[kept], radius)
    yield chart(
        "residuals",
        "Errors over predicted values",
        f"A slope or a funnel is structure that the model missed.{more}",
        figure,
    )
    worst = np.argsort(-np.abs(error))[: SHOWN // 2]
    part = parts.fresh
    assert part.y is not None  # noqa: S101
    lines = tuple(
        (f"{int(part.place[row])}", number(float(part.y[row])), number(float(value[row])), number(float(error[row])))
        for row in worst
    )
    yield Grid(
        f"The largest errors (row numbers of {part.path.name}, from 0)", ("row", "label", "predicted", "error"), lines
    )
    yield Remark(
        "A person should look at the rows with the largest errors: the label may be wrong, or a "
        "unit, or the model does not know such rows."
    )
