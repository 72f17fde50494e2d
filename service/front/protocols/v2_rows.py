"""Turns the input tensors of a v2 request into rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from guards.input.cell_faults import Fault
from guards.input.column import Column
from guards.input.schema import Floats, InputSchema
from service.front.protocols.images import stack_files
from service.front.protocols.problem import unprocessable
from service.front.protocols.v1 import Errors, Request, read_groups, read_ids
from service.front.protocols.v2_tensors import BOOL, BYTES, DTYPES, Numbers, Tensor

__all__ = ["GROUP", "ID", "MATRIX", "rows_of", "to_rows"]

MATRIX, ID, GROUP = "x", "id", "group_"
IMAGE_TYPES = ("FP16", "FP32", "FP64", "UINT8")
NUMERIC_TYPES = tuple(DTYPES)
INPUTS = ("inputs",)


@dataclass(slots=True, eq=False)
class Roles:
    """The tensors of a request, sorted by what each tensor is for: rows, ids or groups."""

    matrix: Tensor | None = None
    columns: dict[str, Tensor] = field(default_factory=dict)
    ids: Tensor | None = None
    groups: dict[str, Tensor] = field(default_factory=dict)

    @property
    def rows(self) -> list[Tensor]:
        """The tensors that hold the rows' values."""
        return [*self.columns.values(), *([self.matrix] if self.matrix is not None else [])]

    def drop(self, tensor: Tensor) -> None:
        """Remove a tensor that has a fault."""
        self.columns = {name: other for name, other in self.columns.items() if other is not tensor}
        self.groups = {name: other for name, other in self.groups.items() if other is not tensor}
        self.ids = None if self.ids is tensor else self.ids

    @property
    def beside(self) -> list[Tensor]:
        """The tensors that are sent beside the rows: groups and ids."""
        return [*self.groups.values(), *([self.ids] if self.ids is not None else [])]


def to_rows(
    tensors: Sequence[Tensor],
    *,
    schema: InputSchema,
    max_rows: int,
    groups: Sequence[str],
    parameters: Mapping[str, Any],
    errors: Errors,
) -> Request:
    """Turn tensors into rows. ``errors`` holds the faults found so far, ``groups`` the names of declared attributes.

    Raises:
        Problem: 422 if the tensors cannot be turned into rows, with every fault and its place; 400 if binary data
            disagree with their description.
    """
    roles = _roles(tensors, schema, errors)
    n = _count(roles, max_rows, errors)
    x = _matrix(roles.matrix, schema, errors) if roles.matrix is not None else _table(roles.columns, n, schema, errors)
    ids = _ids(roles.ids, n, errors)
    given = _groups(roles.groups, n, groups, errors)
    if errors:
        raise unprocessable(errors)
    return Request(x, ids, given, parameters)


def _roles(tensors: Sequence[Tensor], schema: InputSchema, errors: Errors) -> Roles:
    """Find what each tensor is for.

    A tensor `x` holds all columns of a table. But if a column is named `x`, and it is the only column or other columns
    are sent too, the tensor `x` is that column.
    """
    roles = Roles()
    names = set(schema.names)
    alone = not any(tensor.name in names - {MATRIX} for tensor in tensors)
    for tensor in tensors:
        as_matrix = schema.kind != "tabular" or MATRIX not in names or (alone and len(names) > 1)
        if tensor.name == MATRIX and as_matrix:
            roles.matrix = tensor
            if schema.kind == "tabular" and not alone:
                errors.append((tensor.place, "give either `x` or one tensor for each column"))
        elif tensor.name in names:
            roles.columns[tensor.name] = tensor
        elif tensor.name == ID:
            roles.ids = tensor
        elif tensor.name.startswith(GROUP):
            roles.groups[tensor.name.removeprefix(GROUP)] = tensor
        else:
            known = ", ".join([*dict.fromkeys((*schema.names, MATRIX)), ID, f"{GROUP}NAME"])
            errors.append(((*tensor.place, "name"), f"unknown input; there are {known}"))
    if roles.matrix is None and not errors:
        missing = [name for name in (schema.names or [MATRIX]) if name not in roles.columns]
        errors += [(INPUTS, f"missing input {name!r}") for name in missing]
    return roles


def _count(roles: Roles, max_rows: int, errors: Errors) -> int:
    """Return the number of rows, before any value is read; tensors with another number of rows are removed.

    Raises:
        Problem: 422, there are no rows, or too many rows.
    """
    counts = [tensor.shape[0] for tensor in roles.rows if tensor.shape]
    if not counts:
        errors += [((*tensor.place, "shape"), "expected rows, got a scalar") for tensor in roles.rows]
        raise unprocessable(errors)
    n = counts[0]
    if not 1 <= n <= max_rows:
        place = (*roles.rows[0].place, "shape")
        raise unprocessable([*errors, (place, f"{n} rows, where a request may have 1 to {max_rows}")])
    for tensor in [*roles.columns.values(), *roles.beside]:
        if tensor.shape not in ((n,), (n, 1)):
            errors.append(((*tensor.place, "shape"), f"expected [{n}], got {list(tensor.shape)}"))
            roles.drop(tensor)
    return n


def _matrix(tensor: Tensor, schema: InputSchema, errors: Errors) -> Floats:
    if schema.kind == "image" and tensor.datatype == BYTES:
        return _files(tensor, schema, errors)
    numbers = tensor.numbers(errors, nullable=schema.kind == "tabular") if _fits(tensor, schema, errors) else None
    if numbers is None:
        return np.empty((0, *schema.shape), dtype=np.float32)
    x, faults = rows_of(numbers, tensor.datatype, schema)
    errors += [(tensor.spot(fault.row, *_index(fault)), fault.message) for fault in faults]
    return x


def rows_of(numbers: Numbers, datatype: str, schema: InputSchema) -> tuple[Floats, list[Fault]]:
    """Turn numbers (n, *shape) of a datatype into rows; UINT8 of an image or a tensor are divided by 255."""
    if schema.kind != "tabular" and datatype == "UINT8":
        return numbers.astype(np.float32) / np.float32(255), []
    return schema.take(numbers)


def _fits(tensor: Tensor, schema: InputSchema, errors: Errors) -> bool:
    """Return whether a tensor has the shape and a datatype of rows, and whether its numbers have only one meaning."""
    if tensor.shape[1:] != schema.shape:
        wanted = ", ".join(map(str, schema.shape))
        errors.append(((*tensor.place, "shape"), f"expected [rows, {wanted}], got {list(tensor.shape)}"))
        return False
    if not _typed(tensor, (*IMAGE_TYPES, BYTES) if schema.kind == "image" else NUMERIC_TYPES, errors):
        return False
    two = [message for column in schema.columns if (message := _two_meanings(column, tensor.datatype)) is not None]
    errors += [((*tensor.place, "name"), message) for message in two]
    return not two


def _two_meanings(column: Column, datatype: str) -> str | None:
    """Return why a number could mean one category by index and another by name; None if the meaning is clear."""
    if column.kind == "categorical" and datatype == BOOL:
        return f"{column.name!r} has categories: send their indices as numbers, or one tensor for each column"
    name = column.misread_category
    if name is None:
        return None
    index = (column.categories or ()).index(name)
    return (
        f"{column.name!r} has a category {name!r} whose index is {index}, so a number could mean either: send one "
        f"tensor for each column, {column.name!r} as BYTES"
    )


def _files(tensor: Tensor, schema: InputSchema, errors: Errors) -> Floats:
    """Decode PNG and JPEG files; each element of the tensor is a file."""
    n = tensor.shape[0]
    if tensor.shape not in ((n,), (n, 1)):
        errors.append(((*tensor.place, "shape"), f"expected [{n}], a file for each row, got {list(tensor.shape)}"))
        return np.empty((0, *schema.shape), dtype=np.float32)
    x, faults = stack_files(tensor.files(errors) or [], n, schema)
    errors += [(tensor.spot(*(fault.row, 0)[: len(tensor.shape)]), fault.message) for fault in faults]
    return x


def _table(columns: Mapping[str, Tensor], n: int, schema: InputSchema, errors: Errors) -> Floats:
    table = {column.name: _column(columns.get(column.name), column, n, errors) for column in schema.columns}
    x, faults = schema.encode(table)
    for fault in faults:
        tensor = columns[str(fault.place[0])]
        errors.append((tensor.spot(*(fault.row, 0)[: len(tensor.shape)]), fault.message))
    return x


def _column(tensor: Tensor | None, column: Column, n: int, errors: Errors) -> Sequence[object] | Numbers:
    """Read one column. A column with faults is read as blanks, so that faults of other columns are also found."""
    if column.kind == "numeric":
        sound = tensor is not None and _typed(tensor, NUMERIC_TYPES, errors)
        numbers = tensor.numbers(errors, nullable=True) if tensor is not None and sound else None
        return np.zeros(n) if numbers is None else numbers.reshape(n)
    sound = tensor is not None and _typed(tensor, (BYTES, BOOL), errors)
    if tensor is not None and tensor.datatype == BOOL:
        numbers = tensor.numbers(errors, nullable=True)
        return [None] * n if numbers is None else [_boolean(number) for number in numbers.reshape(n).tolist()]
    texts = tensor.strings(errors) if tensor is not None and sound else None
    return [text or None for text in texts or [None] * n]


def _boolean(number: float) -> bool | None:
    return None if math.isnan(number) else bool(number)


def _ids(tensor: Tensor | None, n: int, errors: Errors) -> list[str]:
    if tensor is None:
        return read_ids(None, n, errors)
    texts = tensor.strings(errors) if _typed(tensor, (BYTES,), errors) else None
    found: Errors = []
    ids = read_ids(texts, n, found)
    errors += [(tensor.spot(*(int(row), 0)[: len(tensor.shape)]), message) for (_, row), message in found]
    return ids


def _groups(
    tensors: Mapping[str, Tensor], n: int, declared: Sequence[str], errors: Errors
) -> Mapping[str, list[str | None]]:
    given: dict[str, list[str | None]] = {}
    for name, tensor in tensors.items():
        texts = tensor.strings(errors) if _typed(tensor, (BYTES,), errors) else None
        given[name] = [text or None for text in texts or []]
        found: Errors = []
        if texts is not None:
            read_groups({name: given[name]}, n, declared, found)
        errors += [((*tensor.place, "name"), message) for _, message in found]
    return given


def _typed(tensor: Tensor, datatypes: Sequence[str], errors: Errors) -> bool:
    if tensor.datatype in datatypes:
        return True
    known = ", ".join(datatypes)
    errors.append(((*tensor.place, "datatype"), f"expected {known}, got {tensor.datatype}"))
    return False


def _index(fault: Fault) -> tuple[int, ...]:
    return tuple(int(axis) for axis in fault.place)
