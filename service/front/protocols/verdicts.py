"""The part of the guards' verdicts that an answer shows: each row's action, and the guards that caused the action."""

from collections.abc import Sequence

import numpy as np

from guards.actions import Action
from service.messages.answer import Answer
from service.messages.served_model import ServedModel

__all__ = ["WORDS", "shown_action", "shown_actions", "verdicts"]

WORDS = tuple(action.label for action in Action)
"""The name of each action, by the action's number."""
FLAG = int(Action.FLAG)


def shown_action(action: int, reasons: Sequence[str]) -> int:
    """Return the action that an answer shows: a flag that no visible guard explains is shown as `allow`."""
    return int(Action.ALLOW) if action == Action.FLAG and not reasons else action


def shown_actions(answer: Answer, served: ServedModel) -> list[int]:
    """Return each row's shown action. Only a flag needs the reasons, which cost more than the actions."""
    actions: list[int] = answer.action.tolist()
    return verdicts(answer, served)[0] if FLAG in actions else actions


def verdicts(answer: Answer, served: ServedModel) -> tuple[list[int], list[list[str]]]:
    """Return each row's shown action and reasons. Reasons name only visible guards; in shadow mode there are none."""
    visible = () if served.shadow else served.visible_guards
    actions: list[int] = answer.action.tolist()
    flagged = answer.flagged.tolist()
    crashed = np.isnan(answer.p_value).tolist() if any(guard.acts_on_error for _, guard in visible) else flagged
    reasons = [
        [guard.name for at, guard in visible if flags[at] or (guard.acts_on_error and crashes[at])]
        for flags, crashes in zip(flagged, crashed, strict=True)
    ]
    return [shown_action(*said) for said in zip(actions, reasons, strict=True)], reasons
