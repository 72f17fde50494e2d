"""Streams that a drift monitor leaves out."""

import re
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from alibi_here import LACKING

from guards.config.config import differences, parse
from guards.monitors.base import Monitor
from guards.monitors.bins import Bins
from guards.monitors.sequential import Sequential
from guards.types import Batch, Mistake

KINDS = ("bins", "sequential")


def fitted(*monitors: dict[str, Any]) -> tuple[list[Monitor], Any]:
    bundle = tiny_models.fitted("tabular", monitors=list(monitors)).bundle
    return [m for m in bundle.monitors if isinstance(m, Bins | Sequential)], bundle


def streams(monitor: Monitor) -> set[str]:
    return {series.labels["stream"] for series in monitor.series()}


def seen(bundle: Any, monitor: Monitor) -> dict[tuple[str, str], float]:
    """Show a monitor some rows, and give its counts by stream and bin."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(40, bundle.schema.shape[0])).astype(np.float32))
    x[:, -1] = torch.from_numpy(rng.integers(-1, 3, 40).astype(np.float32))
    with torch.inference_mode():
        outcome = bundle.pipeline()(Batch(x))
        monitor.observe(Batch(x, output=outcome.output), outcome)
    return {(s.labels["stream"], s.labels["bin"]): s.value for s in monitor.series() if s.metric == "stream_bin_total"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_excluded_is_not_there_and_the_rest_is_the_same(kind: str) -> None:
    """Columns by their bare name or in full, and other streams, are in no series or report; others count as before."""
    left_out = ["age", "column:colour", "confidence", "label", "feature:1"]
    (whole, rest), bundle = fitted({"kind": kind, "name": "whole"}, {"kind": kind, "name": "rest", "exclude": left_out})
    gone = {"column:age", "column:colour", "confidence", "label", "feature:1"}
    assert streams(whole) - streams(rest) == gone
    assert gone.isdisjoint(s.labels.get("stream", "") for s in rest.report())
    expected = {key: value for key, value in seen(bundle, whole).items() if key[0] not in gone}
    assert seen(bundle, rest) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_categories_alone_or_numbers_alone_can_be_watched(kind: str) -> None:
    """With every stream of one sort left out, the monitor counts and reports the other sort."""
    (whole,), _ = fitted({"kind": kind, "name": "whole"})
    assert isinstance(whole, Bins | Sequential)
    for sort in (whole.streams.continuous, tuple(whole.streams.discrete)):
        (rest,), bundle = fitted({"kind": kind, "name": "rest", "exclude": list(sort)})
        assert sum(seen(bundle, rest).values()) == 40 * (len(whole.streams.bins) - len(sort))
        assert rest.report()


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_name_is_refused_with_those_that_there_are(kind: str) -> None:
    """A misspelt column, and excluding everything, are refused in a sentence."""
    with pytest.raises(Mistake, match=r"exclude: there is no stream 'agee'; there are column:length, .*confidence"):
        fitted({"kind": kind, "name": "m", "exclude": ["agee"]})
    (whole,), _ = fitted({"kind": kind, "name": "m"})
    with pytest.raises(Mistake, match=re.escape("exclude: no stream is left to watch")):
        fitted({"kind": kind, "name": "m", "exclude": sorted(streams(whole))})


def test_another_exclusion_needs_a_refit() -> None:
    """An exclusion changes what is fitted, so another one is refused at deploy time by its name."""
    before, after = (
        parse(tiny_models.document("tabular", monitors=[{"kind": "bins", "name": "m", "exclude": names}]))
        for names in ([], ["age"])
    )
    assert differences(before, after) == ["monitors.0.exclude.0"]


@pytest.mark.skipif(LACKING is not None, reason=str(LACKING))
def test_a_test_of_columns_leaves_columns_out() -> None:
    """alibi-detect's tests of inputs compare the columns that are left; tests of anything else refuse the key."""
    from guards.monitors.alibi.params import KsParams
    from guards.monitors.alibi.window_tests import AlibiKs

    context = tiny_models.fitted("tabular").bundle.monitors[0].context
    ks = AlibiKs(KsParams(name="ks", on="inputs", exclude=("age",)), context)
    assert "column:age" not in ks._names
    assert ks._names
    with pytest.raises(ValueError, match="exclude: there is no stream 'colour'"):
        AlibiKs(KsParams(name="ks", on="inputs", exclude=("colour",)), context)
    with pytest.raises(ValueError, match="exclude: alibi_ks on features compares no columns"):
        AlibiKs(KsParams(name="ks", exclude=("age",)), context)
