"""Tries every category of a table on the model, to find embeddings that are too small."""

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from guards.input.column import Column
from guards.input.imputation import Imputation
from guards.input.schema import InputSchema
from guards.notices import Notices
from guards.sentences import first_line
from guards.types import Mistake

__all__ = ["refuse_small_embeddings"]

TRIED = 4096
"""If a column has more categories, the last are tried: an embedding that is too small fails for the last category."""
ALONE = 256
"""How many categories are tried alone after a run with all of them has failed."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many rows the module takes at once."""

    least: int
    most: int | None


def refuse_small_embeddings(
    net: nn.Module,
    schema: InputSchema,
    imputation: Imputation,
    *,
    least_rows: int,
    most_rows: int | None,
    notices: Notices,
) -> None:
    """Run the module, on the CPU, on every category of each categorical column.

    A module that fails for an ordinary row is refused later, by its trial run. A lookup beyond an embedding would break
    a GPU's process; therefore such lookups are searched for before the module is moved to the GPU.

    Raises:
        Mistake: the module fails for a category, and takes the same row with the column's most frequent category.
    """
    columns = [(index, column) for index, column in enumerate(schema.columns) if column.categories]
    if not columns:
        return
    if not isinstance(net, torch.export.UnflattenedModule):
        net.eval()
    net.cpu()
    bounds, plain = Bounds(least_rows, most_rows), imputation.fill[None]
    usual = _Run.of(net, plain, bounds)
    owners: dict[str, list[Column]] = {}
    sizes: dict[str, int] = {}
    for index, column in columns:
        count = len(column.categories or ())
        codes = torch.arange(max(0, count - TRIED), count)
        rows = plain.repeat(len(codes), 1)
        rows[:, index] = codes.to(rows)
        run = _Run.of(net, rows, bounds)
        for name, indices in run.lookups.items():
            if bool((indices != indices[0]).any()):
                _refuse_beyond(name, run.sizes[name], int(indices.max()), column)
            if count > 1 and sorted(set(indices.tolist())) == codes.tolist():
                owners.setdefault(name, []).append(column)
        if run.failed is not None and usual.failed is None:
            _refuse_failing(net, rows, column, codes, bounds)
        sizes |= run.sizes
    _note_larger(owners, sizes, notices)


def _refuse_beyond(name: str, size: int, largest: int, column: Column) -> None:
    if largest < size:
        return
    count = len(column.categories or ())
    raise Mistake(
        f"input.columns: column {column.name!r} has {count} categories, and the model's embedding {name!r} has {size} "
        f"rows, but the model looks up row {largest}: declare the `categories` that the model was trained with, in "
        "that order, or give the embedding more rows"
    )


def _note_larger(owners: dict[str, list[Column]], sizes: dict[str, int], notices: Notices) -> None:
    """Say that an embedding of one column has more rows than the reference has categories."""
    for name, (column, *more) in owners.items():
        count = len(column.categories or ())
        if not more and sizes[name] > count and not column.categories_declared:
            notices.note(
                f"input.columns: the embedding {name!r} has {sizes[name]} rows, and column {column.name!r} has {count} "
                "categories in the reference: if the model was trained with more categories, declare `categories` of "
                "the column in the order of training"
            )


def _refuse_failing(net: nn.Module, rows: Tensor, column: Column, codes: Tensor, bounds: Bounds) -> None:
    for row, code in zip(rows[-ALONE:], codes[-ALONE:].tolist(), strict=True):
        failed = _Run.of(net, row[None], bounds).failed
        if failed is not None:
            name = (column.categories or ())[code]
            first = first_line(failed, "")
            raise Mistake(
                f"input.columns: column {column.name!r} has {len(column.categories or ())} categories, and the model "
                f"fails for {name!r}, whose index is {code} ({type(failed).__name__}: {first}): is an embedding too "
                "small? Declare the `categories` that the model was trained with, in that order"
            ) from failed


@dataclass(frozen=True, slots=True)
class _Run:
    """A run of the module: what it raised, and which rows of which embedding it looked up."""

    failed: Exception | None
    lookups: dict[str, Tensor]
    sizes: dict[str, int]

    @classmethod
    @torch.inference_mode()
    def of(cls, net: nn.Module, rows: Tensor, bounds: Bounds) -> "_Run":
        """Run rows (n, d), in pieces if the module does not take as many at once."""
        lookups: dict[str, list[Tensor]] = {}
        layers = {} if isinstance(net, torch.jit.ScriptModule) else _embeddings(net)
        handles = [
            layer.register_forward_pre_hook(
                lambda _m, args, kwargs, name=name: lookups.setdefault(name, []).append(
                    (*args, *kwargs.values())[0].detach().clone().flatten()
                ),
                with_kwargs=True,
            )
            for name, layer in layers.items()
        ]
        failed = None
        try:
            with redirect_stdout(sys.stderr):
                for piece in torch.split(rows, bounds.most or len(rows)):
                    lacking = max(0, bounds.least - len(piece))
                    net(torch.cat([piece, piece[-1:].expand(lacking, -1)]))
        except Exception as raised:  # noqa: BLE001 - the user's code may raise anything
            failed = raised
        finally:
            for handle in handles:
                handle.remove()
        seen = {name: torch.cat(each) for name, each in lookups.items() if each[0].numel()}
        return cls(failed, seen, {name: layers[name].num_embeddings for name in seen})


def _embeddings(net: nn.Module) -> dict[str, nn.Embedding | nn.EmbeddingBag]:
    return {name: module for name, module in net.named_modules() if isinstance(module, nn.Embedding | nn.EmbeddingBag)}
