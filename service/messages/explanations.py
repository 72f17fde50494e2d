"""What a front and the explanation desk send each other: rows with a question about them, and the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import orjson

__all__ = [
    "ADMIT",
    "EXPLAIN",
    "EXPLAIN_LATER",
    "GIVE_BACK",
    "JOB_ANSWER",
    "ExplainAnswer",
    "ExplainRequest",
    "Fault",
    "Meter",
    "Status",
]

ADMIT, GIVE_BACK = "explain_admit", "explain_give_back"
"""The names of a front's questions about a client's allowance: take from the allowance; give back what was taken."""
EXPLAIN, EXPLAIN_LATER, JOB_ANSWER = "explain", "explain_job", "explain_result"
"""The names of a front's other questions: explain now, explain later, give the answer of a job."""
Fault = tuple[tuple[str | int, ...], str]
"""A place in the request, and a sentence that says what is wrong there."""
Meter = Sequence[Any]
"""The name of a bucket, its tokens a second, and its burst: where seconds of work are charged."""
Status = Literal["ok", "unfit", "timeout", "fault", "replaced", "waiting", "unknown"]
"""How a request ended.

``unfit``: the request has faults. ``fault``: the server failed. ``replaced``: the model that the job was for is no
longer served. ``waiting``: the job has no answer yet. ``unknown``: there is no such job.
"""


@dataclass(frozen=True, slots=True, eq=False)
class ExplainRequest:
    """Rows and a question about them.

    ``question`` has the keys ``method``, ``target``, ``steps`` and ``top_k``; None stands for the default. ``x`` are
    the rows (n, ...) float32, ``ids`` their ids (n). If ``picture`` is true, the answer is a PNG and not JSON. The
    answer belongs to the principal ``owner``, if there is one: nobody else gets it, from the cache or as a job's. If
    there is a ``meter``, the seconds of work are charged to it. The owner may have ``most_kept`` jobs.
    """

    question: Mapping[str, Any]
    ids: Sequence[str]
    x: npt.NDArray[np.float32]
    picture: bool
    request_id: str
    owner: str | None = None
    meter: Meter | None = None
    most_kept: int | None = None

    def head(self) -> dict[str, Any]:
        """Give everything but the rows, as plain data."""
        return {
            "question": dict(self.question),
            "ids": list(self.ids),
            "picture": self.picture,
            "request_id": self.request_id,
            "owner": self.owner,
            "meter": self.meter,
            "most_kept": self.most_kept,
            "shape": list(self.x.shape),
        }

    @classmethod
    def of(cls, head: Mapping[str, Any], rows: bytes) -> Self:
        """Read what :meth:`head` gave; ``rows`` are the bytes of ``x``.

        Raises:
            ValueError: the bytes are not of that shape.
        """
        x = np.frombuffer(rows, dtype=np.float32).reshape(head["shape"])
        # A job that an earlier version kept has no owner and no meter.
        more = (head.get("owner"), head.get("meter"), head.get("most_kept"))
        return cls(head["question"], head["ids"], x, head["picture"], head["request_id"], *more)

    def pack(self) -> bytes:
        """Write the request as one string of bytes: a line of JSON, then the rows."""
        return orjson.dumps(self.head()) + b"\n" + self.x.tobytes()

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """Read what :meth:`pack` wrote.

        Raises:
            ValueError: these bytes are no request.
        """
        line, _, rows = packed.partition(b"\n")
        return cls.of(orjson.loads(line), rows)


@dataclass(frozen=True, slots=True, eq=False)
class ExplainAnswer:
    """The answer to a request: ``body`` if the status is ``ok``, ``faults`` if the status is ``unfit``.

    The body is a PNG if ``picture`` is true, and otherwise the JSON document of all rows.
    """

    status: Status
    body: bytes = b""
    picture: bool = False
    faults: Sequence[Fault] = ()

    def frame(self) -> tuple[dict[str, Any], bytes]:
        """Write the answer as the head and the body of a frame."""
        faults = [[list(place), sentence] for place, sentence in self.faults]
        return {"status": self.status, "picture": self.picture, "faults": faults}, self.body

    @classmethod
    def of(cls, head: Mapping[str, Any], body: bytes) -> Self:
        """Read what :meth:`frame` gave."""
        faults = [(tuple(place), sentence) for place, sentence in head["faults"]]
        return cls(head["status"], body, head["picture"], faults)
