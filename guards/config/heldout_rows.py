"""Counts the held-out rows that a config needs: for its budget, for each guard's share of it, and for its coverage."""

from bisect import bisect_left

from guards.calibration.abstention import answered_rows_needed
from guards.calibration.budget import first_turn, rows_needed
from guards.calibration.prediction_sets import coverage_rows
from guards.calibration.temperature import temperature_rows
from guards.config.config import Config

__all__ = [
    "guard_without_turn",
    "heldout_needed",
    "rows_set_aside",
    "sets_rows_aside",
    "too_few_for_measure",
    "too_few_rows",
]

SCALE_ROWS = 20
"""The fewest rows that the scale of a regression's residuals is fitted on."""


def sets_rows_aside(config: Config, *, labelled: bool) -> bool:
    """Return whether some held-out rows are no calibration rows: the temperature, or the scale, is fitted on them."""
    return labelled and (config.model.task == "classification" or config.prediction_sets.method == "normalised")


def rows_set_aside(config: Config, heldout: int, *, labelled: bool) -> int:
    """Count the held-out rows that are no calibration rows."""
    return temperature_rows(heldout) if sets_rows_aside(config, labelled=labelled) else 0


def heldout_needed(calibration: int, *, for_temperature: bool) -> int:
    """Count the held-out rows that are needed so that ``calibration`` rows are left for calibration.

    ``for_temperature`` says that some rows are set aside first, see :func:`sets_rows_aside`.

    >>> heldout_needed(99, for_temperature=True), heldout_needed(99, for_temperature=False)
    (123, 99)
    """
    if not for_temperature:
        return calibration
    most = 2 * calibration + 8  # a fifth at most is set aside
    return bisect_left(range(most), calibration, key=lambda rows: rows - temperature_rows(rows))


def too_few_rows(config: Config, heldout: int, *, labelled: bool) -> list[str]:
    """Say which promises of the config need more held-out rows, and how many rows they need."""
    set_aside, aside = sets_rows_aside(config, labelled=labelled), rows_set_aside(config, heldout, labelled=labelled)
    rows, purpose = heldout - aside, "temperature" if config.model.task == "classification" else "scale of residuals"
    beside = f" ({aside} of {heldout} rows are set aside for the {purpose})" if set_aside else ""
    few = too_few_for_measure(config, aside, labelled=labelled)
    sentences = [] if few is None else [few]
    for_budget = rows_needed(config.false_alarm_budget, config.guarantee)
    if config.budgeted and rows < for_budget:
        sentences.append(
            f"reference.calibration: {rows} calibration rows{beside} cannot support a budget of "
            f"{config.false_alarm_budget:g} with a {config.guarantee} guarantee: give at least "
            f"{heldout_needed(for_budget, for_temperature=set_aside)} rows, or a larger false_alarm_budget"
        )
    sentences += _too_few_to_abstain(config, rows, labelled=labelled)
    if labelled and rows < coverage_rows(config.coverage):
        needed = heldout_needed(coverage_rows(config.coverage), for_temperature=set_aside)
        sentences.append(
            f"reference.calibration: {rows} labelled calibration rows{beside} cannot support a coverage of "
            f"{config.coverage:g}: give at least {needed} rows, or a smaller coverage"
        )
    return sentences


def too_few_for_measure(config: Config, aside: int, *, labelled: bool) -> str | None:
    """Say what the section ``prediction_sets`` lacks, if only ``aside`` rows are set aside, or there are no labels."""
    sets = config.prediction_sets
    if not labelled:
        if sets.by == "none" and sets.method in {None, "least", "absolute"}:
            return None
        return (
            "prediction_sets: the calibration rows have no labels, which prediction sets need: "
            "name their label under reference.label, or leave prediction_sets out"
        )
    needed = {"raps": coverage_rows(config.coverage), "normalised": SCALE_ROWS}.get(sets.method or "", 0)
    if aside >= needed:
        return None
    simpler = "aps" if sets.method == "raps" else "absolute"
    heldout = bisect_left(range(6 * needed), needed, key=temperature_rows)
    return (
        f"prediction_sets.method: {sets.method} is fitted on {needed} rows or more, and only {aside} are set aside: "
        f"give at least {heldout} rows in reference.calibration, or use {simpler}"
    )


def _too_few_to_abstain(config: Config, rows: int, *, labelled: bool) -> list[str]:
    """Say which guards with a `target_error` cannot prove the target, whatever the rows' labels are."""
    sentences = []
    for place, guard in enumerate(config.guards):
        if guard.target_error is None:
            continue
        needed = answered_rows_needed(guard.target_error)
        if not labelled:
            sentences.append(
                f"guards.{place}.target_error: the calibration rows have no labels, without which no row is known to "
                "be wrong: name their label under reference.label, or leave target_error out"
            )
        elif rows < needed:
            sentences.append(
                f"guards.{place}.target_error: {rows} calibration rows cannot prove an error rate of "
                f"{guard.target_error:g}: give at least {heldout_needed(needed, for_temperature=True)} rows in "
                "reference.calibration, or a larger target_error"
            )
    return sentences


def guard_without_turn(config: Config, guard: int, rows: int, *, labelled: bool) -> str | None:
    """Say how many rows a guard's share of the budget needs, if ``rows`` calibration rows are too few for one flag."""
    if guard not in config.budgeted:
        return None
    turn = first_turn([config.guards[place].share for place in config.budgeted], config.budgeted.index(guard))
    needed = rows_needed(config.false_alarm_budget, config.guarantee, turn)
    if rows >= needed:
        return None
    in_all = heldout_needed(needed, for_temperature=sets_rows_aside(config, labelled=labelled))
    return (
        f"guards.{guard}: {config.guards[guard].name} cannot flag by its p-value: its share of the budget needs "
        f"{in_all} rows in reference.calibration, or a larger share"
    )
