"""Groups monitors of made-up attributes, and rows of them as records."""

from typing import Any

import numpy as np
import numpy.typing as npt

from guards.groups.tables import Tables
from guards.monitor import Context, Statistic
from guards.monitors.groups import Groups, GroupsParams
from guards.records import Records
from guards.schema import InputSchema

LEVELS = ("a", "b")


def monitor(levels: tuple[str, ...] = LEVELS, classes: tuple[str, ...] = ("no", "yes"), **params: Any) -> Groups:
    """Make a monitor of the attribute ``sex``, called ``sex``, which comes with the request."""
    if classes and len(classes) == 2:
        params.setdefault("positive", classes[1])
    document = {"name": "sex", "attribute": "sex", "source": {"request": "sex"}, "levels": levels, **params}
    context = Context(InputSchema(kind="tensor", shape=(1,)), classes, ("ood",))
    return Groups(GroupsParams.model_validate(document), context)


def records(group: Any, predicted: Any, actual: Any = None, **more: Any) -> Records:
    """Make answered rows, allowed and with full confidence unless told otherwise."""
    group = np.asarray(group, np.int64)
    given: dict[str, Any] = {"action": np.zeros(len(group), np.int64), "confidence": np.ones(len(group)), **more}
    truth = None if actual is None else np.asarray(actual)
    return Records(predicted=np.asarray(predicted), groups={"sex": group}, actual=truth, **given)


def feed(watched: Groups, group: Any, predicted: Any, actual: Any, **more: Any) -> None:
    """Answer rows, and give their labels at once."""
    watched.join(records(group, predicted, **{k: v for k, v in more.items() if k != "weight"}))
    watched.join(records(group, predicted, actual, **more))


def tables(watched: Groups) -> Tables:
    """See the monitor's counts as tables."""
    return watched.tables_of(watched.counts)


def found(watched: Groups, name: str, **labels: str) -> Statistic:
    """Give the one statistic of that name with those labels."""
    (one,) = [s for s in watched.report() if s.name == name and labels.items() <= dict(s.labels).items()]
    return one


def draws(rates: dict[int, float], n: int, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Draw n rows of each group, positive at its rate, in a random order."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(list(rates), n))
    return group, (rng.random(len(group)) < np.array([rates[g] for g in group])).astype(np.int64)
