"""A port of its own for metrics, on a server with keys and two fronts."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
from fresh_client import FRESH
from gateways import free_port
from v2_client import start
from waiting import until

from service.keys.key_file import add_key

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway


@pytest.fixture(scope="module")
def served(bundles: "Bundles", tmp_path_factory: pytest.TempPathFactory) -> "Iterator[tuple[Gateway, str, str, str]]":
    """Serve with two fronts; give the server, the URL of the metrics, and the keys that may and may not scrape."""
    file = tmp_path_factory.mktemp("keys") / "keys.yaml"
    may, may_not = add_key(file, "prometheus", ["metrics"]), add_key(file, "shop", ["predict"])
    port = free_port()
    environment = {"GUARDHOUSE_API_KEYS_FILE": str(file)}
    gateway, _ = start(bundles, "table", environment=environment, fronts=2, metrics_port=port)
    yield gateway.wait_ready(), f"http://127.0.0.1:{port}", may, may_not
    gateway.stop()


def get(url: str, key: str | None = None) -> Any:
    return FRESH.get(url, headers={} if key is None else {"Authorization": f"Bearer {key}"})


def test_each_port_answers_its_own_paths(served: "tuple[Gateway, str, str, str]") -> None:
    """The server's port has no metrics, the other port has nothing else, and both answer probes; keys hold on both."""
    gateway, url, may, may_not = served
    for path in ("/livez", "/readyz", "/healthz"):
        assert get(gateway.url + path).status_code == get(url + path).status_code == 200
    assert get(f"{gateway.url}/metrics", may).status_code == 404
    assert "/metrics" not in get(f"{gateway.url}/openapi.json", may).json()["paths"]
    for path in ("/v1/models", "/openapi.json", "/v1/models/loans:predict"):
        assert get(url + path, may).status_code == 404
    assert get(f"{url}/metrics").status_code == 401
    assert get(f"{url}/metrics", may_not).status_code == 403
    assert "\nguardhouse_self_test_passed 1.0\n" in get(f"{url}/metrics", may).text


def test_the_figures_are_of_all_fronts(served: "tuple[Gateway, str, str, str]") -> None:
    """Requests count whichever front answered them."""
    gateway, url, may, may_not = served

    def models() -> float:
        lines = get(f"{url}/metrics", may).text.splitlines()
        return sum(
            float(line.split()[-1]) for line in lines if 'route="/v1/models"' in line and "requests_total" in line
        )

    before = models()
    for _ in range(40):  # each on a connection of its own, which the kernel gives to any front
        assert httpx.get(f"{gateway.url}/v1/models", headers={"X-API-Key": may_not}).status_code == 200
    assert models() == before + 40


def test_when_its_front_is_killed_another_front_listens(served: "tuple[Gateway, str, str, str]") -> None:
    """The front that takes the place of the front with the port listens on the port again."""
    gateway, url, may, _ = served
    gateway.expected.append("WARNING|circus|restart|sentinel")
    port = int(url.rpartition(":")[2])

    def listening() -> list[psutil.Process]:
        fronts = psutil.Process(gateway.process.pid).children(recursive=True)
        return [
            each for each in fronts
            if any(one.status == "LISTEN" and one.laddr.port == port for one in each.net_connections("tcp"))
        ]  # fmt: skip

    (front,) = listening()
    front.kill()

    def answers() -> bool:
        try:
            return bool(get(f"{url}/metrics", may).status_code == 200)
        except httpx.TransportError:
            return False

    until(lambda: front not in listening() and answers(), pause=0.2)
    assert len(listening()) == 1
