"""Counts the held-out rows that a config needs: for its budget, for each guard's share of it, and for its coverage."""

from bisect import bisect_left

from guards.calibration.budget import first_turn, rows_needed
from guards.calibration.prediction_sets import coverage_rows, temperature_rows
from guards.config.config import Config

__all__ = ["guard_without_turn", "heldout_needed", "too_few_rows"]


def heldout_needed(calibration: int, *, for_temperature: bool) -> int:
    """Count the held-out rows that are needed so that ``calibration`` rows are left for calibration.

    ``for_temperature`` says that the temperature takes its own rows first, as it does if a classification has labels.

    >>> heldout_needed(99, for_temperature=True), heldout_needed(99, for_temperature=False)
    (123, 99)
    """
    if not for_temperature:
        return calibration
    most = 2 * calibration + 8  # a fifth at most is set aside
    return bisect_left(range(most), calibration, key=lambda rows: rows - temperature_rows(rows))


def too_few_rows(config: Config, heldout: int, *, labelled: bool) -> list[str]:
    """Say which promises of the config need more held-out rows, and how many rows they need."""
    set_aside = labelled and config.model.task == "classification"
    rows = heldout - (temperature_rows(heldout) if set_aside else 0)
    beside = f" ({heldout - rows} of {heldout} rows are set aside for the temperature)" if set_aside else ""
    sentences = []
    for_budget = rows_needed(config.false_alarm_budget, config.guarantee)
    if config.guards and rows < for_budget:
        sentences.append(
            f"reference.calibration: {rows} calibration rows{beside} cannot support a budget of "
            f"{config.false_alarm_budget:g} with a {config.guarantee} guarantee: give at least "
            f"{heldout_needed(for_budget, for_temperature=set_aside)} rows, or a larger false_alarm_budget"
        )
    if labelled and rows < coverage_rows(config.coverage):
        needed = heldout_needed(coverage_rows(config.coverage), for_temperature=set_aside)
        sentences.append(
            f"reference.calibration: {rows} labelled calibration rows{beside} cannot support a coverage of "
            f"{config.coverage:g}: give at least {needed} rows, or a smaller coverage"
        )
    return sentences


def guard_without_turn(config: Config, guard: int, rows: int, *, labelled: bool) -> str | None:
    """Say how many rows a guard's share of the budget needs, if ``rows`` calibration rows are too few for one flag."""
    turn = first_turn([spec.share for spec in config.guards], guard)
    needed = rows_needed(config.false_alarm_budget, config.guarantee, turn)
    if rows >= needed:
        return None
    in_all = heldout_needed(needed, for_temperature=labelled and config.model.task == "classification")
    return (
        f"guards.{guard}: {config.guards[guard].name} cannot flag by its p-value: its share of the budget needs "
        f"{in_all} rows in reference.calibration, or a larger share"
    )
