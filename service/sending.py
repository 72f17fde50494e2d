"""``guardhouse feedback``: outcomes from a CSV file, sent in batches until the server has them."""

import csv
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from guards.types import Mistake
from service.protocols.outcomes import MAX_OUTCOMES, RESULTS

__all__ = ["NotSentError", "Sender", "read_outcomes"]

COLUMNS = ("id", "label", "probability")
TRIES = 8
LONGEST_WAIT_SECONDS = 30.0
TIMEOUT_SECONDS = 60.0
Outcome = Mapping[str, Any]
Result = dict[str, Any]


class NotSentError(Exception):
    """The server did not take the outcomes; those it acknowledged are counted, and the file may be sent again."""


def read_outcomes(path: Path, *, numbers: bool) -> list[Outcome]:
    """Read a CSV with the columns id, label and, where known, probability; ``numbers`` where labels are such.

    Raises:
        Mistake: the file is not like that; one sentence for each of the first faults, with its line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            names = rows.fieldnames or []
            if not {"id", "label"} <= set(names) <= set(COLUMNS) or len(set(names)) < len(names):
                raise Mistake(f"{path}: its first line names the columns id, label and, if you like, probability")
            outcomes, faults = [], []
            for row in rows:
                try:
                    outcomes.append(_outcome(row, numbers=numbers))
                except ValueError as fault:
                    faults.append(f"{path}, line {rows.line_num}: {fault}")
    except (OSError, UnicodeDecodeError, csv.Error) as unreadable:
        raise Mistake(f"{path}: cannot be read: {unreadable}") from None
    if faults:
        raise Mistake(*faults[:20], *([f"... and {len(faults) - 20} more"] if len(faults) > 20 else []))  # noqa: PLR2004
    return outcomes


def _outcome(row: Mapping[Any, Any], *, numbers: bool) -> Outcome:
    if None in row or None in row.values():
        raise ValueError("it has not as many fields as the first line")
    if not row["id"]:
        raise ValueError("the id is empty")
    outcome: dict[str, Any] = {"id": row["id"], "label": _number(row["label"], "label") if numbers else row["label"]}
    if row.get("probability"):
        outcome["probability"] = _number(row["probability"], "probability")
        if not 0 < outcome["probability"] <= 1:
            raise ValueError(f"the probability {row['probability']} is not in (0, 1]")
    return outcome


def _number(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"the {name} {text!r} is no finite number")
    return value


class Sender:
    """Speaks to one server; what it refuses for now is sent again, which counts once."""

    def __init__(self, url: str, *, sleep: Callable[[float], None] = time.sleep, **options: Any) -> None:  # noqa: ANN401
        """Prepare to send to a server's ``url``; ``options`` are httpx.Client's."""
        self._sleep = sleep
        try:
            self._client = httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS, **options)
        except httpx.InvalidURL as invalid:
            raise Mistake(f"--url {url}: {invalid}") from None
        self._url, self._name = url, ""

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def labels_are_numbers(self) -> bool:
        """Ask the server for its model, and tell whether that answers numbers.

        Raises:
            NotSentError: it cannot be reached.
            Mistake: it is no such server.
        """
        names = self._asked("GET", "/v1/models").get("models")
        if not isinstance(names, list) or not names:
            raise Mistake(f"--url {self._url}: there is no model")
        self._name = str(names[0])
        outputs = self._asked("GET", f"/v2/models/{self._name}").get("outputs", [])
        return any(output.get("name") == "value" for output in outputs)

    def send(self, outcomes: Sequence[Outcome]) -> Iterator[tuple[int, Result]]:
        """Send in batches; before the first and after each, give how many outcomes went and what became of all so far.

        Raises:
            NotSentError: the server did not take them for so long that it is better to ask somebody.
            Mistake: it refuses them, as of a label that is not the model's.
        """
        result: Result = {name: 0 if name == "accepted" else [] for name in RESULTS}
        yield 0, result
        for start in range(0, len(outcomes), MAX_OUTCOMES):
            part = outcomes[start : start + MAX_OUTCOMES]
            answer = self._asked("POST", f"/v1/models/{self._name}:feedback", start, outcomes=part)
            for name in RESULTS:
                result[name] += answer[name]
            yield len(part), result

    def _asked(self, method: str, path: str, start: int = 0, **body: Any) -> Mapping[str, Any]:  # noqa: ANN401
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
            return self._read(response, start)
        raise NotSentError(f"{self._url} does not take it, after {TRIES} tries: {trouble}")

    def _read(self, response: httpx.Response, start: int) -> Mapping[str, Any]:
        try:
            document = response.json()
        except ValueError:
            document = None
        if response.status_code == HTTPStatus.OK and isinstance(document, dict):
            return document
        if response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY and isinstance(document, dict):
            raise Mistake(*(_refusal(error, start) for error in document.get("errors", [])))
        raise Mistake(f"{response.request.url}: answered {response.status_code}: {response.text[:200]}")


def _refusal(error: Mapping[str, Any], start: int) -> str:
    """Say where in the file a fault is: the server tells its place in the batch."""
    match error["loc"]:
        case ["outcomes", int(place), *rest]:
            return f"outcome {start + place + 1}, {'.'.join(map(str, rest))}: {error['msg']}"
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"
