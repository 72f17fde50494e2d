"""The white box against tiny guarded models."""

import numpy as np
import pytest
import tiny_models
import torch

from guards.attacks.chosen_rows import ChosenRows, choose
from guards.attacks.guard_excess import GuardExcess
from guards.attacks.pgd import Crafted, Pgd
from guards.attacks.pipeline_target import PipelineTarget
from guards.attacks.runner import ATTACKS, run
from guards.attacks.space import Space
from guards.bundle.fit_rows import Fitted
from guards.types import Batch, Mistake

EPS = {"image": 0.15, "tensor": 0.3, "tabular": 0.3}


class Scene:
    """A target with rows of its own to attack."""

    def __init__(self, fitted: Fitted, kind: str, count: int = 20) -> None:
        self.kind, self.rows = kind, tiny_models.rows(kind, 120, 90)
        self.target = PipelineTarget(fitted.bundle)
        self.space = Space.of(fitted.bundle.schema, self.rows.x.numpy())
        self.chosen: ChosenRows = choose(self.rows, fitted.bundle.schema, self.target, count=count, seed=1)

    def craft(self, knowledge: str, norm: str = "linf", rows: slice = slice(None), **changes: float) -> Crafted:
        """Attack the chosen rows."""
        pgd = Pgd(self.target, self.space, steps=20, restarts=2)
        options = {"eps": EPS[self.kind], "seed": 0} | changes
        return pgd(knowledge, norm, self.chosen.x[rows], self.chosen.y[rows], **options)  # type: ignore[arg-type]


@pytest.fixture
def scene(fitted: Fitted, kind: str) -> Scene:
    """Give a scene of each kind of rows."""
    return Scene(fitted, kind)


def test_only_rows_with_the_true_label_are_attacked(scene: Scene) -> None:
    """The chosen rows get their true label, and the rows to start from have other labels."""
    chosen = scene.chosen
    assert scene.target.alone(chosen.x).labels.tolist() == chosen.y.tolist()
    assert 0 < len(chosen.x) <= chosen.right <= chosen.tried <= 120
    for label, starts in zip(chosen.y, chosen.starts, strict=True):
        assert bool(len(starts)) == bool((chosen.y != label).any())
        assert not len(starts) or (scene.target.alone(starts).labels != label).all()


@pytest.mark.parametrize("norm", ["linf", "rms"])
@pytest.mark.parametrize("knowledge", ["oblivious", "aware"])
def test_crafted_rows_do_what_is_claimed(scene: Scene, knowledge: str, norm: str) -> None:
    """A row that counts as a success has a wrong label within eps, and is flagged unless it counts as undetected."""
    crafted = scene.craft(knowledge, norm)
    answers = scene.target.alone(crafted.rows)
    wrong = (answers.labels != scene.chosen.y) & (answers.labels >= 0)
    assert (wrong == crafted.success).all()
    assert (wrong & ~answers.flagged == crafted.undetected).all()
    for row, new in zip(scene.chosen.x, crafted.rows, strict=True):
        change = scene.space.between(row, new[None])[0]
        assert (np.abs(change).max() if norm == "linf" else np.sqrt((change**2).mean())) <= EPS[scene.kind] + 1e-5


def test_who_knows_more_achieves_more(scene: Scene) -> None:
    """The attacker who knows the guards achieves at least what the oblivious attacker achieves, row by row."""
    oblivious, aware = scene.craft("oblivious"), scene.craft("aware")
    assert (aware.success >= oblivious.success).all()
    assert (aware.undetected >= oblivious.undetected).all()


def test_a_larger_eps_gives_more_and_a_tiny_eps_nothing(scene: Scene) -> None:
    """Success grows with eps: nothing is so near, and from far enough, nearly every row is reached."""
    shares = [scene.craft("aware", eps=eps).success.mean() for eps in (1e-6, EPS[scene.kind], 20.0)]
    assert shares[0] == 0 < shares[1] <= shares[2]
    assert shares[2] > 0.9


@pytest.mark.parametrize("name", ATTACKS)
def test_the_white_box_is_never_weaker_than_queries(scene: Scene, name: str) -> None:
    """At the same eps and in the same norm, an attack by queries finds no more wrong labels than the white box."""
    attack, chosen, eps = ATTACKS[name], scene.chosen, EPS[scene.kind]
    traces = run(
        name, "plain", scene.target, scene.space, chosen.x, chosen.y.tolist(), chosen.starts,
        epses=(eps,), budget=200, seed=0,
    )  # fmt: skip
    assert sum(eps in trace.successes for trace in traces) <= scene.craft("aware", attack.norm).success.sum()


def test_a_row_is_crafted_alone_as_among_others(scene: Scene) -> None:
    """The first row gets the same attack whatever rows run with it."""
    together, alone = scene.craft("aware"), scene.craft("aware", rows=slice(1))
    assert (alone.success[0], alone.undetected[0]) == (together.success[0], together.undetected[0])
    assert np.allclose(alone.rows[0], together.rows[0], atol=1e-4, equal_nan=True)


def test_excess_is_positive_where_a_guard_flags(fitted: Fitted, kind: str) -> None:
    """The excess of differentiable guards is above 0 for exactly the rows that these guards flag."""
    pipeline = fitted.bundle.pipeline()
    excess = GuardExcess(pipeline)
    assert excess.blind == ["quality"]
    batch = Batch(tiny_models.inputs(kind, 300, 5))
    verdict = pipeline(batch).verdict
    known = [place for place, name in enumerate(verdict.guards) if name not in excess.blind]
    with torch.no_grad():
        found = excess(pipeline.forward(batch)) > 0
    assert (found == verdict.flagged[known].any(0)).all()
    assert 0 < int(found.sum()) < 300


def test_a_guard_that_reads_views_has_a_gradient() -> None:
    """The attacker sees through `squeeze`, although its score has jumps."""
    guards = [{"name": "squeezed", "detector": {"kind": "squeeze"}}]
    pipeline = tiny_models.fitted("image", guards=guards).bundle.pipeline()
    excess, x = GuardExcess(pipeline), tiny_models.inputs("image", 100, 5).requires_grad_()
    assert (len(excess), excess.reads_views, excess.blind) == (1, True, [])
    scores = excess(Batch(x, output=pipeline.model.output(x, views=True)))
    (gradient,) = torch.autograd.grad(scores.sum(), x)
    assert gradient.isfinite().all()
    assert (gradient.flatten(1).abs().sum(1) > 0).all()


def test_an_attacker_who_knows_squeeze_passes_it_more_often() -> None:
    """The aware attack gets more rows past `squeeze` than the attack that does not know of the views."""
    guards = [{"name": "squeezed", "detector": {"kind": "squeeze", "bits": 3}}]
    scene = Scene(tiny_models.fitted("image", guards=guards, false_alarm_budget=0.2), "image", count=30)
    oblivious, aware = scene.craft("oblivious", eps=0.3), scene.craft("aware", eps=0.3)
    assert aware.undetected.sum() > oblivious.undetected.sum()


def test_a_model_without_a_gradient_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the model's outputs have no gradient, the sentence says to leave the white box out."""
    scene = Scene(tiny_models.fitted("tensor"), "tensor")
    model = scene.target.pipeline.model
    monkeypatch.setattr(type(model), "output", lambda self, x, **_: self(x.detach()))
    with pytest.raises(Mistake, match="leave pgd out of --attacks"):
        scene.craft("oblivious")
