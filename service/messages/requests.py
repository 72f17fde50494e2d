"""The records that a front and the engine send each other about rows over a stream socket, many at a time.

The rows and the answers themselves are in shared memory (:mod:`service.messages.slots`). A request says which slots
hold its rows; a reply says that the slots hold the answer, or why they do not.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

__all__ = ["ANSWERED", "DROPPED", "FAILED", "Records", "Reply", "Request", "Withdrawal", "replies", "requests"]

REQUEST = struct.Struct("<IIIIdd")
"""Number, flags, rows, bytes of ids and groups, deadline, when it was submitted (seconds of the monotonic clock)."""
REPLY = struct.Struct("<III")
"""Number of the request, what became of it, bytes of the JSON behind it."""
SLOT_BYTES = 4
CAUSES, STAGES, WITHDRAWN = 1, 2, 4
ANSWERED, FAILED, DROPPED = 0, 1, 2
"""What became of a request. Answered: its slots hold the answer. Failed: the model raised an exception. Dropped: the
deadline passed, or nobody waits for the answer."""
Groups = Mapping[str, Sequence[str | None]]


@dataclass(slots=True)
class Request:
    """Rows in slots, with an id for each row, and the groups that the client named."""

    number: int
    slots: tuple[int, ...]
    ids: Sequence[str]
    deadline: float
    submitted: float
    groups: Groups = field(default_factory=dict)
    causes: bool = False
    stages: bool = False
    client: str = ""
    """Whose request it is, for guards with memory; empty if there are none."""

    def pack(self) -> bytes:
        """Write the request as a record."""
        more = [self.groups, self.client] if self.client else [self.groups] if self.groups else []
        said = orjson.dumps([self.ids, *more])
        flags = CAUSES * self.causes | STAGES * self.stages
        rows = len(self.slots)
        head = REQUEST.pack(self.number, flags, rows, len(said), self.deadline, self.submitted)
        return head + struct.pack(f"<{rows}I", *self.slots) + said


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Nobody waits for a request of ``rows`` rows any more. The engine still sends a reply, which frees the slots."""

    number: int
    rows: int

    def pack(self) -> bytes:
        """Write the withdrawal as a record."""
        return REQUEST.pack(self.number, WITHDRAWN, self.rows, 0, 0.0, 0.0)


@dataclass(slots=True)
class Reply:
    """What became of a request. ``said`` is JSON: the stages of an answered request, or the error of a failed one."""

    number: int
    status: int
    said: bytes = b""

    def pack(self) -> bytes:
        """Write the reply as a record."""
        return REPLY.pack(self.number, self.status, len(self.said)) + self.said


class Records:
    """The bytes of a stream that are not a whole record yet."""

    def __init__(self) -> None:
        self._rest = b""

    def add(self, data: bytes) -> bytes:
        """Append new bytes to the kept bytes, and return all of them."""
        return self._rest + data if self._rest else data

    def keep(self, data: bytes, start: int) -> None:
        """Keep the bytes from ``start`` on, which are not a whole record yet."""
        self._rest = data[start:]


def requests(records: Records, data: bytes) -> list[Request | Withdrawal]:
    """Read all whole requests and withdrawals from a stream's next bytes."""
    data = records.add(data)
    found: list[Request | Withdrawal] = []
    start, end, head = 0, len(data), REQUEST.size
    while end - start >= head:
        number, flags, rows, size, deadline, submitted = REQUEST.unpack_from(data, start)
        if flags & WITHDRAWN:
            found.append(Withdrawal(number, rows))
            start += head
            continue
        stop = start + head + rows * SLOT_BYTES + size
        if stop > end:
            break
        slots = struct.unpack_from(f"<{rows}I", data, start + head)
        ids, *more = orjson.loads(data[stop - size : stop])
        named: Groups = more[0] if more else {}
        client: str = more[1] if len(more) > 1 else ""
        asked = {"causes": bool(flags & CAUSES), "stages": bool(flags & STAGES)}
        found.append(Request(number, slots, ids, deadline, submitted, named, **asked, client=client))
        start = stop
    records.keep(data, start)
    return found


def replies(records: Records, data: bytes) -> list[Reply]:
    """Read all whole replies from a stream's next bytes."""
    data = records.add(data)
    found: list[Reply] = []
    start, end, head = 0, len(data), REPLY.size
    while end - start >= head:
        number, status, size = REPLY.unpack_from(data, start)
        stop = start + head + size
        if stop > end:
            break
        found.append(Reply(number, status, data[stop - size : stop]))
        start = stop
    records.keep(data, start)
    return found
