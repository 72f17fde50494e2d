"""Errors as RFC 9457 problem documents, in the one shape that every path answers."""

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
    """An answer that is an error; raised anywhere in a request, written by the outermost layer."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        errors: Sequence[tuple[Sequence[str | int], str]] = (),
        headers: Mapping[str, str] | None = None,
        reason: str | None = None,
    ) -> None:
        """Describe a fault; ``errors`` are (place, message), ``reason`` names why a request was shed."""
        super().__init__(detail)
        self.status, self.detail, self.errors = status, detail, errors
        self.headers, self.reason = dict(headers or {}), reason

    @property
    def sentence(self) -> str:
        """Say everything in one line, for protocols that have no more room than that."""
        places = (f"{'.'.join(map(str, loc))}: {msg}" if loc else msg for loc, msg in self.errors[:MAX_ERRORS])
        sentence = "; ".join([self.detail, *places])
        return sentence if len(sentence) <= MAX_SENTENCE else f"{sentence[:MAX_SENTENCE]}..."

    def body(self, request_id: str, *, error: bool = False) -> bytes:
        """Write the problem document, with the Open Inference Protocol's ``error`` where it is to have one."""
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
    """Say that a well-formed body makes no rows, and list why."""
    hidden = len(errors) - MAX_ERRORS
    more = f" (the first {MAX_ERRORS} of them are listed)" if hidden > 0 else ""
    faults = "1 fault" if len(errors) == 1 else f"{len(errors)} faults"
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"the body has {faults}{more}", errors=errors)


def unavailable(detail: str, *, reason: str, retry_after: float = 1.0) -> Problem:
    """Say that this server cannot take the request now, and when to come again."""
    headers = {"Retry-After": str(max(1, round(retry_after)))}
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=headers, reason=reason)


def fault_of_ours() -> Problem:
    """Say that the server is at fault, and nothing of how."""
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "a fault of the server's; it is logged")


def deadline_passed() -> Problem:
    """Say that the answer came too late to be one."""
    return Problem(HTTPStatus.GATEWAY_TIMEOUT, "the request's deadline passed")
