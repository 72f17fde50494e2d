"""The executor: what an engine does before it says that it is ready."""

from pathlib import Path

import packed_sequences

from guards.bundle.bundle import Bundle
from service.engine.executor import Executor


def test_a_model_of_sequences_is_warmed_up(tmp_path: Path) -> None:
    """A server is warmed up with rows that the model takes: a model that needs a token gets one."""
    packed_sequences.write_bundle(tmp_path)
    bundle = Bundle.load(tmp_path / "bundle")
    assert Executor(bundle, bundle.pipeline(), max_batch_rows=8).warm_up() >= 1
