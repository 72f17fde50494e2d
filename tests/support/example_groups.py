"""Makes groups monitors of a made-up attribute, and records of answered rows for them."""

from typing import Any

import numpy as np
import numpy.typing as npt

from guards.input.schema import InputSchema
from guards.monitors.answered_rows import Records
from guards.monitors.base import Context, Statistic
from guards.monitors.groups.group_counts import GroupCounts
from guards.monitors.groups.monitor import Groups
from guards.monitors.groups.params import GroupsParams

LEVELS = ("a", "b")


def monitor(levels: tuple[str, ...] = LEVELS, classes: tuple[str, ...] = ("no", "yes"), **params: Any) -> Groups:
    """Make a monitor named ``sex`` of the attribute ``sex``, which requests give."""
    if classes and len(classes) == 2:
        params.setdefault("positive", classes[1])
    document = {"name": "sex", "attribute": "sex", "source": {"request": "sex"}, "levels": levels, **params}
    context = Context(InputSchema(kind="tensor", shape=(1,)), classes, ("ood",))
    return Groups(GroupsParams.model_validate(document), context)


def records(group: Any, predicted: Any, actual: Any = None, **more: Any) -> Records:
    """Make answered rows, allowed and with full confidence unless ``more`` says otherwise."""
    group = np.asarray(group, np.int64)
    given: dict[str, Any] = {"action": np.zeros(len(group), np.int64), "confidence": np.ones(len(group)), **more}
    truth = None if actual is None else np.asarray(actual)
    return Records(predicted=np.asarray(predicted), groups={"sex": group}, actual=truth, **given)


def feed(watched: Groups, group: Any, predicted: Any, actual: Any, **more: Any) -> None:
    """Count answered rows in the monitor together with their labels."""
    watched.join(records(group, predicted, **{k: v for k, v in more.items() if k != "weight"}))
    watched.join(records(group, predicted, actual, **more))


def group_counts(watched: Groups) -> GroupCounts:
    """Give a view of the monitor's counts by group."""
    return watched.group_counts_of(watched.counts)


def found(watched: Groups, name: str, **labels: str) -> Statistic:
    """Give the only statistic that has this name and these labels."""
    (one,) = [s for s in watched.report() if s.name == name and labels.items() <= dict(s.labels).items()]
    return one


def draws(rates: dict[int, float], n: int, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Draw n rows of each group, positive at the group's rate, in a random order."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(list(rates), n))
    return group, (rng.random(len(group)) < np.array([rates[g] for g in group])).astype(np.int64)
