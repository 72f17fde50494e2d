"""The feature vector of a module: finds the layer that computes it, and reads it in a forward pass."""

import torch
from torch import Tensor, nn

from guards.model.hooked_pass import HookedPass
from guards.notices import Notices
from guards.types import Mistake

__all__ = ["Tap", "find_head", "layer_named", "linear_layers"]

CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.TransformerEncoder, nn.TransformerEncoderLayer)
CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
WIDE = 100_000
"""More features than this make the guards slow: the covariance of so many features has 10^10 entries."""


def linear_layers(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """List the linear layers, by name, whose input can be tapped."""
    return [(name, module) for name, module in net.named_modules() if isinstance(module, nn.Linear)]


def find_head(net: nn.Module, last_linear: str | None) -> nn.Linear | None:
    """Copy the last linear layer; None if there is none, or if its weights are computed and not parameters."""
    if last_linear is None:
        return None
    weights = dict(net.get_submodule(last_linear).named_parameters())
    if "weight" not in weights:
        return None
    head = nn.Linear(weights["weight"].shape[1], weights["weight"].shape[0], bias="bias" in weights, device="meta")
    head.weight = nn.Parameter(weights["weight"].detach(), requires_grad=False)
    if "bias" in weights:
        head.bias = nn.Parameter(weights["bias"].detach(), requires_grad=False)
    return head


def layer_named(net: nn.Module, name: str, key: str) -> nn.Module:
    """Find the submodule that the config names under ``key``.

    Raises:
        Mistake: the module has no such submodule, or the submodule cannot be hooked.
    """
    layer: nn.Module | None = dict(net.named_modules()).get(name)
    if isinstance(net, torch.jit.ScriptModule):
        raise Mistake(
            f"{key}: {name!r} is a layer of a scripted module, which cannot be tapped: "
            f"return the module before torch.jit, or leave `{key.rpartition('.')[2]}` out"
        )
    if layer is None:
        names = [child for child, _ in net.named_children()]
        raise Mistake(f"{key}: no submodule {name!r}; there are {names}")
    if isinstance(layer, CONTAINERS):
        inside = [f"{name}.{child}" for child, _ in layer.named_children()]
        raise Mistake(
            f"{key}: {name!r} is a {type(layer).__name__}, which holds layers and never runs: name one of {inside}"
        )
    if isinstance(layer, torch.jit.ScriptModule) and name not in _callable_from_python(net):
        raise Mistake(f"{key}: {name!r} is inside a scripted module, which cannot be tapped: name another layer")
    return layer


class Tap(HookedPass[Tensor]):
    """Reads the features of a module by a hook: the output of a named layer, or the input of the last linear layer.

    Maps of more than two dimensions are averaged over all but the channels. ``captured`` holds the features (n, d). If
    no layer can be hooked, as in a scripted module or without any linear layer, ``layer`` is None and nothing is
    captured.
    """

    def __init__(self, net: nn.Module, feature_layer: str | None, last_linear: str | None) -> None:
        """Hook the layer.

        Raises:
            Mistake: the module has no such layer, or the layer cannot be hooked.
        """
        super().__init__()
        self.layer, self.named = feature_layer or last_linear, feature_layer is not None
        if feature_layer is not None:
            layer = layer_named(net, feature_layer, "model.features")
            last = isinstance(layer, CHANNELS_LAST)
            layer.register_forward_hook(lambda _m, _i, out: self._capture(out, channels_last=last))
        elif isinstance(net, torch.jit.ScriptModule):
            self.layer = None
        elif last_linear is not None:
            self._hook = net.get_submodule(last_linear).register_forward_pre_hook(
                lambda _m, args, kwargs: self._capture((*args, *kwargs.values())[0], channels_last=True),
                with_kwargs=True,
            )

    def check(self, rows: int, notices: Notices) -> None:
        """Check what was captured in a pass of so many rows, and tell the user of it.

        The default layer is given up if its input does not have one entry per row.

        Raises:
            Mistake: the named layer did not run, or its output does not have one entry per row.
        """
        runs = self.captured
        if not runs:
            raise Mistake(
                f"model.features: the submodule {self.layer!r} did not run in a forward pass: name a submodule "
                "that runs"
            )
        if len(runs) > 1 and self.named:
            notices.note(
                f"model.features: {self.layer!r} runs {len(runs)} times in a forward pass; the features of the "
                "last run are taken"
            )
        entries = runs[-1].shape[0]
        if entries != rows and not self.named:
            notices.note(
                f"model.features: the last linear layer {self.layer!r} gets {entries} entries for "
                f"{rows} rows, so that the features that guards look at are the model's own outputs; name a "
                "submodule that gives one entry a row to use its features"
            )
            self._hook.remove()
            self.captured.clear()
            self.layer = None
        elif entries != rows:
            raise Mistake(
                f"model.features: the output of {self.layer!r} does not have one entry per row: it has "
                f"{entries} for {rows} rows"
            )
        elif runs[-1].shape[1] > WIDE:
            notices.warn(
                f"model.features: {self.layer!r} gives {runs[-1].shape[1]:,} features a row, which makes fitting "
                "slow and large: name a later layer, or a layer behind a pooling"
            )

    def _capture(self, features: object, *, channels_last: bool) -> None:
        if (into := self.into) is not None:
            into.append(self._pooled(features, channels_last=channels_last))

    def _pooled(self, features: object, *, channels_last: bool) -> Tensor:
        """Average maps to (n, d): over the axes before the channels (n, ..., d), or after the channels (n, d, ...)."""
        if isinstance(features, tuple | list) and features:
            features = features[0]
        if not isinstance(features, Tensor):
            raise Mistake(
                f"model.features: the layer {self.layer!r} gave a {type(features).__name__}, not a tensor: "
                "name a layer that gives a tensor"
            )
        if features.ndim == 0:
            raise Mistake(f"model.features: the output of {self.layer!r} does not have one entry per row")
        if features.ndim <= 2:  # noqa: PLR2004
            # A copy, because a later layer that works in place, such as ReLU(inplace=True), would change the features.
            return features.reshape(features.shape[0], -1).clone()
        return features.flatten(1, -2).mean(1) if channels_last else features.flatten(2).mean(2)


def _callable_from_python(net: nn.Module) -> set[str]:
    """Name the modules that run as Python calls: all modules outside scripted modules."""
    scripted = [name for name, module in net.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    return {name for name, _ in net.named_modules() if not any(name.startswith(f"{outer}.") for outer in scripted)}
