"""The target behind a URL: a running server, which shows an attacker what it shows everybody."""

import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

import httpx
import numpy as np

from guards.attacks.pipeline_target import shows_flags
from guards.attacks.space import Rows
from guards.attacks.target import WITHHELD, Answers, Client
from guards.bundle.bundle import Bundle
from guards.types import Mistake

__all__ = ["HttpTarget"]

TRIES = 10
AT_ONCE = 16
"""So many requests are under way at the same time, of different accounts."""
BYTES = 24
"""A number of a row takes at most so many bytes as JSON."""
BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class HttpTarget:
    """Sends v1 predict requests. An account is an API key, or a value of a header by which the server knows clients.

    What a server does not show is not seen: a row counts as flagged if its answer has a reason or no label.
    """

    def __init__(
        self,
        bundle: Bundle,
        client: httpx.Client,
        *,
        keys: Sequence[str] = (),
        header: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Speak to the server at the client's base URL, which must serve ``bundle``.

        Raises:
            Mistake: the server does not answer, or serves another bundle.
        """
        self._bundle, self._client, self._keys, self._header, self._sleep = bundle, client, tuple(keys), header, sleep
        self._run, server = secrets.token_hex(4), bundle.config.server
        values = int(np.prod(bundle.schema.shape))
        self._most = max(1, min(server.max_rows_per_request, server.max_body_bytes // (2 * BYTES * values)))
        self.shows_flags = shows_flags(bundle.config)
        self._path = f"/v1/models/{bundle.config.name}:predict"
        served = self._post(bundle.schema.example_rows(1).numpy(), Client("hello", 0))["model"]["bundle"]
        if served != bundle.id:
            raise Mistake(f"--url {client.base_url}: it serves the bundle {served}, and not {bundle.id}")

    def ask(self, x: Rows, clients: Sequence[Client]) -> Answers:
        """Answer rows (n, ...); the rows of one client in order, different clients at the same time.

        Raises:
            Mistake: the server refuses a request, or does not answer.
        """
        places: dict[Client, list[int]] = {}
        for place, client in enumerate(clients):
            places.setdefault(client, []).append(place)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            parts = list(pool.map(lambda each: self._ask(x[each[1]], each[0]), places.items()))
        order = np.argsort(np.concatenate(list(places.values())))
        return Answers.join(parts).reordered(order)

    def forget(self) -> None:
        """A server forgets by itself: every attack has names of its own, unless accounts are keys."""

    def _ask(self, x: Rows, client: Client) -> Answers:
        pieces = [x[start : start + self._most] for start in range(0, len(x), self._most)]
        return Answers.join([self._answers(self._post(piece, client)["predictions"]) for piece in pieces])

    def _answers(self, predictions: Sequence[dict[str, Any]]) -> Answers:
        classes = self._bundle.classes
        codes = {name: code for code, name in enumerate(classes)}
        labels = [WITHHELD if each["label"] is None else codes[each["label"]] for each in predictions]
        blank = dict.fromkeys(classes, np.nan)
        shown = [[(each.get("probabilities") or blank).get(name, 0.0) for name in classes] for each in predictions]
        acted = np.array([each["action"] != "allow" for each in predictions])
        return Answers(np.array(labels, dtype=np.int64), np.array(shown, dtype=np.float64), acted, acted)

    def _post(self, x: Rows, client: Client) -> Any:  # noqa: ANN401 - JSON
        headers = {}
        if self._keys:
            headers["Authorization"] = f"Bearer {self._keys[client.account % len(self._keys)]}"
        if self._header is not None:
            headers[self._header] = f"{self._run} {client.attack} {client.account}"
        try:
            for _ in range(TRIES):
                reply = self._client.post(self._path, json={"instances": self._instances(x)}, headers=headers)
                if reply.status_code not in BUSY:
                    break
                self._sleep(float(reply.headers.get("Retry-After", "1")))
        except (httpx.HTTPError, httpx.InvalidURL) as unreachable:
            raise Mistake(f"--url: {self._client.base_url} does not answer ({unreachable})") from unreachable
        if reply.status_code != HTTPStatus.OK:
            raise Mistake(f"--url: {reply.request.url} answered {reply.status_code}: {reply.text[:200]}")
        try:
            document = reply.json()
            document["model"]["bundle"], document["predictions"]  # a KeyError tells
        except (ValueError, KeyError, TypeError) as strange:
            raise Mistake(f"--url {self._client.base_url}: that is no Guardhouse server, or an older one") from strange
        return document

    def _instances(self, x: Rows) -> list[Any]:
        """Write rows as JSON has them: null for a missing value, the name of a category."""
        columns = self._bundle.schema.columns
        if not columns:
            return list(x.tolist())
        return [
            {
                column.name: None
                if np.isnan(value)
                else (column.categories or ())[int(value)]
                if column.kind == "categorical"
                else float(value)
                for column, value in zip(columns, row, strict=True)
            }
            for row in x
        ]
