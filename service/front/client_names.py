"""Who asks, as guards with memory know clients: the principal, a header's value, the address, or everybody."""

from hashlib import blake2b

from service.messages.client_name import ALL, address_client, header_client, key_client
from service.telemetry.request_record import Exchange

__all__ = ["ClientNames"]

LONGEST = 64
"""The longest value of a header that names a client as it is; of a longer value, its digest does."""


class ClientNames:
    """Names the client of a request. Names of different kinds are never equal."""

    def __init__(self, header: str | None) -> None:
        """Take the value of ``header`` for the client's name if there are no keys."""
        self._header = None if header is None else header.lower()

    def of(self, exchange: Exchange | None) -> str:
        """Name the client of an exchange; without a principal, a header and an address all clients have one name."""
        if exchange is None:
            return ALL
        if exchange.principal is not None:
            return key_client(exchange.principal.name)
        value = None if self._header is None else self._value(exchange)
        if value:
            if len(value) >= LONGEST:
                value = blake2b(value.encode(), digest_size=LONGEST // 2).hexdigest()
            return header_client(value)
        return address_client(exchange.client) if exchange.client else ALL

    def _value(self, exchange: Exchange) -> str | None:
        for name, value in exchange.headers:
            if _text(name).lower() == self._header:
                return _text(value)
        return None


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
