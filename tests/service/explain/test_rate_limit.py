"""How often a client may ask: bursts, refills, bounded tables, networks."""

from hypothesis import given
from hypothesis import strategies as st

from service.explain.rate_limit import CLIENTS, Allowance


def test_burst_and_refill() -> None:
    """A client may save up a burst, and gets a token back at the rate."""
    allowance = Allowance(rate=60, burst=3)
    assert [allowance.wait("10.0.0.1", now=0.0) for _ in range(4)] == [0, 0, 0, 1]
    assert allowance.wait("10.0.0.2", now=0.0) == 0
    assert allowance.wait("10.0.0.1", now=1.0) == 0
    assert allowance.wait("10.0.0.1", now=1.0) == 1
    assert [allowance.wait("10.0.0.1", now=1000.0) for _ in range(4)] == [0, 0, 0, 1]


def test_network_is_one_client() -> None:
    """Addresses of one IPv6 /64 share their tokens; others do not."""
    allowance = Allowance(rate=1, burst=1)
    assert allowance.wait("2001:db8::1", now=0) == 0
    assert allowance.wait("2001:db8::ffff%eth0", now=0) > 0
    assert allowance.wait("2001:db8:0:1::1", now=0) == 0
    assert allowance.wait("not:an:address", now=0) == 0


def test_mapped_addresses_are_those_of_ipv4() -> None:
    """Clients of IPv4 are told apart by a server that listens on IPv6, and are the same clients as over IPv4."""
    allowance = Allowance(rate=1, burst=1)
    assert allowance.wait("::ffff:10.0.0.1", now=0) == 0
    assert allowance.wait("::ffff:10.0.0.2", now=0) == 0
    assert allowance.wait("10.0.0.1", now=0) > 0


def test_a_token_that_is_given_back_can_be_taken_again() -> None:
    """A client gets back what it took, and never more than its burst; of unknown clients nothing is kept."""
    allowance = Allowance(rate=1, burst=2)
    for _ in range(5):
        assert allowance.wait("10.0.0.1", now=0) == 0
        allowance.give_back("10.0.0.1")
    allowance.give_back("10.0.0.1")
    assert [allowance.wait("10.0.0.1", now=0) > 0 for _ in range(3)] == [False, False, True]
    allowance.give_back("10.0.0.2")
    assert len(allowance._buckets) == 1


def test_table_is_bounded() -> None:
    """However many clients come, few are remembered: those seen last."""
    allowance = Allowance(rate=1, burst=1)
    for i in range(2 * CLIENTS):
        allowance.wait(f"client-{i}", now=0)
    assert len(allowance._buckets) == CLIENTS
    assert allowance.wait(f"client-{2 * CLIENTS - 1}", now=0) > 0


@given(st.lists(st.floats(0, 5), max_size=60), st.floats(1, 600), st.integers(1, 9))
def test_never_more_than_burst_and_rate(gaps: list[float], rate: float, burst: int) -> None:
    """Over any span a client gets at most its burst and what the rate gives in that time."""
    allowance, now, granted = Allowance(rate, burst), 0.0, 0
    for gap in gaps:
        now += gap
        granted += allowance.wait("one", now=now) == 0
    assert granted <= burst + now * rate / 60 + 1e-6
