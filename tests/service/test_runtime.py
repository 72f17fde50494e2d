"""The runtime: what a server does before it says that it is ready."""

from pathlib import Path

import packed_sequences

from service.metrics import Metrics
from service.runtime import Runtime, load


def test_a_model_of_sequences_is_warmed_up(tmp_path: Path) -> None:
    """A server is warmed up with rows that the model takes: one that needs a token gets one."""
    packed_sequences.write_bundle(tmp_path)
    runtime = Runtime(load(tmp_path / "bundle", None, None), Metrics({}, ["integrated_gradients"]))
    assert runtime.batch_rows >= 1
    runtime.monitoring.close()
