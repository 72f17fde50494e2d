"""The console of a real server in a real browser: its frame, the tabs Now and Drift, keys, and who is let in."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import httpx
import numpy as np
import pytest
from accessibility import findings
from gateways import fit_all
from visited_page import SIZES, Visit

from service.keys.key_file import add_key

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

CHANGES: dict[str, Any] = {
    "monitors": [{"name": "streams", "kind": "sequential", "average_run_length": 1000}],
    "store_reference_rows": True,
}
TEXT = "document.body.innerText"


@pytest.fixture(scope="module")
def config(bundles: "Bundles") -> Path:
    """Fit a classifier of images whose drift is watched, and give its config."""
    from example_folders import write_images

    path = write_images(bundles.folder / "watched", **CHANGES)
    fit_all({path: path.parent / "bundle"}, PYTHONPATH=bundles.python_path)
    return path


@pytest.fixture(scope="module")
def server(bundles: "Bundles", config: Path) -> "Iterator[Gateway]":
    """Serve it on the loopback address, without keys."""
    gateway = bundles.serve("watched", config=config)
    yield gateway.wait_ready()
    gateway.stop()


def rows(count: int, *, dark: bool) -> list[Any]:
    """Draw images like the reference's; ``dark``: much darker."""
    from example_folders import images

    drawn = images(np.random.default_rng(7).integers(0, 3, count), seed=7) / 255
    instances: list[Any] = (drawn * (0.3 if dark else 1.0)).round(4).tolist()
    return instances


def send(server: "Gateway", instances: list[Any]) -> None:
    for at in range(0, len(instances), 16):
        server.predict(instances[at : at + 16])


def quiet(page: Visit, server: "Gateway") -> None:
    """Check that the page asked no other host, and that the browser has nothing to complain about."""
    assert page.complaints() == []
    assert [url for url in page.requests() if url.startswith("http") and not url.startswith(server.url)] == []


def test_the_address_leads_a_browser_to_the_console(server: "Gateway", page: Visit) -> None:
    """Whoever opens the server's address sees the model's name and the tabs, without an error in the console."""
    page.go(f"{server.url}/")
    page.wait("document.querySelectorAll('[role=tab]').length >= 2")
    assert page.value("location.pathname") == "/console"
    assert page.value("document.title").startswith(server.name)
    quiet(page, server)


def test_others_get_the_addresses(server: "Gateway") -> None:
    """A program that asks for / gets the list of addresses, among them those of the model."""
    answer = httpx.get(f"{server.url}/")
    addresses = answer.json()["addresses"]
    assert {"/console", "/docs", f"/v1/models/{server.name}:predict"} <= addresses.keys()
    assert all(addresses.values())


def test_now_shows_traffic_without_a_reload(server: "Gateway", page: Visit) -> None:
    """Rows that arrive while the page is open show up in its figures and its histograms of p-values."""
    page.go(f"{server.url}/console#now")
    page.wait("document.querySelectorAll('figure canvas').length >= 8")
    send(server, rows(64, dark=False))
    page.wait(f"/[1-9]\\d* of [1-9]\\d* rows flagged/.test({TEXT})")
    quiet(page, server)


def test_an_alarm_appears_without_a_reload(server: "Gateway", page: Visit) -> None:
    """The tab Drift names the streams once there is drift, while the page is open."""
    page.go(f"{server.url}/console#drift")
    page.wait(f"{TEXT}.includes('Every stream')")
    assert "Drift in" not in page.text(".lead")
    send(server, rows(400, dark=True))
    page.wait_text(".lead", lambda text: "Drift in" in text and "statistic:brightness" in text)
    assert page.value("document.querySelectorAll('figure canvas').length") > 1
    quiet(page, server)


@pytest.mark.parametrize(("width", "scheme"), SIZES)
@pytest.mark.parametrize("tab", ["now", "drift"])
def test_everybody_can_use_the_page(
    server: "Gateway", page: Visit, tab: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    """axe-core finds nothing serious, and nothing is wider than the window, in both schemes and on a phone."""
    page.go(f"{server.url}/console#{tab}", width=width, scheme=scheme)
    page.wait("document.querySelectorAll('figure canvas').length >= 2")
    assert findings(page) == []
    assert page.value("document.documentElement.scrollWidth") <= width


def test_tabs_are_reached_by_keyboard(server: "Gateway", page: Visit) -> None:
    """The arrow keys move through the tabs, and only the chosen tab is in the tab order."""
    page.go(f"{server.url}/console#now")
    page.wait("!!document.querySelector('#tab-now[aria-selected=true]')")
    page.value("document.getElementById('tab-now').focus() ?? true")
    for kind in ("rawKeyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39)
    page.wait("document.activeElement.id === 'tab-drift' && document.activeElement.ariaSelected === 'true'")
    assert page.value("document.querySelectorAll('[role=tab][tabindex=\"0\"]').length") == 1


def test_a_key_is_asked_for_and_checked(bundles: "Bundles", config: Path, page: Visit, tmp_path: Path) -> None:
    """With keys the page asks for a key; a key that nobody knows is refused, and one without the scope is told so."""
    file = tmp_path / "keys.json"
    watcher, till = (add_key(file, name, scopes) for name, scopes in (("watcher", ["console"]), ("till", ["predict"])))
    server = bundles.serve("watched", config=config, GUARDHOUSE_API_KEYS_FILE=str(file)).wait_ready()
    try:
        page.go(f"{server.url}/console#now")
        page.wait("!document.getElementById('login').hidden")
        assert findings(page) == []
        for key, said in (("nobody", "not known"), (till, "no scope `console`")):
            page.type("#key", key)
            page.click("#login button")
            page.wait_text("#trouble", lambda text, said=said: said in text)  # type: ignore[misc]
            page.wait("!document.getElementById('login').hidden")
        page.type("#key", watcher)
        page.click("#login button")
        page.wait("document.querySelectorAll('figure canvas').length >= 8")
        assert httpx.get(f"{server.url}/console/data/now").status_code == 401
    finally:
        server.stop()


def test_a_server_can_be_without_a_console(bundles: "Bundles", config: Path) -> None:
    """If the config says so, there is no page and no data, and the answer says the way out."""
    import yaml

    document = yaml.safe_load(config.read_text())
    document["server"] = {**document["server"], "console": False}
    off = config.with_name("off.yaml")
    off.write_text(yaml.safe_dump(document))
    server = bundles.serve("watched", config=off).wait_ready()
    try:
        answer = httpx.get(f"{server.url}/console")
        assert (answer.status_code, "server.console" in answer.json()["detail"]) == (404, True)
        assert httpx.get(f"{server.url}/console/data/now").status_code == 404
        home = httpx.get(f"{server.url}/", headers={"Accept": "text/html"})
        assert (home.status_code, "/console" in home.json()["addresses"]) == (200, False)
    finally:
        server.stop()


def test_a_model_that_cannot_be_served_says_why(bundles: "Bundles", config: Path, page: Visit) -> None:
    """If the bundle was changed, the page is there all the same, and says what is wrong."""
    from gateways import faults_allowed

    broken = bundles.folder / "broken"
    shutil.copytree(config.parent, broken)
    state = broken / "bundle" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1] + b"x")
    server = bundles.serve("broken").wait_listening()
    try:
        with faults_allowed(server, "the model cannot be served"):
            page.go(f"{server.url}/console#now")
            page.wait_text("#trouble", lambda text: "cannot predict now" in text and "copy the bundle anew" in text)
            assert findings(page) == []
    finally:
        server.stop()
