"""Answers a checked request, from the cache or by the process that explains, and counts the answer."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

import orjson

from guards.config.explain import ExplainConfig
from service.explain.cache import Recent
from service.explain.worker_client import ExplanationWorker
from service.messages.explanations import ExplainAnswer, ExplainRequest, Meter
from service.messages.refused import Refused
from service.processes import EndedError

__all__ = ["Answers", "Count", "Counter", "Histogram"]

LOG = logging.getLogger("guardhouse")
WITHHELD = (
    "the action on this row is {}, so it was not answered, and there is nothing to explain: `:predict` with "
    "`parameters.detail` says which guards did it and why; `explain.rejected: true` in the config allows it"
)


class Counter(Protocol):
    """A counter with labels."""

    def add(self, *labels: str) -> None:
        """Count once."""


class Histogram(Protocol):
    """A histogram with labels."""

    def observe(self, value: float, *labels: str) -> None:
        """Add one observation."""


Charge = Callable[[Meter, float], None]


class Count(Protocol):
    """The counters and histograms of explanations."""

    @property
    def explanations(self) -> Counter:
        """Requests, by method and result."""

    @property
    def explain_duration(self) -> Histogram:
        """Seconds, by method."""


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """An answer without the rows' ids: a JSON object for each row, or one picture."""

    pieces: tuple[bytes, ...]

    @property
    def nbytes(self) -> int:
        """The size in bytes."""
        return sum(map(len, self.pieces))

    @classmethod
    def cut(cls, body: bytes, sizes: Sequence[int]) -> "Pieces":
        """Cut a body into pieces of these sizes."""
        ends = [0]
        for size in sizes:
            ends.append(ends[-1] + size)
        return cls(tuple(body[start:end] for start, end in pairwise(ends)))

    def answer(self, request: ExplainRequest) -> ExplainAnswer:
        """Make the answer to a request by adding the request's ids."""
        if request.picture:
            return ExplainAnswer("ok", self.pieces[0], picture=True)
        rows = zip(request.ids, self.pieces, strict=True)
        each = [b'{"id":' + orjson.dumps(name) + b"," + piece[1:] for name, piece in rows]
        return ExplainAnswer("ok", b'{"explanations":[' + b",".join(each) + b"]}")


class Answers:
    """Answers the requests about one bundle. A recent answer is given again from the cache."""

    def __init__(
        self, bundle: str, section: ExplainConfig, worker: ExplanationWorker, count: Count, charge: Charge
    ) -> None:
        """Count in ``count``, and ``charge`` the seconds of work on requests with a meter."""
        self._charge = charge
        self._bundle, self._default, self._worker, self._count = bundle, section.method, worker, count
        self._recent: Recent[Pieces] = Recent(section.cache_bytes)

    async def answer(self, request: ExplainRequest, deadline: float) -> ExplainAnswer:
        """Answer a request that passed the checks, or say why not; ``deadline`` is by ``time.monotonic``.

        Raises:
            Refused: too many requests wait. Such a request is not counted as an explanation.
        """
        method = request.question["method"] or self._default
        started, result = time.perf_counter(), "error"
        try:
            answer, result = await self._found(request, deadline)
        except Refused:
            result = "shed"
            raise
        except TimeoutError:
            answer, result = ExplainAnswer("timeout"), "timeout"
        except EndedError:
            answer, result = ExplainAnswer("fault"), "crashed"
        except asyncio.CancelledError:  # the deadline of the request passed, or the client left
            result = "timeout"
            raise
        finally:
            if result != "shed":
                self._count.explanations.add(method, result)
                self._count.explain_duration.observe(time.perf_counter() - started, method)
        return answer

    async def _found(self, request: ExplainRequest, deadline: float) -> tuple[ExplainAnswer, str]:
        """Give the answer, and the value of the label ``result`` under which the answer is counted."""
        head = {**request.question, "picture": request.picture}
        rows = request.x.tobytes()
        key = hashlib.sha256(orjson.dumps([self._bundle, request.owner, head]) + rows).digest()
        if (known := self._recent.get(key)) is not None:
            return known.answer(request), "cached"
        spent = None if request.meter is None else partial(self._charge, request.meter)
        said, body = await self._worker.explain(head, rows, deadline, spent)
        if said["status"] == "ok":
            made = Pieces.cut(body, said["pieces"])
            self._recent.put(key, made)
            return made.answer(request), "ok"
        return _without_answer(said, request)


def _without_answer(said: Mapping[str, Any], request: ExplainRequest) -> tuple[ExplainAnswer, str]:
    """Turn the process's reason for explaining nothing into an answer and the result that it counts as."""
    status = said["status"]
    if status == "withheld":
        faults = [(("instances", row), WITHHELD.format(action)) for row, action in said["rows"]]
        return ExplainAnswer("unfit", faults=faults), "refused"
    if status == "refused":
        return ExplainAnswer("unfit", faults=[(("instances",), said["message"])]), "refused"
    if status == "timeout":
        return ExplainAnswer("timeout"), "timeout"
    LOG.error("%s in the process that explains, at request %s", said["kind"], request.request_id)
    return ExplainAnswer("fault"), "error"
