"""How guards with memory know clients."""

import pytest

from service.front.client_names import ClientNames
from service.keys.principal import Principal
from service.telemetry.request_record import Exchange


def exchange(*fields: tuple[bytes | str, bytes | str], client: str = "192.0.2.7", key: str | None = None) -> Exchange:
    principal = None if key is None else Principal(key, frozenset())
    return Exchange("/", "POST", "1", fields, client=client, principal=principal)


def test_a_principal_comes_before_a_header_and_a_header_before_an_address() -> None:
    """The best name that a request has is its client's name; without any name, all clients are one."""
    names = ClientNames("X-Tenant")
    tenant = (b"x-tenant", b"shop")
    assert names.of(exchange(tenant, key="till")) == "key till"
    assert names.of(exchange(tenant)) == "header shop"
    assert names.of(exchange()) == "address 192.0.2.7"
    assert names.of(exchange(client="")) == names.of(None) == "all"


@pytest.mark.parametrize("field", [("X-TENANT", "shop"), (b"X-Tenant", b"shop"), ("x-tenant", b"shop")])
def test_a_header_is_found_however_it_is_written(field: tuple[bytes | str, bytes | str]) -> None:
    """Headers of gRPC are text, those of HTTP are bytes, and the case of a header's name says nothing."""
    assert ClientNames("x-Tenant").of(exchange(field)) == "header shop"


def test_no_header_is_read_unless_the_config_names_one() -> None:
    """A client cannot choose its name by a header that nobody configured."""
    assert ClientNames(None).of(exchange((b"x-tenant", b"shop"))) == "address 192.0.2.7"


def test_kinds_of_names_are_never_equal() -> None:
    """A header cannot claim the name of a principal or an address."""
    names = ClientNames("x-tenant")
    assert names.of(exchange((b"x-tenant", b"till"))) != names.of(exchange(key="till"))
    assert names.of(exchange((b"x-tenant", b"192.0.2.7"))) != names.of(exchange())


def test_names_are_bounded() -> None:
    """A long value of a header takes no more memory than a short value, and other long values are other clients."""
    names = ClientNames("x-tenant")
    one, other = (names.of(exchange((b"x-tenant", b"s" * 9000 + end))) for end in (b"1", b"2"))
    assert one != other
    assert len(one) == len(other) < 100
