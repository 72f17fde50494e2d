"""Rows and their answers in shared memory: one slot holds one row on its way to the engine, and the answer back.

A front and the engine map the same memory. The front owns a slot from the moment when it takes the slot until it sends
the slot's number to the engine. Then the engine owns the slot until it sends the number of the request back. So a slot
has one owner at any time and needs no lock. The memory belongs to one connection: if either process dies, the other
process drops the connection and its memory, so that no slot can reach another request.
"""

import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.messages.answer import Answer

__all__ = ["ACCEPTED", "Layout", "Slots"]

Array = npt.NDArray[Any]
SETS, INTERVALS, CAUSES = 0, 1, 2
"""Bits of ``present``: whether a row has a prediction set, an interval and, from bit 2 on, the causes of each guard."""
ACCEPTED = b"\x01"
"""What the engine sends once it has mapped the memory that a front handed over."""
LINE = 64
"""Bytes of a cache line: no two slots share one."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What one slot holds: a row of ``shape``, and the answer of ``guards`` guards to it.

    ``classes`` is the number of labels, or 0 for a regression. ``causes`` maps each guard to the number of causes that
    the guard can name; a guard that names no causes is left out.
    """

    shape: tuple[int, ...]
    guards: int
    classes: int
    causes: Mapping[str, int]

    @property
    def dtype(self) -> np.dtype[np.void]:
        """The slot as a numpy structured type, padded to a whole number of cache lines."""
        parts: list[tuple[str, Any, tuple[int, ...]]] = [
            ("x", np.float32, self.shape),
            ("action", np.uint8, ()),
            ("present", np.uint64, ()),
            ("p_value", np.float32, (self.guards,)),
            ("flagged", np.bool_, (self.guards,)),
        ]
        if self.classes:
            parts += [
                ("probabilities", np.float32, (self.classes,)),
                ("label", np.int32, ()),
                ("members", np.bool_, (self.classes,)),
            ]
        else:
            parts += [("value", np.float32, ()), ("interval", np.float32, (2,))]
        parts += [(f"causes.{guard}", np.bool_, (count,)) for guard, count in self.causes.items()]
        packed = np.dtype(parts, align=True)
        size = -(-packed.itemsize // LINE) * LINE
        assert packed.fields is not None  # noqa: S101 - a structured type has fields
        return np.dtype(
            {
                "names": list(packed.names or ()),
                "formats": [packed.fields[name][0] for name in packed.names or ()],
                "offsets": [packed.fields[name][1] for name in packed.names or ()],
                "itemsize": size,
            }
        )


class Slots:
    """The slots of one connection; the front and the engine each map them."""

    def __init__(self, layout: Layout, descriptor: int) -> None:
        """Map the memory of a file descriptor; its size gives the number of slots. The caller closes the descriptor.

        Raises:
            ValueError: the memory has no room for one slot.
        """
        dtype = layout.dtype
        count = os.fstat(descriptor).st_size // dtype.itemsize
        if not count:
            raise ValueError("the shared memory has no room for one slot")
        self._memory = mmap.mmap(descriptor, count * dtype.itemsize)
        self._slots = np.ndarray((count,), dtype, self._memory)
        self._fields = {name: self._slots[name] for name in dtype.names or ()}
        self._causes = tuple(layout.causes)
        self._answered = [name for name in self._fields if name in Answer.__slots__]
        self._classes = layout.classes
        self.x: Array = self._fields["x"]
        """The rows (slots, ...) float32."""

    @staticmethod
    def make(layout: Layout, count: int) -> int:
        """Make memory for ``count`` slots, and give its file descriptor. Pages that are never used take no memory.

        Raises:
            OSError: the system has no memory files, or no more descriptors.
        """
        descriptor = os.memfd_create("guardhouse-rows", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, count * layout.dtype.itemsize)
        return descriptor

    def release(self, first: int) -> None:
        """Give the memory of all slots from ``first`` on back to the system; the slots must be free.

        Raises:
            OSError: the system cannot take memory back.
        """
        start = -(-first * self._slots.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE
        if start < len(self._memory):
            self._memory.madvise(mmap.MADV_REMOVE, start, len(self._memory) - start)

    @property
    def slot_bytes(self) -> int:
        """The size of one slot."""
        return self._slots.itemsize

    def __len__(self) -> int:
        """Count the slots."""
        return len(self._slots)

    def rows(self, slots: tuple[int, ...]) -> Array:
        """Give the rows (n, ...) of slots: the memory itself if the slots follow one another, otherwise a copy."""
        found: Array = self.x[_places(slots)]
        return found

    def write(self, slots: Sequence[int], answer: Answer) -> None:
        """Put the answer to rows (n,) into their slots (n,)."""
        at, present = _places(slots), 0
        ours = self._fields
        ours["action"][at], ours["p_value"][at], ours["flagged"][at] = answer.action, answer.p_value, answer.flagged
        if self._classes:
            ours["probabilities"][at], ours["label"][at] = answer.probabilities, answer.label
            if answer.members is not None:
                present |= 1 << SETS
                ours["members"][at] = answer.members
        else:
            ours["value"][at] = answer.value
            if answer.interval is not None:
                present |= 1 << INTERVALS
                ours["interval"][at] = answer.interval
        if answer.causes:
            for bit, guard in enumerate(self._causes, CAUSES):
                if (causes := answer.causes.get(guard)) is not None:
                    present |= 1 << bit
                    ours[f"causes.{guard}"][at] = causes
        ours["present"][at] = present

    def read(self, slots: Sequence[int]) -> Answer:
        """Copy the answer to the rows of slots."""
        if len(slots) == 1:
            return self._read_one(slots[0])
        at = np.asarray(slots)
        ours = self._fields
        each = ours["present"][at]
        present = int(np.bitwise_or.reduce(each))
        causes = {}
        if present >> CAUSES:
            for bit, guard in enumerate(self._causes, CAUSES):
                if present >> bit & 1:  # at least one of the rows has causes of this guard
                    named = (each >> np.uint64(bit) & np.uint64(1)).astype(bool)
                    causes[guard] = ours[f"causes.{guard}"][at] & named[:, None]
        return self._answer({name: ours[name][at] for name in self._answered}, present, causes)

    def _read_one(self, slot: int) -> Answer:
        """Copy the answer to one row with one copy of the slot: a copy of each field would cost more than the bytes."""
        dtype = self._slots.dtype
        copy = np.frombuffer(self._memory[slot * dtype.itemsize : (slot + 1) * dtype.itemsize], dtype)
        present = int(copy["present"][0])
        causes = {}
        if present >> CAUSES:
            bits = enumerate(self._causes, CAUSES)
            causes = {guard: copy[f"causes.{guard}"] for bit, guard in bits if present >> bit & 1}
        return self._answer(copy, present, causes)

    def _answer(self, found: Any, present: int, causes: Mapping[str, Array]) -> Answer:  # noqa: ANN401 - by field
        """Make an answer of arrays by the name of their field, which nothing else changes."""
        labelled = self._classes > 0
        return Answer(
            action=found["action"],
            p_value=found["p_value"],
            flagged=found["flagged"],
            violated=None,
            causes=causes,
            probabilities=found["probabilities"] if labelled else None,
            label=found["label"] if labelled else None,
            members=found["members"] if labelled and present >> SETS & 1 else None,
            value=None if labelled else found["value"],
            interval=found["interval"] if not labelled and present >> INTERVALS & 1 else None,
        )


def _places(slots: Sequence[int]) -> slice | Array:
    """Index slots: by a slice if they follow one another, because numpy then makes no array of places."""
    first, rows = slots[0], len(slots)
    in_order = rows == 1 or tuple(slots) == tuple(range(first, first + rows))
    return slice(first, first + rows) if in_order else np.asarray(slots)
