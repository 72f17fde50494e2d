"""The user's model as the pipeline sees it: float32 rows in, logits and features out, in one forward pass."""

import threading
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from guards.imputation import Imputation
from guards.types import Mistake, ModelOutput

__all__ = ["Precision", "TorchModel", "resolve_device"]

Precision = Literal["float32", "bfloat16", "float16"]
DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
COMPILED_SHAPES = 64
"""More than there are batch shapes: powers of two, and a self-test's."""
CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.TransformerEncoder, nn.TransformerEncoderLayer)


def resolve_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` into a device that is there.

    Raises:
        Mistake: a CUDA device is asked for and absent.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise Mistake(f"model.device: {name} is not there: set it to auto or cpu, or give the machine a GPU")
    return device


class TorchModel(nn.Module):
    """Runs the user's module once, and taps the feature vector on the way.

    ``feature_layer`` names the submodule whose output is the feature vector; by default it is what the last linear
    layer to run gets. Maps of more than two dimensions are averaged over all but the channels.
    """

    def __init__(  # noqa: PLR0913
        self,
        net: nn.Module,
        *,
        example: Tensor,
        outputs: int | None,
        feature_layer: str | None = None,
        last_linear: str | None = None,
        imputation: Imputation | None = None,
        precision: Precision = "float32",
        device: torch.device | str = "cpu",
        compiled: bool = False,
    ) -> None:
        """Wrap ``net``, and try it on ``example`` (n, ...).

        ``outputs`` is the number of classes (None: as many as it gives), or 1 for regression; one logit for two classes
        makes it ``binary``.

        Raises:
            Mistake: the module does not take the example, or does not give one tensor of that many outputs.
        """
        super().__init__()
        self.device, self.precision, self.compiled = torch.device(device), precision, compiled
        self.binary = False
        self.imputation = None if imputation is None else imputation.to(self.device)
        if not isinstance(net, torch.export.UnflattenedModule):  # which has no training mode to leave
            net.eval()
        net.requires_grad_(False)
        self.net = net.to(self.device)
        self._captured: list[Tensor] = []
        self._traced = threading.local()
        example = example.to(self.device)
        last_linear = last_linear or self._find_last_linear(example)
        self.head = self._find_head(last_linear)
        self._tap(feature_layer, last_linear)
        self.outputs = self._check(example, outputs)
        self._run: Callable[[Tensor], tuple[Tensor, Tensor]] = self._forward
        if compiled:
            self._compile(example)

    @torch.inference_mode()
    def forward(self, x: Tensor) -> ModelOutput:
        """Run rows (n, ...) on the model's device; logits (n, k) and features (n, d) come back as float32."""
        return ModelOutput(*self._run(self.prepare(x)))

    def prepare(self, x: Tensor) -> Tensor:
        """Give the module's own input: the rows with missing values filled."""
        return x if self.imputation is None else self.imputation(x)

    def logits(self, prepared: Tensor) -> Tensor:
        """Run the module on prepared rows with gradients, for explainers: (n, k) float32.

        Safe beside a running pipeline, since the tap listens in inference mode alone, which is a thread's own.
        """
        return self._as_logits(self._cast(self.net, prepared))

    def output(self, prepared: Tensor) -> ModelOutput:
        """Run the module on prepared rows with gradients that reach the features too, for explaining a guard's score.

        The tap listens for this thread alone, so that a pipeline beside it neither sees nor disturbs it.
        """
        self._traced.into = []
        try:
            logits = self.logits(prepared)
            return ModelOutput(logits, self._traced.into[-1].float())
        finally:
            del self._traced.into

    def _forward(self, prepared: Tensor) -> tuple[Tensor, Tensor]:
        self._captured.clear()
        logits = self._as_logits(self._cast(self.net, prepared))
        return logits, self._captured[-1].float()

    def _compile(self, example: Tensor) -> None:
        """Compile, a graph for each shape, and try it now: what cannot be compiled must not be found out under load.

        Raises:
            Mistake: it cannot be compiled here.
        """
        from torch._dynamo import config as dynamo  # noqa: PLC0415 - slow to import, and needed here alone

        # Beyond its limit dynamo would compile no more, and say so to nobody.
        dynamo.recompile_limit = max(dynamo.recompile_limit, COMPILED_SHAPES)
        self._run = torch.compile(self._forward, dynamic=False)
        try:
            self(example)
        except Exception as failed:
            why = (str(failed).splitlines() or [type(failed).__name__])[0]
            raise Mistake(
                f"model.compile: the model cannot be compiled here ({why}): "
                "give the machine what is missing, or set it to false"
            ) from failed

    def _cast(self, net: nn.Module, prepared: Tensor) -> Tensor:
        if self.precision == "float32":
            return net(prepared)  # type: ignore[no-any-return]
        # Autocast rather than a half-precision input: a category's index beyond 256 has no bfloat16.
        with torch.autocast(self.device.type, dtype=DTYPES[self.precision]):
            return net(prepared)  # type: ignore[no-any-return]

    def _as_logits(self, raw: Tensor) -> Tensor:
        logits = raw.float().reshape(raw.shape[0], -1)
        return torch.cat([torch.zeros_like(logits), logits], dim=1) if self.binary else logits

    def _find_last_linear(self, example: Tensor) -> str | None:
        ran: list[str] = []
        handles = [
            module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
            for name, module in self.net.named_modules()
            if isinstance(module, nn.Linear)
        ]
        try:
            self._try(example)
        finally:
            for handle in handles:
                handle.remove()
        return ran[-1] if ran else None

    def _find_head(self, last_linear: str | None) -> nn.Linear | None:
        if last_linear is None:
            return None
        weights = dict(self.net.get_submodule(last_linear).named_parameters())
        if "weight" not in weights:
            return None
        head = nn.Linear(weights["weight"].shape[1], weights["weight"].shape[0], bias="bias" in weights, device="meta")
        head.weight = nn.Parameter(weights["weight"].detach(), requires_grad=False)
        if "bias" in weights:
            head.bias = nn.Parameter(weights["bias"].detach(), requires_grad=False)
        return head

    def _tap(self, feature_layer: str | None, last_linear: str | None) -> None:
        if feature_layer is not None:
            try:
                layer = self.net.get_submodule(feature_layer)
            except AttributeError as missing:
                names = [name for name, _ in self.net.named_children()]
                raise Mistake(f"model.features: no submodule {feature_layer!r}; there are {names}") from missing
            last = isinstance(layer, CHANNELS_LAST)
            layer.register_forward_hook(lambda _m, _i, out: self._capture(out, channels_last=last))
        elif last_linear is not None:
            self.net.get_submodule(last_linear).register_forward_pre_hook(
                lambda _m, args, kwargs: self._capture((*args, *kwargs.values())[0], channels_last=True),
                with_kwargs=True,
            )
        else:
            raise Mistake("model.features: the model has no linear layer: name the submodule whose output is a feature")

    def _capture(self, features: Tensor | tuple[Tensor, ...], *, channels_last: bool) -> None:
        # Only the pipeline is ever compiled; and a graph that had to ask for the mode would break in two here.
        into: list[Tensor] | None = self._captured
        if not torch.compiler.is_compiling() and not torch.is_inference_mode_enabled():
            into = getattr(self._traced, "into", None)
        if into is not None:
            into.append(_pool(features, channels_last=channels_last))

    @torch.inference_mode()
    def _try(self, example: Tensor) -> Tensor:
        try:
            return self._cast(self.net, self.prepare(example))
        except Exception as failed:
            raise Mistake(
                f"model: it does not take a batch of shape {tuple(example.shape)}: {type(failed).__name__}: {failed}"
            ) from failed

    @torch.inference_mode()
    def _check(self, example: Tensor, outputs: int | None) -> int:
        self._captured.clear()
        raw = self._try(example)
        if not isinstance(raw, Tensor):
            raise Mistake(f"model: it returned a {type(raw).__name__}; it must return one tensor of logits or values")
        if raw.shape[:1] != (len(example),):
            raise Mistake(
                f"model: it returned shape {tuple(raw.shape)} for {len(example)} rows; the first size is rows"
            )
        width = 1 if raw.ndim == 1 else raw[0].numel()
        self.binary = width == 1 and outputs in (None, 2)
        if not self.binary and outputs not in (None, width):
            expected = (len(example), outputs)
            raise Mistake(f"model: it returned shape {tuple(raw.shape)} where {expected} fits model.task and classes")
        if not self._captured:
            raise Mistake("model.features: that submodule did not run in a forward pass")
        if self._captured[-1].shape[0] != len(example):
            raise Mistake("model.features: that submodule's output does not have one entry per row")
        return 2 if self.binary else width


def _pool(features: Tensor | tuple[Tensor, ...], *, channels_last: bool) -> Tensor:
    """Average maps to (n, d): over the positions (n, ..., d), or behind the channels (n, d, ...)."""
    if isinstance(features, tuple):
        features = features[0]
    if features.ndim <= 2:  # noqa: PLR2004
        return features.reshape(len(features), -1)
    return features.flatten(1, -2).mean(1) if channels_last else features.flatten(2).mean(2)
