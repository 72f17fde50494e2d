"""The early features of a module: pooled outputs of its first layers, which noise and inversion change most."""

from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO

import torch
from torch import Tensor, nn

from guards.model.features import CHANNELS_LAST, layer_named
from guards.model.hooked_pass import HookedPass
from guards.notices import Notices
from guards.sentences import named as listed
from guards.types import Mistake

__all__ = ["EarlyTap", "LayerRun", "first_layers", "layers_that_run"]

LayerRun = tuple[str, bool]
"""The name of a layer that ran, and whether the layer is a convolution; other layers are linear."""
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
FIRST_CONVOLUTIONS = 2
"""The first convolution sees noise; the second convolution sees textures that the first cannot tell apart."""
WIDTH = 256
"""The most early features: guards compute with their square."""
SHOWN = 3


@torch.inference_mode()
def layers_that_run(net: nn.Module, call: Callable[[Tensor], object], prepared: Tensor) -> list[LayerRun]:
    """List the convolutions and linear layers of a module in the order in which they run on prepared rows (n, ...)."""
    ran: list[LayerRun] = []
    if isinstance(net, torch.jit.ScriptModule):
        return ran
    handles = []
    for name, module in net.named_modules():
        if isinstance(module, (*CONVOLUTIONS, nn.Linear)):
            run = (name, isinstance(module, CONVOLUTIONS))
            handles.append(module.register_forward_pre_hook(lambda *_, run=run: ran.append(run)))
    try:
        with redirect_stdout(StringIO()):  # the module was run before, and what it prints was shown then
            call(prepared.clone())
    finally:
        for handle in handles:
            handle.remove()
    return ran


def first_layers(ran: Sequence[LayerRun]) -> tuple[str, ...]:
    """Choose the early layers: the first two convolutions; without any, the first linear layer, unless it is the last.

    The last linear layer gives the model's answer, and is not early.
    """
    convolutions = tuple(dict.fromkeys(name for name, convolution in ran if convolution))
    if convolutions:
        return convolutions[:FIRST_CONVOLUTIONS]
    linear = [name for name, _ in ran]
    return (linear[0],) if linear and linear[0] != linear[-1] else ()


class EarlyTap(HookedPass[tuple[int, Tensor]]):
    """Reads the outputs of early layers by hooks, and pools them to (n, e): the first run of each layer.

    A map gives the mean and the root mean square of each channel over all positions. A vector is taken as it is. If
    there are more than 256 numbers, evenly spaced channels are taken.
    """

    def __init__(self, net: nn.Module, layers: Sequence[str], *, named: bool) -> None:
        """Hook the layers, which the config has ``named``, or which :func:`first_layers` has chosen.

        Raises:
            Mistake: the module has no such layer, or the layer cannot be hooked.
        """
        super().__init__()
        self.layers, self.named = tuple(layers), named
        self._hooks = []
        for index, name in enumerate(layers):
            layer = layer_named(net, name, "model.early")
            last = isinstance(layer, CHANNELS_LAST)
            hook = layer.register_forward_hook(
                lambda _m, _i, out, index=index, last=last: self._capture(index, out, channels_last=last)
            )
            self._hooks.append(hook)

    def features(self, captured: list[tuple[int, Tensor]]) -> Tensor:
        """Concatenate what the layers gave in a pass: (n, e) float32."""
        first: dict[int, Tensor] = {}
        for index, pooled in captured:
            first.setdefault(index, pooled)
        return torch.cat([first[index] for index in range(len(self.layers))], dim=1)

    def check(self, rows: int, notices: Notices) -> bool:
        """Return whether each layer gave one entry per row in a pass of so many rows.

        If a chosen layer did not, the hooks are removed, and the user is told.

        Raises:
            Mistake: a named layer did not run, or its output does not have one entry per row.
        """
        ran = dict(reversed(self.captured))
        for index, name in enumerate(self.layers):
            entries = len(ran[index]) if index in ran else 0
            if entries != rows and self.named:
                fault = (
                    f"the output of {name!r} does not have one entry per row: it has {entries} for {rows} rows"
                    if entries
                    else f"the submodule {name!r} did not run in a forward pass"
                )
                raise Mistake(f"model.early: {fault}: name another submodule")
            if entries != rows:
                notices.note(
                    f"model.early: the layer {name!r} gives {entries} entries for {rows} rows, so that guards see no "
                    "early layer; name a submodule that gives one entry a row to use its output"
                )
                for hook in self._hooks:
                    hook.remove()
                return False
        if len(self.captured) > len(self.layers):
            again = sorted({self.layers[index] for index, _ in self.captured[len(self.layers) :]})
            notices.note(
                f"model.early: {listed(again, SHOWN)} runs several times in a forward pass; its first run is taken"
            )
        return True

    def _capture(self, index: int, output: object, *, channels_last: bool) -> None:
        if (into := self.into) is not None:
            into.append((index, self._pooled(index, output, channels_last=channels_last)))

    def _pooled(self, index: int, output: object, *, channels_last: bool) -> Tensor:
        if isinstance(output, tuple | list) and output:
            output = output[0]
        if not isinstance(output, Tensor) or output.ndim < 2:  # noqa: PLR2004 - rows and channels
            raise Mistake(
                f"model.early: the layer {self.layers[index]!r} gave no tensor of rows and channels: name another layer"
            )
        most = WIDTH // len(self.layers)
        if output.ndim == 2:  # noqa: PLR2004
            # A copy, because a later layer that works in place, such as ReLU(inplace=True), would change the output.
            return output[:, :: -(-output.shape[1] // most)].float().clone()
        channels = output.movedim(-1, 1) if channels_last else output
        maps = channels[:, :: -(-channels.shape[1] // (most // 2))].flatten(2).float()
        if maps.requires_grad:  # gradients need the maps as they are, and a later layer may work in place
            maps = maps.clone()
        # The root mean square, and not the standard deviation, which takes three times as long.
        power = torch.linalg.vector_norm(maps, dim=2) * maps.shape[2] ** -0.5
        return torch.cat([maps.mean(2), power], dim=1)
