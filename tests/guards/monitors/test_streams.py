"""Streams: monitors whose streams have the same bins share the sorting of a batch, and other monitors do not."""

from typing import Any

import numpy as np
import pytest
import tiny_models
import torch

from guards.bundle.bundle import Bundle
from guards.monitors.bins import Bins
from guards.monitors.sequential import Sequential
from guards.types import Batch, Result


def watched(**params: Any) -> tuple[Bundle, Batch, Result]:
    """Fit a sequential and a bins monitor, the second with parameters, and judge a batch."""
    monitors = [{"kind": "sequential", "name": "drift"}, {"kind": "bins", "name": "streams", **params}]
    bundle = tiny_models.fitted("tabular", monitors=monitors).bundle
    pipeline = bundle.pipeline()
    with torch.inference_mode():
        batch = pipeline.forward(Batch(tiny_models.inputs("tabular", 40, 9)))
        return bundle, batch, pipeline(batch)


def test_monitors_with_the_same_bins_sort_a_batch_once() -> None:
    """The second monitor takes the places that the first monitor found, and counts what it would count alone."""
    bundle, batch, result = watched()
    drift, streams = (monitor for monitor in bundle.monitors if isinstance(monitor, Sequential | Bins))
    assert streams.streams.places(batch, result) is drift.streams.places(batch, result)
    drift.observe(batch, result)
    streams.observe(batch, result)
    np.testing.assert_array_equal(streams.counts, drift.counts)
    assert streams.counts.sum() == 40 * len(streams.streams.bins)


@pytest.mark.parametrize("params", [{"exclude": ["confidence"]}, {"exclude": ["label"]}])
def test_monitors_with_other_streams_share_nothing(params: dict[str, Any]) -> None:
    """A monitor that leaves out a stream counts as if it were alone."""
    bundle, batch, result = watched(**params)
    drift, streams = (monitor for monitor in bundle.monitors if isinstance(monitor, Sequential | Bins))
    drift.observe(batch, result)
    streams.observe(batch, result)
    alone = Batch(batch.x, batch.groups, batch.output)
    np.testing.assert_array_equal(streams.counts, streams.streams.count(alone, result).numpy())


def test_a_new_result_or_a_new_fit_is_sorted_anew() -> None:
    """Places are kept for one result of a batch, and for the bins that were fitted last."""
    bundle, batch, result = watched()
    streams = next(monitor.streams for monitor in bundle.monitors if isinstance(monitor, Bins))
    kept = streams.places(batch, result)
    assert streams.places(batch, result) is kept
    assert streams.places(batch, result[:40]) is not kept
    streams.edges = streams.edges + 1
    assert not torch.equal(streams.places(batch, result), kept)
