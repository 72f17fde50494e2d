"""Token buckets: bursts, refills, debts, a bounded table, and addresses of one network."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.quotas import buckets as module
from service.quotas.buckets import Buckets, Rate, client_of

MINUTE = Rate(1 / 60, 1)


def test_burst_and_refill() -> None:
    """A caller may save up a burst, and gets a token back at the rate; others have their own."""
    buckets, rate = Buckets(), Rate(1, 3)
    assert [buckets.take("a", rate, now=0.0) for _ in range(4)] == [0, 0, 0, 1]
    assert buckets.take("b", rate, now=0.0) == 0
    assert buckets.take("a", rate, now=1.0) == 0
    assert buckets.take("a", rate, now=1.0) == 1
    assert [buckets.take("a", rate, now=1000.0) for _ in range(4)] == [0, 0, 0, 1]


def test_more_than_a_burst_is_a_debt() -> None:
    """A full bucket gives more than a burst once, and then the caller waits until the debt is paid."""
    buckets, rate = Buckets(), Rate(10, 20)
    assert buckets.take("a", rate, 100, now=0.0) == 0
    assert buckets.take("a", rate, now=0.0) == pytest.approx(8.1)
    assert buckets.take("a", rate, 100, now=5.0) == pytest.approx(5.0)
    assert buckets.take("a", rate, now=8.2) == 0


def test_a_charge_is_taken_in_any_case() -> None:
    """What was used already is taken from an empty bucket, too."""
    buckets, rate = Buckets(), Rate(1, 10)
    assert [buckets.take("a", rate, 10, charge=True, now=0.0) for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a", rate, 0, now=0.0) == 20
    assert buckets.take("a", rate, 0, now=20.0) == 0


def test_a_token_that_is_given_back_can_be_taken_again() -> None:
    """A caller gets back what it took, and never more than its burst; of a full bucket nothing is kept."""
    buckets, rate = Buckets(), Rate(1, 2)
    for _ in range(5):
        assert buckets.take("a", rate, now=0) == 0
        buckets.take("a", rate, -1, charge=True, now=0)
    buckets.take("a", rate, -1, charge=True, now=0)
    assert len(buckets) == 0
    assert [buckets.take("a", rate, now=0) > 0 for _ in range(3)] == [False, False, True]


def test_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many callers come, few are remembered: those seen last."""
    monkeypatch.setattr(module, "CLIENTS", 100)
    buckets = Buckets()
    for number in range(200):
        buckets.take(f"client-{number}", MINUTE, now=0)
    assert len(buckets) == 100
    assert buckets.take("client-199", MINUTE, now=0) > 0


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 20)), max_size=60), st.floats(0.1, 10), st.integers(1, 9))
def test_never_more_than_burst_and_rate(steps: list[tuple[float, float]], rate: float, burst: int) -> None:
    """Over any span a caller gets at most its burst, what the rate gives in that time, and one last request."""
    buckets, now, granted, largest = Buckets(), 0.0, 0.0, 0.0
    for gap, amount in steps:
        now += gap
        if buckets.take("one", Rate(rate, burst), amount, now=now) == 0:
            granted, largest = granted + amount, max(largest, amount)
    assert granted <= burst + now * rate + largest + 1e-6


def test_a_network_is_one_client() -> None:
    """Addresses of one IPv6 /64 are one client, mapped addresses are those of IPv4, and anything else is itself."""
    assert client_of("2001:db8::1") == client_of("2001:db8::ffff%eth0") != client_of("2001:db8:0:1::1")
    assert client_of("::ffff:10.0.0.1") == client_of("10.0.0.1") == "10.0.0.1"
    assert client_of("not:an:address") == "not:an:address"
