"""The executor: what an engine does before it says that it is ready."""

from pathlib import Path

import numpy as np
import packed_sequences
import pytest
import tiny_models
from pydantic import ValidationError

from guards.bundle.bundle import Bundle
from guards.config.sections import GuardConfig
from service.engine.executor import Executor
from service.messages.answer import LEFT_OUT
from service.telemetry.metrics.engine import EngineMetrics


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


def test_optional_guards_are_left_out_in_a_hurry() -> None:
    """In a hurry an optional guard judges nothing and says so, and the other guards and the model answer as ever."""
    guards = [
        {"name": "quality", "detector": {"kind": "ranges"}},
        {"name": "ood", "detector": {"kind": "mahalanobis"}, "optional": True},
    ]
    bundle = tiny_models.fitted("tensor", guards=guards).bundle
    executor = Executor(bundle, bundle.pipeline(), max_batch_rows=64)
    x = np.concatenate([tiny_models.inputs("tensor", 20, 3).numpy(), np.full((1, 5), 1e4, np.float32)])
    groups, ids = {"region": np.zeros(21, dtype=np.int64)}, [f"row-{row}" for row in range(21)]
    calm = executor.compute(x, groups, ids, causes=True)
    hurried = executor.compute(x, groups, ids, causes=True, hurried=True)
    assert (hurried.answer.p_value[:, 1] == LEFT_OUT).all()
    assert not hurried.answer.flagged[:, 1].any()
    assert calm.answer.flagged[20].any()
    assert (hurried.answer.p_value[:, 0] == calm.answer.p_value[:, 0]).all()
    assert (hurried.answer.flagged[:, 0] == calm.answer.flagged[:, 0]).all()
    assert (hurried.answer.probabilities == calm.answer.probabilities).all()
    assert hurried.about.result.verdict.p_value[1].isnan().all()
    counted = EngineMetrics(["quality", "ood"], [])
    counted.observe(hurried.answer)
    assert counted.guard_skipped.values.tolist() == [0, 21]
    assert counted.guard_rows.values.tolist() == [21, 0]
    assert counted.guard_errors.values.tolist() == [0, 0]
    assert counted.p_value.total("ood") == (0, 0.0)


def test_a_warm_up_runs_the_views_of_its_largest_batch() -> None:
    """The batches that are measured have views behind their rows; the module gets no longer batch afterwards."""
    bundle = tiny_models.fitted("image", guards=[{"name": "squeezed", "detector": {"kind": "squeeze"}}]).bundle
    executor, got = Executor(bundle, bundle.pipeline(), max_batch_rows=32), list[int]()
    bundle.model.net.register_forward_hook(lambda _, args, __: got.append(len(args[0])))
    executor.warm_up()
    assert {3 * size for size in (1, 2, 4, 8, 16, 32)} == set(got)
    got.clear()
    for rows in (1, 3, 32):
        computed = executor.compute(tiny_models.inputs("image", rows, 3).numpy(), {}, [""] * rows, causes=False)
        assert (computed.answer.p_value > 0).all()
    assert got == [3 * 1, 3 * 4, 3 * 32]


def test_an_optional_guard_saves_its_score_and_not_its_views() -> None:
    """In a hurry `squeeze` judges nothing, and the model gets the views all the same: shapes of batches stay few."""
    guards = [{"name": "squeezed", "detector": {"kind": "squeeze"}, "optional": True}]
    bundle = tiny_models.fitted("image", guards=guards).bundle
    executor, got = Executor(bundle, bundle.pipeline(), max_batch_rows=8), list[int]()
    bundle.model.net.register_forward_hook(lambda _, args, __: got.append(len(args[0])))
    x = tiny_models.inputs("image", 8, 3).numpy()
    calm, hurried = (executor.compute(x, {}, [""] * 8, causes=False, hurried=hurried) for hurried in (False, True))
    assert (hurried.answer.p_value == LEFT_OUT).all()
    assert (calm.answer.probabilities == hurried.answer.probabilities).all()
    assert got == [24, 24]


@pytest.mark.parametrize("more", [{"on_error": "reject"}, {"action": "abstain", "target_error": 0.05}])
def test_a_guard_that_must_judge_every_row_is_not_optional(more: dict[str, object]) -> None:
    """The config is refused with a sentence if a guard is both optional and indispensable."""
    with pytest.raises(ValidationError, match="cannot be left out"):
        GuardConfig.model_validate({"name": "ood", "detector": {"kind": "mahalanobis"}, "optional": True, **more})
