"""The warnings that end a fit: calibration rows beyond bounds, guards that cannot flag, small strata, and monitors."""

from torch import Tensor

from guards.bundle.bundle import Bundle
from guards.bundle.false_alarms import FalseAlarms, GuardReport
from guards.calibration.prediction_sets import Predictor
from guards.config.heldout_rows import guard_without_turn
from guards.memory.staircase import brier_scores
from guards.model.views_cost import views_cost
from guards.notices import Notices

__all__ = ["fit_notices"]


def fit_notices(
    bundle: Bundle,
    predictor: Predictor,
    reports: tuple[GuardReport, ...],
    violations: FalseAlarms,
    *,
    probabilities: Tensor | None,
    labels: Tensor | None,
    rows: Tensor,
) -> Notices:
    """Collect warnings of rows that break a bound, of guards that cannot flag, of small strata, and of the monitors.

    ``probabilities`` (n, k) and ``labels`` (n,) are of the calibration rows. The cost of views is measured on ``rows``
    (m, ...), some of these rows.
    """
    config, notices = bundle.config, Notices()
    if violations.flagged:
        notices.warn(
            f"{violations.flagged} of {violations.rows} calibration rows break a declared bound or a rule; "
            "they are flagged whatever the budget says, and left out of the calibration"
        )
    for index, report in enumerate(reports):
        if report.threshold == 0 and report.abstention is None:
            alike = (
                f"guards.{index}: {report.name} cannot flag by its p-value: too many calibration rows are alike to it"
            )
            few = guard_without_turn(config, index, bundle.scores.shape[1], labelled=labels is not None)
            notices.warn(few or alike)
        if report.abstention is not None and report.abstention.answered == report.abstention.rows:
            notices.warn(
                f"guards.{index}: {report.name} abstains on no row: the model keeps target_error "
                f"{report.abstention.target:g} on all rows; take a smaller target_error, or leave the guard out"
            )
    _tell_of_blur(bundle, probabilities, labels, notices)
    for monitor in bundle.monitors:
        for notice in monitor.notices:
            notices.warn(notice)
    if predictor.notice is not None:
        notices.warn(predictor.notice)
    blind = [spec.name for spec, part in zip(config.guards, bundle.detectors, strict=True) if part.reads_early]
    if blind and bundle.model.early is None:
        notices.note(
            f"guards: {', '.join(blind)} judges without early features, because the model gives none: "
            "noise and inversion may hide from the last features"
        )
    _tell_of_views(bundle, rows, notices)
    if not config.guards and not config.memory_guards:
        notices.warn("no guards are configured: every row will be allowed")
    return notices


def _tell_of_blur(bundle: Bundle, probabilities: Tensor | None, labels: Tensor | None, notices: Notices) -> None:
    """Say what the coarse probabilities of clients under evidence cost, if a guard blurs."""
    blurring = [guard.name for guard in bundle.memory_guards if guard.params.on_evidence == "blur"]
    if blurring and probabilities is not None and labels is not None:
        exact, coarse = brier_scores(probabilities.cpu(), labels.cpu())
        notices.note(
            f"{', '.join(blurring)}: while the evidence against a client stands, its probabilities are coarse: their "
            f"Brier score is {coarse:.4f} on calibration rows, of the exact ones {exact:.4f} (0 is best); labels stay"
        )


def _tell_of_views(bundle: Bundle, rows: Tensor, notices: Notices) -> None:
    """Say how much longer the model takes because a guard reads views."""
    if bundle.model.views is None:
        return
    guards = zip(bundle.config.guards, bundle.detectors, strict=True)
    name = next(spec.name for spec, detector in guards if detector.reads_views)
    notices.note(
        f"guards: {name} runs the model on {bundle.model.rows_each - 1} more views of each row: a batch of {len(rows)} "
        f"rows takes the model {views_cost(bundle.model, rows):.1f} times as long as without"
    )
