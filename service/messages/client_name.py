"""The names of clients, as a front gives them to guards with memory."""

__all__ = ["ALL", "address_client", "header_client", "key_client", "principal_of"]

ALL = "all"
"""The client of every request whose sender nothing names."""
KEY = "key "


def key_client(principal: str) -> str:
    """Name the client that is a principal."""
    return KEY + principal


def header_client(value: str) -> str:
    """Name the client that a header names."""
    return f"header {value}"


def address_client(address: str) -> str:
    """Name the client at an address."""
    return f"address {address}"


def principal_of(client: str) -> str | None:
    """Return the principal that a client is; None if the client has no key.

    >>> principal_of(key_client("till")), principal_of(header_client("key till"))
    ('till', None)
    """
    return client.removeprefix(KEY) if client.startswith(KEY) else None
