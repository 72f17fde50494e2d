"""``guardhouse fit``: fits the bundle of a config, saves the bundle, and prints what was understood and measured."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Grid

from guards.bundle.bundle import Bundle
from guards.bundle.false_alarms import FalseAlarms
from guards.bundle.fit import fit_prepared
from guards.bundle.fit_rows import Fitted
from guards.calibration.abstention import Abstention
from guards.cli.check import progress_bars, understand
from guards.cli.printed_notices import print_notices, refuse_warnings
from guards.cli.understanding.show import show_quality
from guards.cli.understanding.summary import accuracies
from guards.notices import Notices
from guards.statistics.proportions import proportion, with_interval

__all__ = ["run"]


def run(
    config_path: Path,
    out: Path,
    console: Console,
    remarks: Sequence[Callable[[Bundle], str]] = (),
    *,
    as_json: bool = False,
    strict: bool = False,
) -> Fitted:
    """Prepare, fit, save, and print what was understood and what was fitted, for people or as one JSON document.

    ``console`` shows progress, notes and warnings; each of ``remarks`` writes one more sentence about the bundle.
    ``strict`` turns warnings into mistakes: then no bundle is written.

    Raises:
        Mistake: something in the config or a file is wrong.
    """
    notices, report = Notices(), Console(quiet=as_json)
    prepared, summary = understand(config_path, notices, console, report)
    refuse_warnings(notices, console, strict=strict)
    with progress_bars(console) as progress:

        def track(steps: range, stage: str) -> Iterable[int]:
            return progress.track(steps, description=stage)

        fitted = fit_prepared(prepared, notices, track=track)
        refuse_warnings(notices, console, strict=strict)
        saving = progress.add_task("saving", total=1)
        bundle_id = fitted.bundle.save(out, source=config_path.read_text(encoding="utf-8"))
        progress.advance(saving)
    print_notices(notices, console)
    show_quality(fitted.quality, summary["rows"], report)
    _print(fitted, report)
    for remark in remarks:
        report.print(remark(fitted.bundle), highlight=False, markup=False, soft_wrap=True)
    report.print(f"{out}  {bundle_id}", highlight=False, markup=False, soft_wrap=True)
    if as_json:
        document = {
            **summary,
            "accuracy": accuracies(fitted.quality),
            "guards": _guards(fitted),
            "bundle": bundle_id,
            "notes": notices.notes,
            "warnings": notices.warnings,
        }
        sys.stdout.write(json.dumps(document) + "\n")
    return fitted


def _guards(fitted: Fitted) -> dict[str, dict[str, Any]]:
    """Give the closing table as JSON: one entry for each guard by its name, and ``any`` for all guards together."""
    guards = {
        report.name: {
            "share": report.share,
            "threshold": report.threshold,
            **_measured(report.false_alarms),
            **({} if report.abstention is None else {"abstention": _abstention(report.abstention)}),
        }
        for report in fitted.guards
    }
    return guards | {"any": _measured(fitted.any_guard)}


def _measured(alarms: FalseAlarms | None) -> dict[str, Any]:
    if alarms is None:
        return {"false_alarm_rate": None, "false_alarm_interval": None}
    rate = proportion(alarms.flagged, alarms.rows)
    return {"false_alarm_rate": rate.value, "false_alarm_interval": [rate.low, rate.high]}


def _abstention(abstention: Abstention) -> dict[str, Any]:
    return {
        "target_error": abstention.target,
        "largest_score": abstention.limit,
        "answered": abstention.share,
        "error_bound": abstention.bound,
    }


def _print(fitted: Fitted, console: Console) -> None:
    config = fitted.bundle.config
    grid = Grid(
        title=f"{config.name} {config.version}: false-alarm budget {config.false_alarm_budget:.3%}, {config.guarantee}"
    )
    for name in ("guard", "budget", "flags at p <=", "held-out false alarms", "95 % interval"):
        grid.add_column(name, justify="left" if name == "guard" else "right", overflow="fold")
    for report in fitted.guards:
        if report.abstention is not None:
            grid.add_row(report.name, "on purpose", f"{report.threshold:.5f}", "", "")
            continue
        threshold = f"{report.threshold:.5f}" if report.threshold else "never"
        grid.add_row(report.name, f"{report.share:.1%}", threshold, *_rate(report.false_alarms))
    grid.add_row("any", "100.0%" if fitted.guards else "", "", *_rate(fitted.any_guard), end_section=True)
    if fitted.violations.flagged:
        grid.add_row("declared bounds", "apart", "", *_rate(fitted.violations))
    console.print(grid)
    for report in fitted.guards:
        if (proven := report.abstention) is not None:
            console.print(
                f"{report.name} answers {proven.share:.1%} of rows (score at most {proven.limit:.4g}): "
                f"{proven.wrong} of {proven.answered} answered calibration rows are wrong, which is an error rate of "
                f"at most {proven.bound:.2%} with 95 % confidence (target_error {proven.target:g})",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )


def _rate(alarms: FalseAlarms | None) -> tuple[str, str]:
    if alarms is None:
        return "too few rows", ""
    return with_interval(proportion(alarms.flagged, alarms.rows))
