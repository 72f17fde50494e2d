"""Whether a request may enter: the key in its head, and the scope that its route needs."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Literal

from service.front.budgets import Budgets
from service.front.protocols.problem import Problem
from service.keys.keyring import Keyring
from service.keys.principal import Principal, Scope
from service.messages.refused import Refused
from service.quotas.budget import Connection
from service.telemetry.request_record import Exchange

__all__ = ["KEY_CODES", "QUOTA_CODES", "Admission", "Needs", "need"]

Needs = Scope | Literal["nothing", "a key"]
"""What a route needs if there are keys: nothing (probes), any key, or a key with a scope."""
KEY_CODES = (401, 403)
QUOTA_CODES = (429,)
"""The codes of a request whose principal has used up a quota."""
AUTHORIZATION, API_KEY = b"authorization", b"x-api-key"
BEARER = b"bearer "
CHALLENGE = {"WWW-Authenticate": "Bearer"}


class Admission:
    """Finds the principal of a request by the request's head alone, before a byte of the body is read."""

    def __init__(self, keyring: Keyring, budgets: Budgets | None = None) -> None:
        """Find principals by ``keyring``; ``budgets`` are what principals with quotas may use."""
        self._keyring, self._budgets = keyring, budgets

    def caller(self, fields: Iterable[tuple[bytes, bytes]], needs: Needs) -> Principal | None:
        """Return who asks, whatever its scopes; None if the route needs no key. :func:`need` checks the scope.

        Raises:
            Problem: 400, two headers hold a key; 401, there is no key, or nobody's.
        """
        if needs == "nothing":
            return None
        given = [(name, value) for name, value in fields if name in (AUTHORIZATION, API_KEY)]
        if len(given) > 1:
            # A proxy may read the first, and this server the second.
            raise Problem(HTTPStatus.BAD_REQUEST, "send one key, in one header")
        principal = self._keyring.find(_key(*given[0])) if given else None
        if principal is None:
            what = "this key is not known" if given else "a key is needed"
            detail = f"{what}: send `Authorization: Bearer KEY` or `X-API-Key: KEY`"
            raise Problem(HTTPStatus.UNAUTHORIZED, detail, headers=CHALLENGE)
        return principal

    async def charge(self, exchange: Exchange, connection: Connection | None) -> None:
        """Count a request, and the connection on which it came, as its principal's.

        Raises:
            Refused: the principal has used up its requests, or has too many connections.
        """
        exchange.budget = None if self._budgets is None else self._budgets.of(exchange.principal)
        if exchange.budget is None:
            return
        if connection is not None:
            try:
                exchange.budget.use(connection)
            except Refused:
                exchange.ends_connection = True
                raise
        await exchange.budget.spend("requests")


def need(principal: Principal | None, needs: Needs) -> None:
    """Check that a caller has the scope that a route needs; None may do everything, because there are no keys.

    Raises:
        Problem: 403, the principal lacks the scope.
    """
    if principal is not None and needs not in ("nothing", "a key") and needs not in principal.scopes:
        raise Problem(HTTPStatus.FORBIDDEN, f"this key has no scope `{needs}`")


def _key(name: bytes, value: bytes) -> bytes:
    """Return the key in a header. A login of another scheme is no key, so nothing that is a key is returned."""
    if name == API_KEY:
        return value
    return value[len(BEARER) :].strip(b" ") if value[: len(BEARER)].lower() == BEARER else b""
