"""The feature vector of a module: finds the layer that computes it, and reads it in a forward pass."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from guards.types import Mistake

__all__ = ["Tap", "find_head", "linear_layers"]

CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.TransformerEncoder, nn.TransformerEncoderLayer)
CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


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


class Tap:
    """Reads the features of a module by a hook: the output of a named layer, or the input of the last linear layer.

    Maps of more than two dimensions are averaged over all but the channels. ``captured`` holds the features (n, d) of
    the pipeline's last pass. A pass with gradients reads its features in its own thread, by :meth:`traced`. If no layer
    can be hooked, as in a scripted module or without any linear layer, ``layer`` is None and nothing is captured.
    """

    def __init__(self, net: nn.Module, feature_layer: str | None, last_linear: str | None) -> None:
        """Hook the layer.

        Raises:
            Mistake: the module has no such layer, or the layer cannot be hooked.
        """
        self.captured: list[Tensor] = []
        self._traced = threading.local()
        self.layer, self.named = feature_layer or last_linear, feature_layer is not None
        if isinstance(net, torch.jit.ScriptModule):
            if feature_layer is not None:
                raise Mistake(
                    f"model.features: {feature_layer!r} is a layer of a scripted module, which cannot be tapped: "
                    "return the module before torch.jit, or leave `features` out"
                )
            self.layer = None
        elif feature_layer is not None:
            self._tap_output(net, feature_layer)
        elif last_linear is not None:
            self._hook = net.get_submodule(last_linear).register_forward_pre_hook(
                lambda _m, args, kwargs: self._capture((*args, *kwargs.values())[0], channels_last=True),
                with_kwargs=True,
            )

    def _tap_output(self, net: nn.Module, name: str) -> None:
        modules = dict(net.named_modules())
        layer = modules.get(name)
        if layer is None:
            names = [child for child, _ in net.named_children()]
            raise Mistake(f"model.features: no submodule {name!r}; there are {names}")
        if isinstance(layer, CONTAINERS):
            inside = [f"{name}.{child}" for child, _ in layer.named_children()]
            raise Mistake(
                f"model.features: {name!r} is a {type(layer).__name__}, which holds layers and never runs: "
                f"name one of {inside}"
            )
        if isinstance(layer, torch.jit.ScriptModule) and name not in _callable_from_python(net):
            raise Mistake(
                f"model.features: {name!r} is inside a scripted module, which cannot be tapped: name another layer"
            )
        last = isinstance(layer, CHANNELS_LAST)
        layer.register_forward_hook(lambda _m, _i, out: self._capture(out, channels_last=last))

    def give_up(self) -> None:
        """Remove the hook of the last linear layer, whose input does not have one entry per row."""
        self._hook.remove()
        self.captured.clear()
        self.layer = None

    @contextmanager
    def traced(self) -> Iterator[list[Tensor]]:
        """Collect the features of passes outside inference mode, in this thread alone."""
        self._traced.into = []
        try:
            yield self._traced.into
        finally:
            del self._traced.into

    def _capture(self, features: object, *, channels_last: bool) -> None:
        # Only the pipeline is ever compiled. In a compiled graph, a question for the mode would break the graph in two.
        into: list[Tensor] | None = self.captured
        if not torch.compiler.is_compiling() and not torch.is_inference_mode_enabled():
            into = getattr(self._traced, "into", None)
        if into is not None:
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
