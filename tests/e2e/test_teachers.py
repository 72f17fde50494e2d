"""A server with keys whose monitors trust some principals, and whose admin excludes principals and resets monitors."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from example_folders import ALLOWED, FLAGGED, TABLE_CONFIG, write_table
from fresh_client import FRESH
from gateways import cli, fit_all
from waiting import until

from service.keys.key_file import add_key
from service.keys.principal import SCOPES

if TYPE_CHECKING:
    from conftest import Bundles
    from databases import Postgres
    from gateways import Gateway

MODEL = "/v1/models/loans"
JUNK = ALLOWED | {"age": 119, "income": 119, "region": "west"}
SHOP_ROWS, JUNK_ROWS, ROUNDS = 32, 64, 10
DRIFT = {"kind": "sequential", "average_run_length": 1000, "epoch": 16}
(REGION,) = [each for each in TABLE_CONFIG["monitors"] if each["name"] == "region"]
MONITORS = [
    {"name": "trusting", **DRIFT},
    {"name": "open", **DRIFT},
    {"name": "clean", **DRIFT, "include": "clean"},
    REGION,
    {"name": "confusion", "kind": "confusion"},
]
SHARE = 0.05
TRUST = {"trusting": {"principals": ["shop"]}, "region": {"principal_share": SHARE}}


def deployed(config: Path, name: str, trust: dict[str, Any]) -> Path:
    """Write a config that differs at deploy time alone: in whom the monitors trust."""
    document = yaml.safe_load(config.read_text())
    document["monitors"] = [each | trust.get(each["name"], {}) for each in document["monitors"]]
    changed = config.with_name(f"{name}.yaml")
    changed.write_text(yaml.safe_dump(document))
    return changed


@dataclass
class Shop:
    """A server, and the keys of its principals; ``boss`` is the admin."""

    gateway: "Gateway"
    keys: dict[str, str]
    rows: list[dict[str, Any]]

    def ask(self, method: str, path: str, who: str, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.keys[who]}"}
        return FRESH.request(method, f"{self.gateway.url}{path}", headers=headers, timeout=60, **more)

    def predict(self, who: str, rows: list[dict[str, Any]], ids: list[str] | None = None) -> list[dict[str, Any]]:
        body = {"instances": rows} | ({} if ids is None else {"ids": ids})
        answer = self.ask("POST", f"{MODEL}:predict", who, json=body)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["predictions"]
        return found

    def feedback(self, who: str, ids: list[str], label: str = "yes") -> dict[str, Any]:
        body = {"outcomes": [{"id": name, "label": label} for name in ids]}
        answer: dict[str, Any] = self.ask("POST", f"{MODEL}:feedback", who, json=body).json()
        return answer

    def change(self, kind: str, who: str = "boss", **body: Any) -> Any:
        return self.ask("POST", f"{MODEL}/monitors:{kind}", who, json=body)

    def report(self) -> dict[str, Any]:
        answer = self.ask("GET", f"{MODEL}/monitors", "boss")
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def state(self, monitor: str) -> str:
        return str(self.report()["monitors"][monitor]["state"])

    def counted(self) -> tuple[int, int]:
        """Give the number of rows, and of outcomes, in the store's totals of the confusion matrix."""
        found = self.report()["monitors"]["confusion"]["statistics"]
        rows = [one["n"] for one in found if one["labels"]["actual"] == "unknown"]
        return sum(rows), sum(one["n"] for one in found) - sum(rows)


@pytest.fixture(scope="module")
def taught(bundles: "Bundles") -> Path:
    """Fit a classifier with monitors of drift and of groups; give the config."""
    config = write_table(bundles.folder / "taught", monitors=MONITORS)
    document = yaml.safe_load(config.read_text())
    document.setdefault("server", {})["smallest_count"] = 1  # these tests count single rows
    config.write_text(yaml.safe_dump(document))
    fit_all({config: config.parent / "bundle"}, PYTHONPATH=bundles.python_path)
    return config


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Make a file of keys for an admin and two principals."""
    file = tmp_path_factory.mktemp("keys") / "keys.yaml"
    found = {who: add_key(file, who, ["predict", "feedback", "monitors"]) for who in ("shop", "junk")}
    return file, found | {"boss": add_key(file, "boss", [*SCOPES])}


@pytest.fixture(scope="module")
def clean_rows(taught: Path) -> list[dict[str, Any]]:
    """Give rows that are drawn as the reference's rows are."""
    with taught.with_name("heldout.csv").open() as file:
        numbers = ("age", "income", "trap")
        return [
            {key: (float(value) if value else None) if key in numbers else value or None for key, value in row.items()}
            for row in csv.DictReader(file)
            if row.pop("approved")
        ]


def serve(bundles: "Bundles", config: Path, keys: Any, rows: Any, **environment: str) -> Shop:
    file, found = keys
    gateway = bundles.serve("taught", config=config, GUARDHOUSE_API_KEYS_FILE=str(file), **environment)
    gateway.expected += ["monitors: boss asked for", "monitor \\w+ was reset"]
    return Shop(gateway, found, rows)


@pytest.fixture(scope="module")
def shop(bundles: "Bundles", taught: Path, keys: Any, clean_rows: Any) -> Iterator[Shop]:
    """Serve the classifier to three principals."""
    served = serve(bundles, deployed(taught, "none", {}), keys, clean_rows)
    served.gateway.wait_ready()
    yield served
    served.gateway.stop()


@pytest.fixture(scope="module")
def flooded(bundles: "Bundles", taught: Path, keys: Any, clean_rows: Any) -> Iterator[Shop]:
    """Serve monitors of which one trusts the shop alone, and one bounds shares; send clean rows and junk in turns."""
    served = serve(bundles, deployed(taught, "trust", TRUST), keys, clean_rows)
    served.gateway.wait_ready()
    for number in range(ROUNDS):
        start = number * SHOP_ROWS
        ids = [f"row-{start + place}" for place in range(SHOP_ROWS)]
        served.predict("shop", served.rows[start : start + SHOP_ROWS], ids)
        served.predict("junk", [JUNK] * JUNK_ROWS, [f"row-{number * JUNK_ROWS + place}" for place in range(JUNK_ROWS)])
    yield served
    if served.gateway.process.poll() is None:
        served.gateway.stop()


def test_junk_of_one_principal_is_taught_to_no_monitor_that_trusts_another(flooded: Shop) -> None:
    """Junk alarms the monitor that trusts everybody, and not the other; what is skipped is counted, never silent."""
    until(lambda: flooded.state("open") == "alarm")
    found = flooded.report()["monitors"]
    assert found["trusting"]["state"] == "ok"
    assert found["trusting"]["skipped"]["principal"] == ROUNDS * JUNK_ROWS
    assert found["open"]["skipped"] == {"excluded": 0, "principal": 0, "share": 0, "flagged": 0}
    assert found["clean"]["skipped"]["flagged"] > 0
    bound = SHARE * 1000  # rows of each of the two
    assert found["region"]["skipped"]["share"] == ROUNDS * (JUNK_ROWS + SHOP_ROWS) - 2 * bound
    groups = {one["labels"]["group"]: one["n"] for one in found["region"]["statistics"] if one["name"] == "action_rate"}
    assert sum(groups.values()) == 2 * bound  # the store's totals have the same rows
    metrics = flooded.ask("GET", "/metrics", "boss").text
    assert f'skipped_rows_total{{monitor="trusting",reason="principal"}} {ROUNDS * JUNK_ROWS}.0' in metrics


def test_an_excluded_principal_leaves_the_totals_on_record(flooded: Shop) -> None:
    """An admin excludes and resets; a kill of all processes loses neither; an exclusion can be undone."""
    flooded.feedback("shop", ["row-0", "row-1"])
    flooded.feedback("junk", [f"row-{place}" for place in range(100)], "no")
    refused = flooded.change("exclude", "shop", principal="junk", reason="I say so")
    assert (refused.status_code, refused.json()["detail"]) == (403, "this key has no scope `admin`")
    excluded = flooded.change("exclude", principal="junk", reason="a flood of junk")
    assert excluded.status_code == 200, excluded.text
    assert excluded.json()["rows"] == ROUNDS * JUNK_ROWS
    assert {"trusting", "open", "clean"} <= set(excluded.json()["not_corrected"])
    assert flooded.counted() == (ROUNDS * SHOP_ROWS, 2)
    flooded.predict("junk", [JUNK] * 10)
    flooded.feedback("junk", ["row-200"], "no")
    assert flooded.counted() == (ROUNDS * SHOP_ROWS, 2)
    assert flooded.report()["monitors"]["confusion"]["skipped"]["excluded"] == 10

    assert flooded.state("open") == "alarm"  # a sequential test cannot take rows back
    reset = flooded.change("reset", monitor="open", reason="the junk is excluded")
    assert reset.status_code == 200, reset.text
    assert flooded.state("open") == "insufficient_data"
    flooded.gateway.kill()
    assert "a flood of junk" in flooded.gateway.log()
    again = serve_again(flooded)
    try:
        report = again.report()
        assert [(one["change"], one["by"], one["reason"]) for one in report["changes"]] == [
            ("reset", "boss", "the junk is excluded"),
            ("exclude", "boss", "a flood of junk"),
        ]
        assert report["monitors"]["open"]["state"] == "insufficient_data"
        again.predict("junk", [JUNK] * 600)
        assert again.counted() == (ROUNDS * SHOP_ROWS, 2)
        assert again.state("open") == "insufficient_data"
        included = again.change("include", principal="junk", reason="it was a test")
        assert included.json()["rows"] == ROUNDS * JUNK_ROWS + 610
        assert again.counted() == (ROUNDS * (SHOP_ROWS + JUNK_ROWS) + 610, 2 + 101)
    finally:
        again.gateway.stop()


def serve_again(shop: Shop) -> Shop:
    """Start a killed server again, on the same state."""
    from gateways import Gateway

    old = shop.gateway
    assert old.config is not None
    kept = ("GUARDHOUSE_API_KEYS_FILE", "GUARDHOUSE_STATE", "PYTHONPATH")
    environment = {name: old._environment[name] for name in kept}
    gateway = Gateway(old.bundle, old.config, old.log_path.parent, **environment)
    gateway.expected += old.expected
    return Shop(gateway.wait_ready(), shop.keys, shop.rows)


def test_repeated_ids_are_told_to_their_principal(shop: Shop) -> None:
    """Feedback names the ids that the caller used again; another principal with the same id hears nothing of it."""
    shop.predict("shop", [ALLOWED, ALLOWED], ["one", "two"])
    shop.predict("junk", [ALLOWED], ["one"])
    assert "repeated" not in shop.feedback("junk", ["one"])
    shop.predict("shop", [FLAGGED], ["one"])
    assert shop.feedback("shop", ["one", "two"])["repeated"] == ["one"]
    assert "repeated" not in shop.feedback("junk", ["one"])


def test_an_admin_says_what_and_why(shop: Shop) -> None:
    """A change without a reason, of an unknown monitor, or with a wrong name, is refused in a sentence."""
    before = shop.report()["changes"]
    for kind, body, place in (
        ("exclude", {"principal": "junk"}, "reason"),
        ("exclude", {"principal": "a b", "reason": "x"}, "principal"),
        ("include", {"monitor": "open", "reason": "x"}, "monitor"),
        ("reset", {"monitor": "nothing", "reason": "x"}, "monitor"),
        ("reset", {"monitor": "open", "reason": "two\nlines"}, "reason"),
    ):
        refused = shop.change(kind, **body)
        assert refused.status_code == 422
        assert place in [loc for fault in refused.json()["errors"] for loc in fault["loc"]]
    assert shop.report()["changes"] == before


def test_the_command_changes_monitors(shop: Shop) -> None:
    """`guardhouse monitors` excludes, includes and resets with the key of the environment; else it ends in 2."""
    url, boss = ["--url", shop.gateway.url], {"GUARDHOUSE_API_KEY": shop.keys["boss"]}
    before = shop.counted()[0]
    shop.predict("boss", [ALLOWED] * 3)
    done = cli("monitors", "exclude", "boss", *url, "--reason", "junk", **boss)
    assert done.returncode == 0, done.stderr
    assert "3 rows were taken out" in done.stdout
    assert "open" in done.stdout
    assert "3 rows were put back" in cli("monitors", "include", "boss", *url, "--reason", "sorry", **boss).stdout
    assert cli("monitors", "reset", "open", *url, "--reason", "test", **boss).returncode == 0
    assert shop.counted()[0] == before + 3
    shown = cli("monitors", "show", *url, "--json", **boss)
    assert [one["change"] for one in json.loads(shown.stdout)["changes"][:3]] == ["reset", "include", "exclude"]
    assert "boss" in cli("monitors", "show", *url, **boss).stdout
    refused = cli("monitors", "reset", "open", *url, "--reason", "test", GUARDHOUSE_API_KEY=shop.keys["shop"])
    assert refused.returncode == 2
    assert "this key has no scope `admin`" in refused.stderr
    wrong = cli("monitors", "reset", "nothing", *url, "--reason", "test", **boss)
    assert wrong.returncode == 2
    assert "there is no such monitor" in wrong.stderr


def test_servers_of_one_database_follow_each_other(
    bundles: "Bundles", taught: Path, keys: Any, clean_rows: Any, postgres: "Postgres"
) -> None:
    """Two servers share a PostgreSQL: a change at one is followed by the other within seconds."""
    url, config = postgres.database(), deployed(taught, "none", {})
    pair = [serve(bundles, config, keys, clean_rows, GUARDHOUSE_DATABASE_URL=url) for _ in range(2)]
    first, second = pair
    for each in pair:
        each.gateway.wait_ready()
    second.predict("shop", second.rows[:50])
    for _ in range(ROUNDS):
        second.predict("junk", [JUNK] * JUNK_ROWS)
    until(lambda: second.state("open") == "alarm")
    until(lambda: first.counted()[0] == 50 + ROUNDS * JUNK_ROWS)
    assert first.change("exclude", principal="junk", reason="junk").json()["rows"] == ROUNDS * JUNK_ROWS
    assert first.change("reset", monitor="open", reason="junk").status_code == 200
    until(lambda: second.state("open") == "insufficient_data")
    assert [one["change"] for one in second.report()["changes"]] == ["reset", "exclude"]
    second.predict("junk", [JUNK] * 10)
    until(lambda: second.report()["monitors"]["open"]["skipped"]["excluded"] == 10)
    assert first.counted() == second.counted() == (50, 0)
    for each in pair:
        each.gateway.stop()


def test_a_server_without_keys_has_no_admin(table: "Gateway") -> None:
    """Without keys nobody can be named as the author of a change, so the routes are 404 with a sentence."""
    for kind, body in (("exclude", {"principal": "a", "reason": "b"}), ("reset", {"monitor": "region", "reason": "b"})):
        refused = table.post(body, f"{MODEL}/monitors:{kind}")
        assert refused.status_code == 404
        assert "no keys" in refused.json()["detail"]


def test_trust_needs_keys(bundles: "Bundles", taught: Path, keys: Any) -> None:
    """Without keys a config that trusts principals is refused at the start; an unknown principal is warned of."""
    environment = {"PYTHONPATH": bundles.python_path, "GUARDHOUSE_CONFIG": str(deployed(taught, "trust", TRUST))}
    refused = cli("serve", taught.with_name("bundle"), **environment)
    assert refused.returncode == 2
    assert "monitors.0.principals: without keys" in refused.stderr
    file, _ = keys
    strange = deployed(taught, "strange", {"open": {"principals": ["shopp"]}})
    gateway = bundles.serve("taught", config=strange, GUARDHOUSE_API_KEYS_FILE=str(file))
    gateway.expected.append("names shopp, and the file of keys has no such principal")
    gateway.wait_ready()
    gateway.stop()
    assert "names shopp" in gateway.log()
