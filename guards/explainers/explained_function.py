"""The explained function: one number for each row, as a function of rows that the model can take."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from guards.detectors.base import Detector
from guards.input.schema import InputSchema
from guards.model.torch_model import TorchModel
from guards.types import Batch, Mistake

__all__ = ["NotExplainableError", "Subject"]

CHUNK = 64
Parts = tuple[Tensor, ...]


class NotExplainableError(Exception):
    """This method cannot explain this row; the message says which could, or what is missing."""


class Subject(nn.Module):
    """The target's logit, the regression's value, or the score of a guard's ``detector``.

    Gradient methods see a row as ``parts``: the prepared row itself, and the output of each embedding layer that
    ``embeddings`` names, since an index into a table of embeddings has no gradient. Which column each element of such
    an output belongs to is found by changing the columns one at a time.

    ``baselines`` (b, ...) are prepared rows. ``checkpoint`` is called before every run of the model, and may raise to
    end an explanation early.
    """

    def __init__(
        self,
        model: TorchModel,
        schema: InputSchema,
        *,
        baselines: Tensor | None = None,
        embeddings: Sequence[str] = (),
        detector: Detector | None = None,
    ) -> None:
        """Find the embeddings.

        Raises:
            Mistake: one of ``embeddings`` is no layer of the model, or its output cannot be told apart by columns.
        """
        super().__init__()
        self.model, self.schema, self.detector = model, schema, detector
        self.baselines = (neutral(model, schema) if baselines is None else baselines).to(model.device)
        self.chunk = min(CHUNK, model.most_rows or CHUNK)
        self.checkpoint: Callable[[], None] = lambda: None
        self.layers = [_layer(model, name) for name in embeddings]
        self.owners = [self._owner(name, layer) for name, layer in zip(embeddings, self.layers, strict=True)]

    def prepare(self, x: Tensor) -> Tensor:
        """Prepare rows (n, ...) for the model, as tensors outside inference mode."""
        return self.model.prepare(x.to(self.model.device)).clone()

    def as_sent(self, prepared: Tensor) -> Tensor:
        """Give prepared rows (m, ...) in the scale in which they were sent."""
        return prepared if self.model.imputation is None else self.model.imputation.as_sent(prepared)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Give the number (m,) for prepared rows (m, ...), the embedded parts if there are any, and targets (m,)."""
        prepared, *embedded, target = inputs
        self.checkpoint()
        with self._replaced(embedded):
            if self.detector is not None:
                output = self.model.output(prepared, views=self.detector.reads_views)
                return self.detector.score(Batch(self.as_sent(prepared), output=output))
            logits = self.model.logits(prepared)
        if self.model.binary:  # logits are [0, z]: the log odds of either class are z or -z
            return torch.where(target == 1, logits[:, 1], -logits[:, 1])
        return logits.gather(1, target[:, None])[:, 0]

    @torch.no_grad()
    def evaluate(self, prepared: Tensor, target: Tensor) -> Tensor:
        """Give the number (m,) for any number of prepared rows, a few at a time."""
        pieces = zip(torch.split(prepared, self.chunk), torch.split(target, self.chunk), strict=True)
        return torch.cat([self(rows, targets) for rows, targets in pieces])

    def gradient(self, parts: Parts, target: Tensor) -> tuple[Tensor, Parts]:
        """Give the number (m,) and its gradients with regard to each part, a few rows at a time."""
        numbers, gradients = [], []
        for start in range(0, len(target), self.chunk):
            few = tuple(part[start : start + self.chunk].detach().requires_grad_() for part in parts)
            with torch.enable_grad():
                number = self(*few, target[start : start + self.chunk])
            blank = tuple(torch.zeros_like(part) for part in few)
            gradients.append(
                torch.autograd.grad(number.sum(), few, allow_unused=True, materialize_grads=True)
                if number.requires_grad
                else blank
            )
            numbers.append(number.detach())
        return torch.cat(numbers), tuple(map(torch.cat, zip(*gradients, strict=True)))

    def split(self, row: Tensor, baseline: Tensor) -> tuple[Parts, Parts]:
        """Split a row and a baseline (1, ...) into parts; an embedded category's embedding changes, not its index."""
        if not self.layers:
            return (row,), (baseline,)
        owned = torch.zeros(len(self.schema.columns), dtype=torch.bool, device=row.device)
        for owner in self.owners:
            owned[owner[owner >= 0]] = True
        kept = torch.where(owned & self.schema.categorical.to(row.device), row, baseline)
        return (row, *self._embedded(row)), (kept, *self._embedded(baseline))

    def merge(self, values: Sequence[Tensor]) -> Tensor:
        """Sum contributions (1, ...) of all parts into the row's shape; an embedding contributes to its column."""
        merged = values[0].clone()
        for value, owner in zip(values[1:], self.owners, strict=True):
            known = owner >= 0
            merged[0].index_add_(0, owner[known], value[0].flatten()[known].to(merged.dtype))
        return merged

    def refuse_blind_columns(self, row: Tensor, baseline: Tensor, values: Tensor, target: Tensor, method: str) -> None:
        """Refuse contributions (1, d) if a categorical column without a gradient changes the number.

        Raises:
            NotExplainableError: the number changes with a categorical column that got no contribution.
        """
        if self.schema.kind != "tabular":
            return
        suspect = self.schema.categorical.to(row.device) & (row != baseline)[0] & (values[0] == 0)
        columns = suspect.nonzero()[:, 0]
        if not len(columns):
            return
        switched = row.repeat(len(columns), 1)
        switched[torch.arange(len(columns)), columns] = baseline[0, columns]
        at_row = self.evaluate(row, target)
        change = (self.evaluate(switched, target.expand(len(columns))) - at_row).abs()
        blind = columns[change > 1e-6 * (1 + at_row.abs())].tolist()
        if blind:
            names = [self.schema.names[column] for column in blind]
            raise NotExplainableError(
                f"{method}: the model has no gradient in the categorical columns {names}, so their contribution would "
                "be lost: name its embedding layers under `explain.embeddings`, or use feature_ablation, kernel_shap "
                "or shapley, which need none"
            )

    @contextmanager
    def _replaced(self, embedded: Sequence[Tensor]) -> Iterator[None]:
        """Let the embedding layers return ``embedded`` in place of their own outputs, in this thread alone."""
        thread = threading.get_ident()

        def replace(value: Tensor) -> Callable[[nn.Module, object, Tensor], Tensor | None]:
            return lambda _module, _inputs, out: value.reshape(out.shape) if threading.get_ident() == thread else None

        handles = [
            layer.register_forward_hook(replace(value)) for layer, value in zip(self.layers, embedded, strict=False)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def _embedded(self, prepared: Tensor) -> list[Tensor]:
        """Give the output (m, ...) of each embedding layer for prepared rows (m, ...)."""
        return [_captured(self.model, layer, prepared) for layer in self.layers]

    @torch.no_grad()
    def _owner(self, name: str, layer: nn.Module) -> Tensor:
        """Find the column that changes each element of a layer's flattened output for one row; -1 if no column does."""
        columns = self.schema.columns
        if self.schema.kind != "tabular":
            raise Mistake("explain.embeddings: only a table's categories need an embedding layer; leave it out")
        row = self.prepare(self.schema.example_rows(2)[:1])
        owner: Tensor | None = None
        for index, column in enumerate(columns):
            codes = torch.arange(len(column.categories or ()), dtype=row.dtype, device=row.device)
            values = codes if column.kind == "categorical" else row[0, index] + torch.tensor([0.0, 1.0, 10.0]).to(row)
            changed = row.repeat(len(values), 1)
            changed[:, index] = values
            out = _captured(self.model, layer, changed)
            if len(out) != len(changed):
                raise Mistake(f"explain.embeddings: {name} does not give one entry per row")
            differs = (out != out[:1]).flatten(1).any(0)
            owner = torch.full_like(differs, -1, dtype=torch.int64) if owner is None else owner
            if bool((differs & (owner >= 0)).any()):
                raise Mistake(
                    f"explain.embeddings: the output of {name} mixes {column.name!r} with another column; name the "
                    "layer that looks each of them up"
                )
            owner[differs] = index
        assert owner is not None  # noqa: S101 - a table has columns
        if bool((owner < 0).all()):
            raise Mistake(f"explain.embeddings: the output of {name} depends on no column; name the layer that does")
        return owner


def neutral(model: TorchModel, schema: InputSchema) -> Tensor:
    """Give the baseline (1, ...) without any information: zeros, or for a table the imputed values."""
    if model.imputation is not None:
        return model.imputation.typical
    return torch.zeros((1, *schema.shape), device=model.device)


def _layer(model: TorchModel, name: str) -> nn.Module:
    try:
        return model.net.get_submodule(name)
    except AttributeError as missing:
        names = [inner for inner, module in model.net.named_modules() if isinstance(module, nn.Embedding)]
        raise Mistake(
            f"explain.embeddings: no submodule {name!r}; the embeddings are {names or 'nowhere'}"
        ) from missing


def _captured(model: TorchModel, layer: nn.Module, prepared: Tensor) -> Tensor:
    found: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, out: found.append(out.detach()))
    try:
        model.logits(prepared)
    finally:
        handle.remove()
    if len(found) != model.pieces(len(prepared)) or not isinstance(found[0], Tensor):
        raise Mistake("explain.embeddings: the layer must run once in a forward pass, and give one tensor")
    return torch.cat(found)[: len(prepared)].float()
