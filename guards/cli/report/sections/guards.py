"""The section about the guards: how often they flag clean and suspect rows, and what each cannot see."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.stats import ks_2samp
from sklearn.metrics import roc_curve

from guards.calibration.budget import largest_supported_rank
from guards.cli.detection import Detection
from guards.cli.evaluate import detections
from guards.cli.report.charts import roc, uniform
from guards.cli.report.measures.cross_fitting import p_values_across
from guards.cli.report.measures.promises import contradicts_rank
from guards.cli.report.parts import Parts, calibration_scores
from guards.cli.report.sections.abstention import abstention_findings
from guards.cli.report.sections.section import Block, Finding, Grid, Remark, Section, chart
from guards.cli.report.words import between, percent
from guards.config.sections import GuardConfig
from guards.types import Result

__all__ = ["blind_spots", "guards_section"]

Floats = npt.NDArray[np.float64]
LEVEL, HALF = 0.01, 0.5
OF_ALL = (
    "A flag says that a row is unlike the reference. It is no proof, and no defence against somebody who knows the "
    "guards. The false-alarm budget holds for rows that are drawn like the calibration rows."
)
LARGEST = float(np.finfo(np.float64).max)


def guards_section(parts: Parts, *, seed: int) -> Section:
    """Measure the guards on the clean and the suspect file; without them, compare calibration rows with one another."""
    config = parts.bundle.config
    with_memory = _with_memory(parts)
    if not config.guards:
        said = "No guard judges a row alone." if with_memory else "No guard is configured: every row is allowed."
        none = Finding("look" if with_memory else "act", said)
        return Section("guards", "The guards", (none,), with_memory)
    findings: list[Finding] = []
    runs = [[part.judged] for part in (parts.fresh, parts.suspect) if part is not None]
    found, any_guard = detections(parts.bundle, runs)
    findings += [_false_alarms(parts, any_guard), _finds(found, any_guard), *abstention_findings(parts)]
    blocks: list[Block] = [_thresholds(parts), *_figures(parts, found, any_guard)]
    if parts.suspect is not None:
        blocks.append(_roc(parts, runs, found))
    p_values = _p_values(parts, seed)
    findings += _shapes(parts)
    blocks += [*_histograms(parts, p_values), *with_memory]
    return Section("guards", "The guards", tuple(findings), tuple(blocks))


def _with_memory(parts: Parts) -> tuple[Grid, ...]:
    """List the guards with memory, which judge no row of a file: a file does not say who asked."""
    if not parts.bundle.memory_guards:
        return ()
    lines = tuple(
        (
            guard.name,
            guard.params.kind,
            guard.params.action,
            guard.params.on_evidence,
            f"{guard.params.average_run_length:,.0f}",
        )
        for guard in parts.bundle.memory_guards
    )
    head = ("guard", "kind", "action", "on evidence", "queries until a false alarm")
    return (
        Grid(
            "Guards with memory, which judge clients by their queries, and no row of these files", head, lines, left=4
        ),
    )


def blind_spots(parts: Parts) -> Section:
    """Say what each guard cannot see, as its author says it."""
    specs = parts.bundle.config.guards
    said = [
        (spec.name, _kind(spec), detector.blind_spots or "The detector's author does not say what it cannot see.")
        for spec, detector in zip(specs, parts.bundle.detectors, strict=True)
    ]
    said += [
        (guard.name, guard.params.kind, guard.blind_spots or "The guard's author does not say what it cannot see.")
        for guard in parts.bundle.memory_guards
    ]
    head = ("guard", "detector", "what it cannot see")
    grid = Grid("What each guard cannot do", head, (*said, ("all together", "", OF_ALL)), left=3)
    sentence = "No guard sees everything: each looks at one side of a row, and this is what each does not see."
    return Section("limits", "What the guards cannot do", (Finding("good", sentence),), (grid,))


def _kind(spec: GuardConfig) -> str:
    return str(spec.detector.model_dump()["kind"])


def _thresholds(parts: Parts) -> Grid:
    config = parts.bundle.config
    total = sum(config.guards[place].share for place in config.budgeted)
    lines = tuple(
        (
            spec.name,
            _kind(spec),
            spec.action,
            percent(spec.share / total)
            if spec.target_error is None
            else f"none: abstains for a target error of {percent(spec.target_error)}",
            f"{threshold:.5f}" if threshold else "never",
        )
        for spec, threshold in zip(config.guards, parts.pipeline.thresholds, strict=True)
    )
    caption = (
        f"Guards under a budget of {percent(config.false_alarm_budget, 2)} ({config.guarantee}), mode {config.mode}"
    )
    return Grid(caption, ("guard", "detector", "action", "share of the budget", "flags at p ≤"), lines, left=3)


def _false_alarms(parts: Parts, any_guard: Detection) -> Finding:
    budget, alarms = parts.bundle.config.false_alarm_budget, any_guard["false_alarm_interval"]
    if not parts.bundle.config.budgeted:
        return Finding("look", "No guard shares the false-alarm budget: all of them abstain on purpose.")
    if parts.clean is None:
        return Finding(
            "look",
            f"Whether the guards keep their budget of {percent(budget, 2)} was not tested on rows that no step has "
            "seen: give such rows as --clean.",
        )
    rows, rate = len(parts.clean.rows), any_guard["false_alarm_rate"] or 0.0
    said = f"All guards together flag {percent(rate, 2)} {_two(alarms)} of {rows:,} clean rows"
    calibration_rows = parts.bundle.scores.shape[1]
    rank = largest_supported_rank(calibration_rows, budget, parts.bundle.config.guarantee)
    if contradicts_rank(round(rate * rows), rows, rank=rank, calibration_rows=calibration_rows):
        return Finding(
            "act",
            f"{said}, more than a budget of {percent(budget, 2)} and chance explain: the clean rows are not like the "
            "calibration rows.",
        )
    return Finding("good", f"{said}; the budget is {percent(budget, 2)}.")


def _finds(found: dict[str, Detection], any_guard: Detection) -> Finding:
    if any_guard["tpr"] is None:
        return Finding(
            "look", "Whether the guards find anything was not measured: give rows that they should find as --suspect."
        )
    best = max(found, key=lambda name: found[name]["tpr"] or 0.0)
    return Finding(
        "look" if any_guard["tpr"] < HALF else "good",
        f"They flag {percent(any_guard['tpr'])} {between(any_guard['tpr_interval'], share=True)} of the suspect rows; "
        f"the guard that finds most alone is {best!r}, with {percent(found[best]['tpr'] or 0.0)}.",
    )


def _figures(parts: Parts, found: dict[str, Detection], any_guard: Detection) -> Iterator[Grid]:
    """List the false alarms if there is a clean file, and what is found if there is a suspect file."""
    head, rows = ["guard"], [*found.items(), ("any of them", any_guard)]
    columns = [[name for name, _ in rows]]
    if parts.clean is not None:
        head.append("false alarms")
        columns.append(
            [f"{percent(d['false_alarm_rate'] or 0.0, 2)} {_two(d['false_alarm_interval'])}" for _, d in rows]
        )
    if parts.suspect is not None:
        head += ["suspects found", "AUROC", "false alarms if 95 % are found"]
        columns.append([f"{percent(d['tpr'] or 0.0)} {between(d['tpr_interval'], share=True)}" for _, d in rows])
        columns.append([_three(d["auroc"], d["auroc_interval"]) for _, d in rows])
        columns.append([_three(d["fpr_at_95_tpr"], d["fpr_at_95_tpr_interval"]) for _, d in rows])
    if len(columns) > 1:
        yield Grid("Clean and suspect rows, with 95 % intervals", tuple(head), tuple(zip(*columns, strict=True)))


def _three(value: float | None, interval: tuple[float, float] | None) -> str:
    low, high = interval or (0.0, 1.0)
    return f"{value or 0.0:.3f} [{low:.3f}, {high:.3f}]"


def _two(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"[{percent(interval[0], 2)}, {percent(interval[1], 2)}]"


def _roc(parts: Parts, runs: list[list[Result]], found: dict[str, Detection]) -> Block:
    lines, points = {}, {}
    for place, spec in enumerate(parts.bundle.config.guards):
        scores = [run[0].verdict.score[place].double().cpu().numpy() for run in runs]
        clean, suspect = (np.nan_to_num(each, nan=LARGEST, posinf=LARGEST) for each in scores)
        truth = np.repeat([0, 1], [len(clean), len(suspect)])
        false_alarms, caught, _ = roc_curve(truth, np.concatenate([clean, suspect]))
        lines[spec.name] = (false_alarms, caught)
        points[spec.name] = (found[spec.name]["false_alarm_rate"] or 0.0, found[spec.name]["tpr"] or 0.0)
    clean_rows = "" if parts.clean is not None else " The false alarms are those of the calibration rows."
    caption = f"The dot is where the guard works now. A guard on the dotted line guesses.{clean_rows}"
    return chart("roc", "Suspects found over false alarms", caption, roc(lines, points))


def _p_values(parts: Parts, seed: int) -> Floats:
    if parts.clean is not None:
        return np.asarray(parts.clean.judged.verdict.p_value.double().cpu().numpy())
    return p_values_across(calibration_scores(parts), seed=seed).numpy()


def _shapes(parts: Parts) -> Iterator[Finding]:
    """Test whether clean rows look stranger than calibration rows, by Kolmogorov and Smirnov's test of two samples."""
    if parts.clean is None:
        return
    sides = [each.double().cpu().numpy() for each in (parts.clean.judged.verdict.score, calibration_scores(parts))]
    clean, calibration = (np.nan_to_num(each, nan=LARGEST, posinf=LARGEST) for each in sides)
    tilted = [
        spec.name
        for spec, ours, theirs in zip(parts.bundle.config.guards, clean, calibration, strict=True)
        if ks_2samp(ours, theirs, alternative="less", method="asymp").pvalue < LEVEL / len(clean)
    ]
    if tilted:
        names = " and ".join(map(repr, tilted))
        yield Finding(
            "look",
            f"The clean rows look stranger to {names} than the calibration rows did: their scores are "
            "higher than chance explains.",
        )
    else:
        yield Finding("good", "To every guard the clean rows look no stranger than the calibration rows did.")


def _histograms(parts: Parts, p_values: Floats) -> Iterator[Block]:
    rows = "clean rows" if parts.clean is not None else "calibration rows, each compared with others"
    for spec, values, threshold in zip(parts.bundle.config.guards, p_values, parts.pipeline.thresholds, strict=True):
        shown = values[~np.isnan(values)]
        title = f"p-values of {spec.name}"
        yield chart(
            f"p-{spec.name}",
            title,
            f"Of {rows}. A peak on the left: more alarms than promised.",
            uniform(shown, threshold),
        )
    yield Remark(
        "A p-value is the share of calibration rows that are at least as strange. For clean rows "
        "p-values are flat, except "
        "that many rows with one score, such as rows without any fault, share a large p-value. "
        + (
            ""
            if parts.clean is not None
            else "Without a clean file the calibration rows stand in, so that a flat histogram is no test."
        )
    )
