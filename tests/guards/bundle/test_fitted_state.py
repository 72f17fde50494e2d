"""Fitted tensors on disk: they come back as they were, and what another version wrote is refused."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import pytest
import tiny_models
import torch
from forged_bundles import forge
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from guards import Batch, Bundle, Detector, Mistake, Params, Reference
from guards.bundle.fitted_state import named_state, plain, restored


def test_pickle_in_place_of_tensors_is_refused(copy: Path) -> None:
    """A pickle under a tensor file's name, digest and all, is never loaded."""
    mark = copy / "it-was-run"

    class Booby:
        def __reduce__(self) -> Any:
            return (exec, (f"open({str(mark)!r}, 'w').close()",))

    stream = io.BytesIO()
    torch.save(Booby(), stream)
    for evil in (pickle.dumps(Booby()), stream.getvalue()):
        (copy / "weights.safetensors").write_bytes(evil)
        forge(copy)
        with pytest.raises(Mistake, match=r"weights.safetensors: it is no safetensors file .* fit the bundle anew"):
            Bundle.load(copy)
    assert not mark.exists()


def _tamper(path: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    state = load_file(path / "state.safetensors")
    change(state)
    save_file(state, path / "state.safetensors")
    forge(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.pop("detector.ood.centre"), "detector.ood: the bundle was fitted with another version of Mahal"),
        (lambda s: s.update({"detector.ood.more": torch.ones(1)}), r'its state differs in ["more"]); fit the bundle'),
        (lambda s: s.update({"detector.ood.centre": torch.ones(1).int()}), "another version of Mahalanobis"),
        (lambda s: s.update({"detector.gone.mean": torch.ones(1)}), 'this version does not read ["detector.gone.mean'),
        (lambda s: s.pop("scores"), "the bundle's state lacks scores, which this version needs; fit the bundle anew"),
        (lambda s: s.pop("nonconformity"), "the bundle's state lacks nonconformity, which this version needs"),
        (lambda s: s.pop("self_test.labels"), "the bundle's state lacks labels, which this version needs; fit the"),
        (lambda s: s.update({"exemplars.more": torch.ones(1)}), 'does not read ["exemplars.more"] of the bundle\'s'),
    ],
)
def test_state_of_another_version_is_refused(
    copy: Path, change: Callable[[dict[str, Tensor]], Any], sentence: str
) -> None:
    """A bundle whose state this version's parts do not have, or do not know, is refused in a sentence."""
    _tamper(copy, change)
    with pytest.raises(Mistake) as refused:
        Bundle.load(copy)
    assert sentence in str(refused.value)


def test_state_of_another_meaning_is_refused(copy: Path) -> None:
    """State that has the right names and another meaning gives other scores, so that the self-test refuses it."""
    _tamper(copy, lambda state: state.update({"detector.ood.centre": state["detector.ood.centre"] + 1.0}))
    loaded = Bundle.load(copy)
    with pytest.raises(Mistake, match="other verdicts on known rows; fit the bundle anew"):
        loaded.run_self_test(loaded.pipeline())


class LearnedParams(Params):
    kind: Literal["learned"] = "learned"


class Learned(Detector):
    """Has a layer of its own, and a buffer of another shape than it starts with."""

    Params: ClassVar[type[Params]] = LearnedParams
    centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 1)
        self.register_buffer("centre", torch.empty(0))

    def fit(self, reference: Reference) -> Self:
        self.centre = reference.batch.x.mean(0)
        with torch.no_grad():
            self.layer.weight.copy_(torch.ones(1, 5))
        return self

    def score(self, batch: Batch) -> Tensor:
        return self.layer(batch.x - self.centre)[:, 0]


def test_state_of_a_layer_is_restored(tmp_path: Path) -> None:
    """Fitted parameters travel like buffers do, whatever shape a buffer had before."""
    fitted = Learned().fit(tiny_models.reference("tensor"))
    save_file(plain(named_state("detector.a", fitted)), tmp_path / "s.safetensors")
    learned = restored(Learned(), load_file(tmp_path / "s.safetensors"), "detector.a")
    batch = Batch(torch.randn(4, 5))
    assert torch.equal(fitted.score(batch), learned.score(batch))
    assert isinstance(learned.layer.weight, nn.Parameter)
    assert not learned.layer.weight.requires_grad
