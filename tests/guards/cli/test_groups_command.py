"""``guardhouse groups``: the table and the picture of a server's report."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import example_groups
import numpy as np
import pytest

from guards.monitors.base import Monitor

Guardhouse = Callable[..., tuple[int, str, str]]


def described(monitor: Monitor) -> dict[str, Any]:
    return {
        "kind": monitor.kind,
        "state": monitor.state(),
        "since": "2026-01-01T00:00:00+00:00",
        "statistics": [asdict(statistic) for statistic in monitor.report()],
    }


def made() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2, 900)
    actual = (rng.random(900) < 0.4).astype(np.int64)
    predicted = (rng.random(900) < 0.2 + 0.4 * actual + 0.2 * group).astype(np.int64)
    sex = example_groups.monitor(("Female", "Male"), tolerance=0.05)
    some = predicted == 1
    sex.counts += sex.tally(example_groups.records(group, predicted, confidence=np.full(900, 0.7)))
    sex.join(
        example_groups.records(group[some], predicted[some], actual[some], confidence=np.full(int(some.sum()), 0.7))
    )
    price = example_groups.monitor(("north", "south"), classes=())
    price.params = price.params.model_copy(update={"attribute": "region"})
    example_groups.feed(price, group, predicted + 0.5, actual.astype(float), confidence=np.full(900, np.nan))
    return {"sex": described(sex), "region": described(price), "streams": {"kind": "bins"}}


@pytest.fixture(scope="module")
def pages() -> dict[str, Any]:
    return {"/v1/models": {"models": ["toy"]}, "/v1/models/toy/monitors": {"monitors": made()}}


@pytest.fixture
def server(pages: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Answer what a server would; a test may change the pages."""
    answers = dict(pages)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in answers else 404)
            self.end_headers()
            self.wfile.write(json.dumps(answers.get(self.path, {})).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", answers
        listening.shutdown()
        thread.join()


def test_the_table_is_printed(guardhouse: Guardhouse, server: tuple[str, dict[str, Any]]) -> None:
    """Every group has its rates with interval and n, and labels that depend on the decision are warned of."""
    status, out, err = guardhouse("groups", "--url", server[0] + "/")
    assert (status, err) == (0, "")
    figures = {(s["name"], s["labels"].get("group")): s for s in made()["sex"]["statistics"] if s["value"] is not None}
    rate = figures["selection_rate", "Female"]
    lines = [line for line in out.splitlines() if "selection_rate" in line and "Female" in line]
    assert len(lines) == 1
    for text in (f"{rate['value']:.4f}", f"{rate['interval'][0]:.4f}", str(rate["n"])):
        assert text in lines[0]
    assert "sex: alarm since" in out
    assert "mean_error_difference" in out
    assert "only approved loans are ever repaid" in out
    assert "recent_mean_error_difference" in out


def test_figures_that_the_server_hides_are_told(guardhouse: Guardhouse, server: tuple[str, dict[str, Any]]) -> None:
    """A figure of a few rows has its line, without numbers; nothing is drawn of it."""
    url, answers = server
    hidden = {"value": None, "interval": None, "n": None}
    sex = made()["sex"]
    sex["statistics"] = [s | (hidden if s["labels"].get("group") == "Female" else {}) for s in sex["statistics"]]
    answers["/v1/models/toy/monitors"] = {"monitors": {"sex": sex}}
    status, out, err = guardhouse("groups", "--url", url)
    assert (status, err) == (0, "")
    (line,) = [line for line in out.splitlines() if " selection_rate" in line and "Female" in line]
    assert "few" in line
    assert "0." not in line


def test_the_versions_figures_are_printed_where_asked(
    guardhouse: Guardhouse, server: tuple[str, dict[str, Any]]
) -> None:
    """`--of version` asks the server for those; their state has no beginning, and another word is refused."""
    url, answers = server
    answers["/v1/models/toy/monitors?of=version"] = {"monitors": {"sex": made()["sex"] | {"since": None}}}
    status, out, err = guardhouse("groups", "--url", url, "--of", "version")
    assert (status, err) == (0, "")
    assert "sex: alarm" in out
    assert "since" not in out
    status, _, err = guardhouse("groups", "--url", url, "--of", "everything")
    assert status == 2
    assert "--of everything: there are bundle, version, lifetime" in err


def test_the_picture_is_drawn(guardhouse: Guardhouse, server: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    """Rates and differences are drawn into a picture that is not blank."""
    from matplotlib.image import imread

    status, _, err = guardhouse("groups", "--url", server[0], "--out", tmp_path / "groups.png")
    assert (status, err) == (0, "")
    picture = imread(tmp_path / "groups.png")
    assert min(picture.shape[:2]) > 300
    assert 0.01 < (picture[..., :3].min(-1) < 0.9).mean() < 0.5


def test_mistakes_are_sentences(guardhouse: Guardhouse, server: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    """A silent server, another kind of server, a server without groups and a bad path each have their own error."""
    url, answers = server
    status, _, err = guardhouse("groups", "--url", "http://127.0.0.1:9")
    assert status == 2
    assert "does not answer" in err
    status, _, err = guardhouse("groups", "--url", url, "--out", tmp_path / "no" / "x.png")
    assert status == 2
    assert "cannot be written" in err
    answers["/v1/models/toy/monitors"] = {"monitors": {"streams": {"kind": "bins"}}}
    status, _, err = guardhouse("groups", "--url", url)
    assert status == 2
    assert "toy has no groups monitor" in err
    answers["/v1/models"] = {"data": []}
    status, _, err = guardhouse("groups", "--url", url)
    assert status == 2
    assert "that is no Guardhouse server" in err
