"""One `/metrics` for two fronts and an engine, each of which is killed or stopped between scrapes."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import tiny_models
from fresh_client import FRESH
from gateways import Gateway
from waiting import until

Scrape = dict[str, float]
SUFFIXES = ("_total", "_count", "_sum", "_bucket")
ROUTE = 'route="/v1/models/{name}:predict"'
ROW = [0.1, 0.2, 0.3, tiny_models.COLOURS[0]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Gateway]:
    """Serve a table by two fronts."""
    monitors = [{"kind": "bins", "name": "streams"}, {"kind": "sequential", "name": "drift"}]
    tiny_models.fitted("tabular", monitors=monitors, server={"fronts": 2}).bundle.save(tmp_path / "bundle")
    support = str(Path(tiny_models.__file__).parent)
    gateway = Gateway(tmp_path / "bundle", None, tmp_path / "server", PYTHONPATH=support)
    try:
        yield gateway.wait_ready()
    finally:
        gateway.kill()


def scrape(gateway: Gateway, seconds: float = 60) -> Scrape:
    """Scrape over a new connection: any front may answer."""
    end = time.monotonic() + 180
    while True:
        try:
            text = FRESH.get(f"{gateway.url}/metrics", timeout=seconds).text
            break
        except httpx.TransportError:  # the connection went to a front that was killed or stopped
            assert time.monotonic() < end
            time.sleep(0.05)
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def fallen(before: Scrape, after: Scrape) -> list[str]:
    """Name the counters that stepped back or vanished."""
    counters = [name for name in before if name.partition("{")[0].endswith(SUFFIXES)]
    assert len(counters) > 100
    return [name for name in counters if after.get(name, -1) < before[name]]


def predict(gateway: Gateway, requests: int) -> int:
    """Ask over new connections; give how many were answered, once their rows and the answers have been counted.

    A process counts after its answer is on the way: what is killed between the two has not counted.
    """
    body, path = {"instances": [ROW]}, f"{gateway.url}/v1/models/toy:predict"
    before = scrape(gateway)
    answers = sum(FRESH.post(path, json=body).status_code == 200 for _ in range(requests))

    def counted() -> bool:
        now = scrape(gateway)
        return rows(now) >= rows(before) + answers and answered(now) >= answered(before) + answers

    until(counted)
    return answers


def answered(found: Scrape) -> float:
    return found[f'guardhouse_requests_total{{code="200",{ROUTE}}}']


def rows(found: Scrape) -> float:
    return sum(value for name, value in found.items() if name.startswith("guardhouse_rows_total"))


def up(gateway: Gateway, last: Scrape, seconds: float = 180) -> Scrape:
    """Scrape until the engine answers, and see that no counter steps back."""
    end = time.monotonic() + seconds
    while True:
        found = scrape(gateway)
        assert fallen(last, found) == []
        last = found
        if found["guardhouse_self_test_passed"] and FRESH.get(f"{gateway.url}/readyz").status_code == 200:
            return last
        assert time.monotonic() < end
        time.sleep(0.05)


def without_engine(gateway: Gateway, last: Scrape) -> Scrape:
    """Kill the engine, and scrape before the supervisor, which is stopped meanwhile, starts another engine."""
    supervisor, engine = psutil.Process(gateway.process.pid), gateway.engine
    supervisor.suspend()
    try:
        engine.kill()
        until(lambda: engine.status() == psutil.STATUS_ZOMBIE)
        until(lambda: not scrape(gateway)["guardhouse_self_test_passed"])
        found = scrape(gateway)
        assert fallen(last, found) == []
    finally:
        supervisor.resume()
    gateway.wait_restarted(engine)
    return found


def test_no_counter_steps_back(server: Gateway) -> None:
    """Killed engines, stopped engines and killed fronts: every scrape goes on from the last, no request is lost."""
    asked = predict(server, 20)
    last = up(server, scrape(server))
    for _ in range(2):
        last = up(server, without_engine(server, last))
        asked += predict(server, 5)
    engine = server.engine
    engine.suspend()
    stopped = scrape(server)
    engine.resume()
    assert (fallen(last, stopped), stopped["guardhouse_self_test_passed"]) == ([], 0)
    last = up(server, stopped)
    for front in server.wait_fronts(2):
        front.kill()
        last = up(server, last)
        asked += predict(server, 5)
    last = up(server, last)
    assert answered(last) == rows(last) == asked > 20
    until(lambda: scrape(server)["guardhouse_inflight_requests"] == 0)  # a front forgets a request after its answer


def test_fronts_say_the_same(server: Gateway) -> None:
    """Each front gives the same figures, except for the scrapes and the figures of its own process."""
    predict(server, 10)

    def told() -> Scrape:
        own = ("process_", "python_gc_", "guardhouse_store_")  # the store is looked at when it is scraped
        return {k: v for k, v in scrape(server, 1).items() if 'route="/metrics"' not in k and not k.startswith(own)}

    def differing() -> list[set[tuple[str, float]]]:
        scrapes = []
        for stopped in fronts:
            stopped.suspend()  # so that the other one answers
            try:
                scrapes += [told() for _ in range(3)]
            finally:
                stopped.resume()
        assert all(len(each) > 100 for each in scrapes)
        return [each.items() ^ scrapes[0].items() for each in scrapes if each != scrapes[0]]

    fronts = server.wait_fronts(2)
    until(lambda: not differing())  # as soon as the monitors have judged what was seen
