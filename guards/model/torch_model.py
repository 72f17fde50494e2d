"""The user's model as the pipeline sees it: float32 rows in, logits and features out, in one forward pass."""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout
from typing import Literal

import torch
from torch import Tensor, nn

from guards.input.imputation import Imputation
from guards.model.early_features import EarlyTap, first_layers, layers_that_run
from guards.model.features import Tap, find_head
from guards.model.outputs import Meaning, as_logits, described, outputs_in, width_of
from guards.model.trial_run import Trial
from guards.notices import Notices
from guards.sentences import first_line
from guards.types import Mistake, ModelOutput

__all__ = ["Precision", "TorchModel", "resolve_device", "taken_at_once"]

Precision = Literal["float32", "bfloat16", "float16"]
DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
COMPILED_SHAPES = 64
"""More than the number of batch shapes, which are powers of two and the shape of a self-test."""


def resolve_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` into a device that this machine has.

    Raises:
        Mistake: ``name`` is a CUDA device that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise Mistake(f"model.device: {name} is not there: set it to auto or cpu, or give the machine a GPU")
    return device


class TorchModel(nn.Module):
    """Runs the user's module once, and taps the feature vector on the way.

    ``feature_layer`` names the submodule whose output is the feature vector; by default the feature vector is the input
    of the last linear layer that runs. Maps of more than two dimensions are averaged over all but the channels.
    ``early`` names the submodules whose pooled outputs are the early features; true: they are found; false: there are
    none. ``meaning`` says what the outputs are; this class turns them into logits. If the module takes at least
    ``least_rows`` and at most ``most_rows`` rows at once, a larger batch is split, and a smaller batch is padded with
    its last row. If a guard reads them, ``views`` makes views (v, n, ...) of rows, which run in the same pass:
    the module gets ``rows_each`` = 1 + v rows for each row.
    """

    def __init__(  # noqa: PLR0913
        self,
        net: nn.Module,
        *,
        example: Tensor,
        outputs: int | None,
        feature_layer: str | None = None,
        last_linear: str | None = None,
        early: Sequence[str] | bool = False,
        imputation: Imputation | None = None,
        precision: Precision = "float32",
        device: torch.device | str = "cpu",
        compiled: bool = False,
        meaning: Meaning = "logits",
        least_rows: int = 1,
        most_rows: int | None = None,
        views: Callable[[Tensor], Tensor] | None = None,
        notices: Notices | None = None,
    ) -> None:
        """Wrap ``net``, and try it on ``example`` (n, ...).

        ``outputs`` is the number of classes (None: the number of the module's outputs), or 1 for regression. If the
        module has one logit for two classes, the model is ``binary``.

        Raises:
            Mistake: the module does not take the example, or does not return one tensor with so many outputs.
        """
        super().__init__()
        self.device, self.precision, self.compiled = torch.device(device), precision, compiled
        self.meaning, self.least_rows, self.most_rows = meaning, least_rows, most_rows
        self.binary, self.views = False, views
        self.imputation = None if imputation is None else imputation.to(self.device)
        if not isinstance(net, torch.export.UnflattenedModule):  # a program has no training mode
            net.eval()
        for parameter in net.parameters():
            parameter.requires_grad_(False)
        self.net = net.to(self.device)
        notices = notices or Notices()
        prepared = taken_at_once(self.prepare(example.to(self.device)), least_rows, most_rows)
        trial = Trial.of(net, self._cast, prepared)
        self._prints, self._changes_input = trial.prints, trial.changes_input
        trial.tell(notices)
        self.rows_each = 1 if views is None else 1 + len(views(prepared[:1]))
        self.head = find_head(net, last_linear or trial.last_linear)
        self.tap = Tap(net, feature_layer, last_linear or trial.last_linear)
        self.early = self._early(prepared, early, notices)
        self.outputs = self._check(prepared, outputs, notices)
        self._run: Callable[[Tensor], tuple[Tensor, ...]] = self.eager
        if compiled:
            self._compile(example.to(self.device))

    def forward(self, x: Tensor) -> ModelOutput:
        """Run rows (n, ...), which are on the model's device: logits (n, k) and features (n, d), float32."""
        if not torch.is_inference_mode_enabled():  # the pipeline is in inference mode already
            with torch.inference_mode():
                return self.forward(x)
        return self._judged(self.prepare(x), self._run)

    def prepare(self, x: Tensor) -> Tensor:
        """Turn rows into the module's input: missing values are filled, and columns are scaled."""
        return x if self.imputation is None else self.imputation(x)

    def logits(self, prepared: Tensor) -> Tensor:
        """Run the module on prepared rows with gradients, for explainers: (n, k) float32.

        Another thread may run a pipeline meanwhile: the tap listens only in inference mode, which each thread enters
        for itself.
        """
        return self._in_pieces(prepared, lambda piece: (self._as_logits(self.raw(piece)),))[0]

    def output(self, prepared: Tensor, *, views: bool = False) -> ModelOutput:
        """Run the module on prepared rows with gradients that reach the features too, for explaining a guard's score.

        Views run only if ``views`` is true, that is, if the explained guard reads them.
        The taps listen in this thread alone, so that a pipeline in another thread is not disturbed.
        """
        with ExitStack() as listening:
            late = listening.enter_context(self.tap.traced())
            early = [] if self.early is None else listening.enter_context(self.early.traced())

            def run(rows: Tensor) -> tuple[Tensor, ...]:
                return self._in_pieces(rows, lambda piece: self._piece(piece, late, early))

            return self._judged(prepared, run) if views else ModelOutput(*run(prepared))

    def _judged(self, prepared: Tensor, run: Callable[[Tensor], tuple[Tensor, ...]]) -> ModelOutput:
        """Run prepared rows, and their views behind them."""
        if self.views is None:
            return ModelOutput(*run(prepared))
        n, views = prepared.shape[0], self.views(prepared)
        found = run(torch.cat([prepared, views.flatten(0, 1)]))
        seen = found[0][n:].reshape(len(views), n, found[0].shape[1]).transpose(0, 1)
        logits, features, *early = (part[:n] for part in found)
        return ModelOutput(logits, features, early[0] if early else None, seen)

    def eager(self, prepared: Tensor) -> tuple[Tensor, ...]:
        """Run the module on prepared rows without compiling it: logits (n, k), features (n, d), early features (n, e).

        Without a tap of early layers there are no early features.
        """
        early = [] if self.early is None else self.early.captured
        return self._in_pieces(prepared, lambda piece: self._piece(piece, self.tap.captured, early))

    def raw(self, prepared: Tensor) -> Tensor:
        """Run the module on prepared rows, as many as it takes at once, and find the tensor of outputs."""
        if self._changes_input:
            prepared = prepared.clone()
        return outputs_in(self._call(prepared))

    def _piece(self, prepared: Tensor, late: list[Tensor], early: list[tuple[int, Tensor]]) -> tuple[Tensor, ...]:
        late.clear()
        early.clear()
        logits = self._as_logits(self.raw(prepared))
        features = late[-1].float() if self.tap.layer is not None else logits
        return (logits, features) if self.early is None else (logits, features, self.early.features(early))

    def pieces(self, rows: int) -> int:
        """Count the passes that a batch of so many rows takes."""
        return 1 if self.most_rows is None else max(1, -(-rows // self.most_rows))

    def _in_pieces(self, prepared: Tensor, run: Callable[[Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        n = prepared.shape[0]  # `len` of a tensor is a Python function, and takes three times as long
        if not n or (n >= self.least_rows and (self.most_rows is None or n <= self.most_rows)):
            return run(prepared)
        parts = []
        for piece in torch.split(prepared, self.most_rows or n):
            filled = taken_at_once(piece, self.least_rows, self.most_rows)
            parts.append([tensor[: len(piece)] for tensor in run(filled)])
        return tuple(torch.cat(each) for each in zip(*parts, strict=True))

    def _compile(self, example: Tensor) -> None:
        """Compile the module, a graph for each shape, and try it now, so that a failure does not appear under load.

        Raises:
            Mistake: the module cannot be compiled on this machine.
        """
        from torch._dynamo import config as dynamo  # noqa: PLC0415 - slow to import, and needed here alone

        # Beyond its limit dynamo stops compiling without a warning.
        dynamo.recompile_limit = max(dynamo.recompile_limit, COMPILED_SHAPES)
        self._run = torch.compile(self.eager, dynamic=False)
        try:
            self(example)
        except Exception as failed:
            why = first_line(failed)
            raise Mistake(
                f"model.compile: the model cannot be compiled here ({why}): "
                "give the machine what is missing, or set it to false"
            ) from failed

    def _call(self, prepared: Tensor) -> object:
        if not self._prints:
            return self._cast(prepared)
        with redirect_stdout(sys.stderr):  # standard output may be one JSON document
            return self._cast(prepared)

    def _cast(self, prepared: Tensor) -> object:
        if self.precision == "float32":
            return self.net(prepared)
        # Autocast, and not a half-precision input: bfloat16 cannot hold every category index above 256.
        with torch.autocast(self.device.type, dtype=DTYPES[self.precision]):
            return self.net(prepared)

    def _as_logits(self, raw: Tensor) -> Tensor:
        return as_logits(raw.float().reshape(raw.shape[0], -1), self.meaning, binary=self.binary)

    @torch.inference_mode()
    def _check(self, prepared: Tensor, outputs: int | None, notices: Notices) -> int:
        self.tap.captured.clear()
        returned = self._call(prepared)
        raw = outputs_in(returned)
        if raw is not returned:
            notices.note(
                f"model: its forward returns {described(returned)}; the tensor of {tuple(raw.shape)} was taken"
            )
        width = width_of(raw, len(prepared), outputs)
        self.binary = width == 1 and outputs in (None, 2)
        if self.tap.layer is not None:
            self.tap.check(len(prepared), notices)
            self.head = None if self.tap.layer is None else self.head
        elif not isinstance(self.net, torch.jit.ScriptModule):  # another note says more of these
            notices.note(
                "model.features: the model has no linear layer, so that the features that guards look at are the "
                "model's own outputs; name a submodule to use its output"
            )
        if self.early is not None and not self.early.check(len(prepared), notices):
            self.early = None
        return 2 if self.binary else width

    def _early(self, prepared: Tensor, wanted: Sequence[str] | bool, notices: Notices) -> EarlyTap | None:
        layers = first_layers(layers_that_run(self.net, self._cast, prepared)) if wanted is True else wanted or ()
        # Of a scripted module, whose layers cannot be seen, another note says more.
        if wanted is True and not layers and not isinstance(self.net, torch.jit.ScriptModule):
            notices.note(
                "model.early: no convolution or linear layer runs before the last one, so that guards see no early "
                "layer; name a submodule to use its output"
            )
        return EarlyTap(self.net, layers, named=wanted is not True) if layers else None


def taken_at_once(rows: Tensor, least: int, most: int | None) -> Tensor:
    """Cut rows (n, ...) to at most ``most``, or pad them with the last row to at least ``least``."""
    rows = rows[:most]
    return torch.cat([rows, rows[-1:].expand(max(0, least - len(rows)), *rows.shape[1:])])
