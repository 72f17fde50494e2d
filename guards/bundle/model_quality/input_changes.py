"""Makes other readings of the same rows: with another scale, another order or another coding of the inputs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from guards.input.column import Column
from guards.input.schema import InputSchema
from guards.sentences import named

__all__ = ["InputChange", "input_changes"]

Found = tuple[Callable[[Tensor], Tensor], str]
"""A change of the input, and the order of the categories that a config must declare to make the change."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MOST_COLUMNS = 30
MOST_VALUES = 50
MOST_PERMUTED = 4
RGB = 3


@dataclass(frozen=True, slots=True)
class InputChange:
    """A change of the model's input (n, ...).

    In a sentence ``what`` follows "if"; ``advice`` says how to make the change permanent.
    """

    what: str
    advice: str
    apply: Callable[[Tensor], Tensor]


def input_changes(schema: InputSchema, x: Tensor, rows: Tensor, *, may_crash: bool) -> Iterator[InputChange]:
    """Give the changes that would correct a misread input, the most frequent first.

    ``x`` (n, ...) are some training rows as the model gets them; ``rows`` (m, ...) are all training rows as the file
    has them, in the file's order. ``may_crash`` allows changes of categories' indices: a model with embeddings may fail
    for such an index, which on a GPU would end the process.
    """
    if schema.kind == "tabular":
        numeric = ~schema.categorical
        if bool(numeric.any()):
            yield from _scales(x, numeric.to(x.device), "put this into the model, or declare `scale` for the columns")
        yield from _orders(schema, may_crash=may_crash)
        if may_crash:
            yield from _kinds(schema, x, rows)
    else:
        everything = torch.ones(schema.shape, dtype=torch.bool, device=x.device)
        yield from _scales(x, everything, "put this into the model, or save the rows in this way")
        yield from _layouts(schema.shape)


def _scales(x: Tensor, where: Tensor, advice: str) -> Iterator[InputChange]:
    def scaled(what: str, change: Callable[[Tensor], Tensor], how: str = advice) -> InputChange:
        return InputChange(what, how, lambda rows: torch.where(where, change(rows), rows))

    yield scaled("the inputs are multiplied by 255", lambda rows: rows * 255)
    yield scaled("the inputs are divided by 255", lambda rows: rows / 255)
    if x.ndim == 4:  # noqa: PLR2004
        yield scaled("the inputs are scaled from [0, 1] to [-1, 1]", lambda rows: rows * 2 - 1)
        yield scaled("the inputs are inverted (1 - x)", lambda rows: 1 - rows)
        if x.shape[1] == RGB:
            means, sds = (torch.tensor(values, device=x.device)[:, None, None] for values in IMAGENET)
            yield scaled("the inputs are standardised as for ImageNet", lambda rows: (rows - means) / sds)
            yield scaled(
                "ImageNet's standardisation is undone",
                lambda rows: rows * sds + means,
                "the rows and the model both standardise: leave out one of the two",
            )
    over = {3: (0, 1), 4: (0, 2, 3)}.get(x.ndim, (0,))  # for each channel of an image, for each feature of a sequence
    mean, sd = x.mean(over, keepdim=True), x.std(over, keepdim=True)
    sd = torch.where(sd > 0, sd, torch.ones_like(sd))
    yield scaled(
        "the inputs are standardised with the training rows' mean and standard deviation",
        lambda rows: (rows - mean) / sd,
        "put this into the model, which knows the mean and the standard deviation that it was trained with",
    )
    low, high = x.amin(over, keepdim=True), x.amax(over, keepdim=True)
    span = torch.where(high > low, high - low, torch.ones_like(low))
    yield scaled("the inputs are scaled to [0, 1] by their minimum and maximum", lambda rows: (rows - low) / span)


def _layouts(shape: tuple[int, ...]) -> Iterator[InputChange]:
    save = "save the rows in this way"
    if len(shape) == 3:  # noqa: PLR2004 - channels, height, width
        channels, height, width = shape
        if channels == RGB:
            yield InputChange("the colour channels are swapped (RGB and BGR)", save, lambda rows: rows.flip(1))
        if channels > 1:
            yield InputChange(
                "the pixels are read channels last",
                "use transpose(0, 3, 1, 2) to bring channels to the front, and not reshape",
                lambda rows: rows.reshape(-1, height, width, channels).permute(0, 3, 1, 2).contiguous(),
            )
    if len(shape) > 1 and shape[-1] == shape[-2]:
        what = "height and width are exchanged" if len(shape) == 3 else "the last two axes are exchanged"  # noqa: PLR2004
        yield InputChange(what, save, lambda rows: rows.transpose(-1, -2).contiguous())


def _orders(schema: InputSchema, *, may_crash: bool) -> Iterator[InputChange]:
    names, categorical = schema.names, schema.categorical.tolist()
    places = list(range(len(names)))
    orders = {
        "in alphabetical order": sorted(places, key=lambda place: names[place]),
        "the numeric columns first": sorted(places, key=lambda place: categorical[place]),
        "the categorical columns first": sorted(places, key=lambda place: not categorical[place]),
    }
    for what, order in orders.items():
        # A place that holds an index must keep an index, unless a crash would do no harm.
        if order != places and (may_crash or [categorical[place] for place in order] == categorical):
            listed = named([names[place] for place in order], MOST_COLUMNS, quoted=False)
            yield InputChange(
                f"the columns come {what}" if "alphabetical" in what else f"{what} come, and then the others",
                f"list them under input.columns in that order: {listed}",
                partial(_reordered, order),
            )


def _reordered(order: list[int], rows: Tensor) -> Tensor:
    return rows[:, order]


def _kinds(schema: InputSchema, x: Tensor, rows: Tensor) -> Iterator[InputChange]:
    """Change the kind of columns, or the order of their categories, in all columns at once and in each column alone."""
    declare = {
        "is categorical, and each number an index": "kind: categorical",
        "is numeric": "kind: numeric",
        "is coded in the order in which its categories come in the file": "categories: {order}",
    }
    for what, key in declare.items():
        found: dict[str, Found] = {}
        for place, column in enumerate(schema.columns):
            if what.endswith("index"):
                change = _as_index(place, column, x[:, place])
            elif what == "is numeric":
                change = _as_number(place, column, x.device)
            else:
                change = _as_they_come(place, column, rows[:, place], x.device)
            if change is not None:
                found[column.name] = change
        if len(found) > 1:
            names = ", ".join(list(found)[:MOST_COLUMNS]) + (" and more" if len(found) > MOST_COLUMNS else "")
            yield InputChange(
                f"each of the columns {names} {what}",
                f"declare `{key.partition(':')[0]}` for each of them under input.columns",
                partial(_all, [apply for apply, _ in found.values()]),
            )
        for name, (apply, order) in list(found.items())[:MOST_COLUMNS]:
            yield InputChange(
                f"column {name!r} {what}",
                f"declare {{name: {name}, {key.format(order=order)}}} under input.columns",
                apply,
            )
    for place, column in list(enumerate(schema.columns))[:MOST_COLUMNS]:
        yield from _permutations(place, column, x.device)


def _permutations(place: int, column: Column, device: torch.device) -> Iterator[InputChange]:
    """Give every order of a few categories: a file does not say that small comes before medium and large."""
    categories = column.categories or ()
    if not 1 < len(categories) <= MOST_PERMUTED:
        return
    for codes in list(permutations(range(len(categories))))[1:]:
        place_of = torch.empty(len(codes), device=device)
        place_of[torch.tensor(codes, device=device)] = torch.arange(len(codes), dtype=torch.float32, device=device)
        order = [categories[code] for code in codes]
        yield InputChange(
            f"the categories of column {column.name!r} come in the order {order}",
            f"declare {{name: {column.name}, kind: categorical, categories: {order}}} under input.columns",
            partial(_looked_up, place, place_of),
        )


def _all(changes: list[Callable[[Tensor], Tensor]], rows: Tensor) -> Tensor:
    for change in changes:
        rows = change(rows)
    return rows


def _as_index(place: int, column: Column, values: Tensor) -> Found | None:
    distinct = torch.unique(values)
    whole = bool((distinct == distinct.floor()).all())
    if column.kind != "numeric" or not whole or not 1 < len(distinct) <= MOST_VALUES:
        return None
    return None if distinct.tolist() == list(range(len(distinct))) else (partial(_replaced, place, distinct), "")


def _as_number(place: int, column: Column, device: torch.device) -> Found | None:
    try:
        numbers = [float(name) for name in column.categories or ()]
    except ValueError:
        return None
    if not numbers or numbers == list(map(float, range(len(numbers)))):
        return None
    return partial(_looked_up, place, torch.tensor(numbers, device=device)), ""


def _as_they_come(place: int, column: Column, codes: Tensor, device: torch.device) -> Found | None:
    categories = column.categories or ()
    if not 1 < len(categories) <= MOST_VALUES:
        return None
    present = codes[codes >= 0].long().numpy()
    seen, first = np.unique(present, return_index=True)
    come: list[int] = seen[np.argsort(first)].tolist()
    if come == sorted(come):
        return None
    come += [code for code in range(len(categories)) if code not in set(come)]
    place_of = torch.empty(len(come), device=device)
    place_of[torch.tensor(come, device=device)] = torch.arange(len(come), dtype=torch.float32, device=device)
    return partial(_looked_up, place, place_of), str([categories[code] for code in come])


def _replaced(place: int, distinct: Tensor, rows: Tensor) -> Tensor:
    changed = rows.clone()
    changed[:, place] = torch.searchsorted(distinct, rows[:, place].contiguous()).clamp(max=len(distinct) - 1).float()
    return changed


def _looked_up(place: int, values: Tensor, rows: Tensor) -> Tensor:
    changed = rows.clone()
    changed[:, place] = values[rows[:, place].long().clamp(0, len(values) - 1)]
    return changed
