"""The layers of a model whose outputs may be the features, and the features of rows at each of them in one pass."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from guards.model.chunked_run import CHUNK, refusing
from guards.model.features import Tap
from guards.model.torch_model import TorchModel
from guards.types import ModelOutput

__all__ = ["DEFAULT", "FeatureLayers", "Outputs"]

DEFAULT = ""
"""The name for the features that the config has now."""
MOST = 5
"""The most layers beside the config's own."""
NARROWEST, WIDEST = 2, 2048
TRIED = 8
Outputs = Mapping[str, ModelOutput]
"""The model's outputs for the same rows, by the layer whose output is the features."""


class FeatureLayers:
    """Reads features at several layers of a model at once, as a fit with that ``model.features`` reads them."""

    def __init__(self, model: TorchModel, example: Tensor) -> None:
        """Find layers that run once in a pass and give one feature vector a row, on ``example`` (n, ...)."""
        example = example[:TRIED].to(model.device)
        self._model = model
        self._taps = {name: Tap(model.net, name, None) for name in _layers_that_run_once(model, example)}
        self._keep_different(example)

    @property
    def names(self) -> list[str]:
        """The layers: :data:`DEFAULT`, and others from the first to the last."""
        return [DEFAULT, *self._taps]

    @torch.inference_mode()
    def outputs(self, x: Tensor, track: Callable[[range], Iterable[int]] = iter) -> Outputs:
        """Run rows (n, ...) through the model once.

        Raises:
            Mistake: the model raises an exception for some of the rows.
        """
        parts: dict[str, list[ModelOutput]] = {name: [] for name in self.names}
        for start in track(range(0, len(x), CHUNK)):
            chunk = x[start : start + CHUNK].to(self._model.device)
            for tap in self._taps.values():
                tap.captured.clear()
            with refusing(self._model, chunk):
                output = self._model(chunk)
            parts[DEFAULT].append(output)
            for name, tap in self._taps.items():
                parts[name].append(replace(output, features=self._features(tap, len(chunk))))
        return {name: ModelOutput.join(each) for name, each in parts.items()}

    def _features(self, tap: Tap, rows: int) -> Tensor:
        """Join what was captured in all passes: a batch that the model does not take at once has several passes."""
        return torch.cat(tap.captured)[:rows].float()

    @torch.inference_mode()
    def _keep_different(self, example: Tensor) -> None:
        """Keep some layers whose features differ from one another's and from the model's output."""
        output = self._model(example)
        usable: dict[str, Tap] = {}
        seen = [output.features, output.logits]
        for name, tap in self._taps.items():
            features = self._features(tap, len(example))
            same = any(features.shape == other.shape and torch.equal(features, other) for other in seen)
            if features.shape[0] == len(example) and NARROWEST <= features.shape[1] <= WIDEST and not same:
                usable[name] = tap
                seen.append(features)
        # Evenly spaced over the depth, and always with the last layer.
        names = list(usable)
        step = max(1.0, len(names) / MOST)
        kept = [names[len(names) - 1 - int(place * step)] for place in range(min(MOST, len(names)))]
        self._taps = {name: usable[name] for name in reversed(kept)}


@torch.inference_mode()
def _layers_that_run_once(model: TorchModel, example: Tensor) -> list[str]:
    """List submodules, in the order in which they end, that give one tensor of rows and channels in a pass."""
    ran: list[tuple[str, bool]] = []

    def note(name: str, output: object) -> None:
        first = output[0] if isinstance(output, tuple | list) and output else output
        ran.append((name, isinstance(first, Tensor) and first.ndim > 1))

    handles = [
        module.register_forward_hook(lambda _m, _i, output, name=name: note(name, output))
        for name, module in model.net.named_modules()
        if name and not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        model(example)
    finally:
        for handle in handles:
            handle.remove()
    passes, times = model.pieces(len(example) * model.rows_each), Counter(ran)
    return [name for (name, sound), count in times.items() if sound and count == passes]
