"""The key that commands send to a server. It comes from the environment, because every user can see arguments."""

import os
from collections.abc import Mapping
from http import HTTPStatus

__all__ = ["KEY_HINT", "key_header", "needs_key"]

VARIABLE = "GUARDHOUSE_API_KEY"
KEY_HINT = f"name a key with the right scope in the environment variable {VARIABLE}"


def key_header(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Give the header with the key; no header if the environment names no key."""
    key = environment.get(VARIABLE)
    return {"Authorization": f"Bearer {key}"} if key else {}


def needs_key(status: int) -> bool:
    """Say whether a server refused because of the key."""
    return status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
