"""``guardhouse feedback``: sends outcomes to a server in batches, and repeats a batch until the server stores it."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import httpx

from guards.cli.server_key import KEY_HINT, key_header, needs_key
from guards.types import Mistake
from service.cli.outcomes_file import FeedbackFile
from service.front.protocols.feedback import MAX_OUTCOMES, MEMBERS
from service.messages.outcomes import REPEATED, REPLACED

__all__ = ["NotSentError", "Sender"]

TRIES = 8
LONGEST_WAIT_SECONDS = 30.0
TIMEOUT_SECONDS = 60.0
Result = dict[str, Any]


class NotSentError(Exception):
    """The server did not take all outcomes. The acknowledged outcomes are stored; the file may be sent again."""


class Sender:
    """Sends requests to one server. If the server is not available, the same request is sent again and counts once."""

    def __init__(self, url: str, *, sleep: Callable[[float], None] = time.sleep, **options: Any) -> None:  # noqa: ANN401
        """Prepare to send to the server at ``url``; ``options`` are passed to httpx.Client."""
        self._sleep = sleep
        try:
            self._client = httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS, headers=key_header(), **options)
        except httpx.InvalidURL as invalid:
            raise Mistake(f"--url {url}: {invalid}") from None
        self._url, self._name = url, ""

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def labels(self) -> list[str] | None:
        """Ask the server for its model's labels; None for a regression.

        Raises:
            NotSentError: the server cannot be reached.
            Mistake: the server at the URL is not a server of this kind.
        """
        names = self._asked("GET", "/v1/models").get("models")
        if not isinstance(names, list) or not names:
            raise Mistake(f"--url {self._url}: there is no model")
        self._name = str(names[0])
        document: Any = self._asked("GET", "/openapi.json")
        path = document.get("paths", {}).get(f"/v1/models/{self._name}:feedback", {})
        try:
            body = path["post"]["requestBody"]["content"]["application/json"]["schema"]
            label = body["properties"]["outcomes"]["items"]["properties"]["label"]
            if "$ref" in label:  # a model with many labels: the document lists them once, at another place
                label = document["components"]["schemas"][label["$ref"].rpartition("/")[2]]
        except KeyError:
            raise Mistake(f"--url {self._url}: it does not say which labels it takes") from None
        return list(label["enum"]) if "enum" in label else None

    def send(self, file: FeedbackFile) -> Iterator[tuple[int, Result]]:
        """Send a file in batches. Yield before the first and after each batch: its size, and what became of all so far.

        Raises:
            NotSentError: the server did not take a batch after several tries.
            Mistake: the server refuses an outcome, for example because the model does not have its label.
        """
        result: Result = {name: 0 if name == "accepted" else [] for name in MEMBERS}
        if file.skipped:
            result["skipped"] = file.skipped
        yield 0, result
        for start in range(0, len(file.outcomes), MAX_OUTCOMES):
            part = file.outcomes[start : start + MAX_OUTCOMES]
            lines = file.lines[start : start + MAX_OUTCOMES]
            answer = self._asked("POST", f"/v1/models/{self._name}:feedback", lines, outcomes=part)
            for name in MEMBERS:
                result[name] += answer[name]
            for name in (REPLACED, REPEATED):
                if name in answer:
                    result[name] = result.get(name, []) + answer[name]
            yield len(part), result

    def _asked(self, method: str, path: str, lines: Sequence[int] = (), **body: Any) -> Mapping[str, Any]:  # noqa: ANN401
        trouble = ""
        for attempt in range(TRIES):
            if attempt:
                self._sleep(min(LONGEST_WAIT_SECONDS, 2.0 ** (attempt - 1)))
            try:
                response = self._client.request(method, path, json=body or None)
            except httpx.HTTPError as lost:
                trouble = f"{type(lost).__name__}: {lost}"
                continue
            if response.status_code in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT):
                trouble = response.text[:200]
                continue
            return self._read(response, lines)
        raise NotSentError(f"{self._url} does not take it, after {TRIES} tries: {trouble}")

    def _read(self, response: httpx.Response, lines: Sequence[int]) -> Mapping[str, Any]:
        try:
            document = response.json()
        except ValueError:
            document = None
        if response.status_code == HTTPStatus.OK and isinstance(document, dict):
            return document
        if response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY and isinstance(document, dict):
            raise Mistake(*(_refusal(error, lines) for error in document.get("errors", [])))
        if needs_key(response.status_code):
            detail = document.get("detail") if isinstance(document, dict) else None
            raise Mistake(f"{response.request.url}: {detail or response.status_code}; {KEY_HINT}")
        raise Mistake(f"{response.request.url}: answered {response.status_code}: {response.text[:200]}")


def _refusal(error: Mapping[str, Any], lines: Sequence[int]) -> str:
    """Write a fault with its line in the file; the server names only the place in the batch."""
    match error["loc"]:
        case ["outcomes", int(place), *rest] if place < len(lines):
            return f"line {lines[place]}, {'.'.join(map(str, rest))}: {error['msg']}"
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"
