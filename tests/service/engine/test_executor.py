"""The executor: what an engine does before it says that it is ready."""

from pathlib import Path

import numpy as np
import packed_sequences
import tiny_models

from guards.bundle.bundle import Bundle
from service.engine.executor import Executor


def test_a_model_of_sequences_is_warmed_up(tmp_path: Path) -> None:
    """A server is warmed up with rows that the model takes: a model that needs a token gets one."""
    packed_sequences.write_bundle(tmp_path)
    bundle = Bundle.load(tmp_path / "bundle")
    assert Executor(bundle, bundle.pipeline(), max_batch_rows=8).warm_up() >= 1


def test_a_set_depends_on_the_row_and_its_id_alone() -> None:
    """In a padded batch, in another order, or alone, a row with an id gets the same set; another id draws otherwise."""
    heldout = tiny_models.rows("tensor", 600, 50)
    bundle = tiny_models.fitted("tensor", heldout=heldout, prediction_sets={"method": "aps"}, guards=[]).bundle
    executor = Executor(bundle, bundle.pipeline(), max_batch_rows=64)
    assert executor.warm_up() >= 1
    x = tiny_models.inputs("tensor", 37, 3).numpy()
    groups = {"region": np.zeros(37, dtype=np.int64)}
    ids = [f"row-{row}" for row in range(37)]
    whole = executor.compute(x, groups, ids, causes=False).answer.members
    order = np.random.default_rng(0).permutation(37)
    shuffled = executor.compute(x[order], groups, [ids[row] for row in order], causes=False).answer.members
    assert whole is not None
    assert shuffled is not None
    assert (shuffled == whole[order]).all()
    for row in range(5):
        part = {"region": groups["region"][:1]}
        alone = executor.compute(x[row : row + 1], part, ids[row : row + 1], causes=False).answer.members
        assert alone is not None
        assert (alone == whole[row]).all()
    others = executor.compute(x, groups, [f"other-{row}" for row in range(37)], causes=False).answer.members
    assert others is not None
    assert (others != whole).any()
