"""Reads two preferences of a client from its headers: an asynchronous answer, and a picture instead of JSON."""

import math
from collections.abc import Mapping

from service.front.http import JSON

__all__ = ["PNG", "may_wait", "wants_picture"]

PNG = "image/png"


def may_wait(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether the client prefers an asynchronous answer: `Prefer: respond-async` (RFC 7240)."""
    preferences = headers.get(b"prefer", b"").decode("latin-1").lower().split(",")
    return any(preference.partition(";")[0].strip() == "respond-async" for preference in preferences)


def wants_picture(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether Accept gives PNG a higher weight than JSON; for each, the most specific media range counts."""
    weights: dict[str, float] = {}
    for part in headers.get(b"accept", b"*/*").decode("latin-1").lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        weights[kind] = weight if math.isfinite(weight) else 0.0

    def most(*kinds: str) -> float:
        return next((weights[kind] for kind in kinds if kind in weights), 0.0)

    picture, text = most(PNG, "image/*", "*/*"), most(JSON, "application/*", "*/*")
    return picture > text
