"""Error answers as problem documents (RFC 9457), in the shape that all paths share."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from pydantic import BaseModel, Field

__all__ = [
    "MAX_ERRORS",
    "PROBLEM",
    "InferenceProblemDocument",
    "Problem",
    "ProblemDocument",
    "ProblemError",
    "deadline_passed",
    "fault_of_ours",
    "unavailable",
    "unprocessable",
]

PROBLEM = "application/problem+json"
MAX_ERRORS = 20
MAX_SENTENCE = 1000


class ProblemError(BaseModel):
    """One fault and its place in the request."""

    loc: list[str | int]
    msg: str


class ProblemDocument(BaseModel):
    """The body of every error answer."""

    type: str = "about:blank"
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    request_id: str
    errors: list[ProblemError]


class InferenceProblemDocument(ProblemDocument):
    """The same with what the Open Inference Protocol asks for."""

    error: str


class Problem(Exception):  # noqa: N818 - the RFC's own word
    """An error answer. Any code that handles a request may raise it; the outermost layer writes it."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        errors: Sequence[tuple[Sequence[str | int], str]] = (),
        headers: Mapping[str, str] | None = None,
        reason: str | None = None,
    ) -> None:
        """Describe a fault; ``errors`` are pairs (place, message), ``reason`` names why the server shed the request."""
        super().__init__(detail)
        self.status, self.detail, self.errors = status, detail, errors
        self.headers, self.reason = dict(headers or {}), reason

    @property
    def sentence(self) -> str:
        """The detail and all faults in one line, for protocols that have room for one line only."""
        places = (f"{'.'.join(map(str, loc))}: {msg}" if loc else msg for loc, msg in self.errors[:MAX_ERRORS])
        sentence = "; ".join([self.detail, *places])
        return sentence if len(sentence) <= MAX_SENTENCE else f"{sentence[:MAX_SENTENCE]}..."

    def body(self, request_id: str, *, error: bool = False) -> bytes:
        """Write the problem document; ``error`` adds the Open Inference Protocol's member of that name."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": self.detail,
            "request_id": request_id,
            "errors": [{"loc": list(loc), "msg": msg} for loc, msg in self.errors[:MAX_ERRORS]],
        }
        if error:
            document["error"] = self.sentence
        return orjson.dumps(document)


def unprocessable(errors: Sequence[tuple[Sequence[str | int], str]]) -> Problem:
    """Make the problem 422, for a well-formed body that cannot be turned into rows; it lists the faults."""
    hidden = len(errors) - MAX_ERRORS
    more = f" (the first {MAX_ERRORS} of them are listed)" if hidden > 0 else ""
    faults = "1 fault" if len(errors) == 1 else f"{len(errors)} faults"
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"the body has {faults}{more}", errors=errors)


def unavailable(detail: str, *, reason: str, retry_after: float = 1.0) -> Problem:
    """Make the problem 503, for a server that cannot take the request now; Retry-After says when to try again."""
    headers = {"Retry-After": str(max(1, round(retry_after)))}
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=headers, reason=reason)


def fault_of_ours() -> Problem:
    """Make the problem 500, which says that the server is at fault and hides the details."""
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "a fault of the server's; it is logged")


def deadline_passed() -> Problem:
    """Make the problem 504, for a request whose deadline has passed."""
    return Problem(HTTPStatus.GATEWAY_TIMEOUT, "the request's deadline passed")
