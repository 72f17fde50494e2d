"""A server with keys: who may ask what, by every door, and whose ids, outcomes and explanations are whose."""

import contextlib
import gc
import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import yaml
from feedback_totals import YES
from fresh_client import FRESH
from gateways import NEEDS_BENTOML, PLAIN, cli
from v2_client import columns, json_request, start
from waiting import until

from service.front.grpc_standard_services import HEALTH, SERVICE
from service.keys.key_file import add_key
from service.keys.principal import SCOPES, Scope

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

MODEL, INFER = "/v1/models/loans", "/v2/models/loans/infer"
EVERYTHING: list[Scope] = list(SCOPES)
OPEN = ("/livez", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")


@dataclass
class Guarded:
    """A server with keys, the file of keys, and two principals' keys: one may do everything, the other predict."""

    gateway: "Gateway"
    rpc: str
    file: Path
    shop: str
    till: str

    def ask(self, method: str, path: str, key: str | None, **more: Any) -> Any:
        headers = {**({} if key is None else {"Authorization": f"Bearer {key}"}), **more.pop("headers", {})}
        return FRESH.request(method, f"{self.gateway.url}{path}", headers=headers, **more)

    def predict(self, key: str | None, ids: list[str] | None = None, **parameters: Any) -> Any:
        body = {"instances": [YES], "parameters": parameters} | ({} if ids is None else {"ids": ids})
        return self.ask("POST", f"{MODEL}:predict", key, json=body)

    def feedback(self, key: str, name: str, label: str) -> Any:
        body = {"outcomes": [{"id": name, "label": label}]}
        return self.ask("POST", f"{MODEL}:feedback", key, json=body).json()


@pytest.fixture(scope="module")
def guarded(bundles: "Bundles", ledger: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Serve a classifier over HTTP and gRPC to two principals."""
    file = tmp_path_factory.mktemp("keys") / "keys.yaml"
    shop, till = add_key(file, "shop", EVERYTHING), add_key(file, "till", ["predict", "feedback", "explain"])
    gateway, rpc = start(bundles, ledger, environment={"GUARDHOUSE_API_KEYS_FILE": str(file)})
    yield Guarded(gateway.wait_ready(), rpc, file, shop, till)
    gateway.stop()


def test_every_path_but_the_probes_needs_a_key(guarded: Guarded) -> None:
    """Without a key, with a wrong key and with a login of another scheme every path is 401, also if it is unknown."""
    paths = guarded.ask("GET", "/openapi.json", guarded.shop).json()["paths"]
    for path in [*paths, "/nothing", "/v2/models/stats", *([] if PLAIN else ["/schema.json"])]:
        is_open = path in OPEN or path.endswith("/ready")
        for method in paths.get(path) or {"get": {}}:
            for headers in ({}, {"X-API-Key": f"{guarded.shop}x"}, {"Authorization": f"Basic {guarded.shop}"}):
                answer = guarded.ask(method.upper(), path, None, headers=headers)
                assert (answer.status_code == 401) is not is_open, path
                if not is_open:
                    assert answer.headers["www-authenticate"] == "Bearer"
                    assert guarded.shop not in answer.text


def test_a_key_may_only_what_its_scopes_say(guarded: Guarded) -> None:
    """A key without a scope gets 403, which names the scope; a key with the scope gets its answer."""
    wanted = {"/metrics": "metrics", f"{MODEL}/monitors": "monitors", "/v2/models/stats": "metrics"}
    for path, scope in wanted.items():
        refused = guarded.ask("GET", path, guarded.till)
        assert (refused.status_code, refused.json()["detail"]) == (403, f"this key has no scope `{scope}`")
        assert guarded.ask("GET", path, guarded.shop).status_code == 200
    assert guarded.predict(guarded.till).status_code == 200
    assert guarded.ask("GET", "/docs", guarded.till).status_code == 200
    assert guarded.ask("GET", "/nothing", guarded.till).status_code == 404


def test_details_need_a_scope_by_every_door(guarded: Guarded) -> None:
    """P-values help an attacker, so asking for them without the scope is refused, and not ignored."""
    for request in (
        json_request(columns([YES]), parameters={"detail": True}),
        json_request(columns([YES]), outputs=[{"name": "p_value"}]),
    ):
        assert guarded.ask("POST", INFER, guarded.till, json=request).status_code == 403
        assert guarded.ask("POST", INFER, guarded.shop, json=request).status_code == 200
    assert guarded.predict(guarded.till, detail=True).status_code == 403
    assert "guards" in guarded.predict(guarded.shop, detail=True).json()["predictions"][0]


def test_another_principals_ids_are_unknown(guarded: Guarded) -> None:
    """Two principals may use one id: each outcome joins its own row, and nobody else's id is known."""
    said = guarded.predict(guarded.shop, ids=["order-1"]).json()["predictions"][0]
    assert said["id"] == "order-1"
    assert guarded.feedback(guarded.till, "order-1", "yes")["unknown"] == ["order-1"]
    guarded.predict(guarded.till, ids=["order-1"])
    assert guarded.feedback(guarded.shop, "order-1", "yes")["accepted"] == 1
    assert guarded.feedback(guarded.shop, "order-1", "no")["conflicting"] == ["order-1"]
    assert guarded.feedback(guarded.till, "order-1", "no")["accepted"] == 1
    for stranger in (r"\@shop/order-1", "shop/order-1"):
        assert guarded.feedback(guarded.till, stranger, "no")["unknown"] == [stranger]


def test_another_principals_explanations_are_unknown(guarded: Guarded) -> None:
    """A job of another principal is 404; a question that another principal asked is not answered from the cache."""
    path, body = f"{MODEL}:explain", {"instances": [YES], "parameters": {"method": "feature_ablation"}}
    asked = guarded.ask("POST", path, guarded.shop, json=body, headers={"Prefer": "respond-async"})
    assert asked.status_code == 202
    place = asked.headers["location"]
    assert "shop" not in place
    until(lambda: guarded.ask("GET", place, guarded.shop).status_code == 200)
    for other in (place, f"{place}%00", "/v1/explanations/%00", "/v1/explanations/%ff"):
        assert guarded.ask("GET", other, guarded.till).status_code == 404
    assert guarded.ask("POST", path, guarded.till, json=body, timeout=60).status_code == 200
    metrics = guarded.ask("GET", "/metrics", guarded.shop).text
    assert not [line for line in metrics.splitlines() if 'result="cached"' in line and not line.endswith(" 0.0")]


def test_one_request_does_not_show_in_figures_of_rows(guarded: Guarded) -> None:
    """A scrape before and after one request differs in traffic alone, until ten rows are counted together."""

    def rows() -> dict[str, float]:
        lines = guarded.ask("GET", "/metrics", guarded.shop).text.splitlines()
        found = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}
        traffic = re.compile("guardhouse_(requests|request_|stage_|batch_|device_|store_|inflight|connections|explain)")
        return {name: value for name, value in found.items() if name.startswith("guard") and not traffic.match(name)}

    def counted(series: dict[str, float]) -> float:
        return sum(value for name, value in series.items() if name.startswith("guardhouse_rows_total"))

    seen = [rows()]
    for _ in range(23):
        assert guarded.predict(guarded.till).status_code == 200
        seen.append(rows())
    lots = {counted(after) - counted(before) for before, after in pairwise(seen) if before != after}
    assert lots
    assert min(lots) >= 10
    assert len([1 for before, after in pairwise(seen) if before != after]) in (2, 3)
    report = guarded.ask("GET", f"{MODEL}/monitors", guarded.shop).json()["monitors"]
    figures = [figure for monitor in report.values() for figure in monitor["statistics"]]
    hidden = [figure for figure in figures if figure["n"] is None]
    assert all(figure["value"] is None and figure["interval"] is None for figure in hidden)
    assert not [figure for figure in figures if figure["n"] in range(1, 10)]


def test_two_keys_are_refused_before_the_body_is_read(guarded: Guarded) -> None:
    """A head with two keys, or with none, is answered although no byte of its body has arrived."""
    for keys, status in ((f"X-API-Key: {guarded.shop}\r\n" * 2, 400), ("", 401)):
        with socket.create_connection(("127.0.0.1", guarded.gateway.port), timeout=30) as client:
            path = f"{MODEL}:predict"
            client.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n{keys}\r\n".encode())
            assert client.recv(100).startswith(f"HTTP/1.1 {status} ".encode())


def test_keys_over_grpc(guarded: Guarded) -> None:
    """Health needs no key; every other call needs a key with its scope, also a call that does not exist."""
    with grpc.insecure_channel(guarded.rpc) as channel:

        def code(path: str, key: str | None, message: bytes = b"") -> Any:
            metadata = [] if key is None else [("authorization", f"Bearer {key}")]
            with contextlib.suppress(grpc.RpcError):
                channel.unary_unary(path)(message, metadata=metadata, timeout=30)
                return grpc.StatusCode.OK
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(path)(message, metadata=metadata, timeout=30)
            return refused.value.code()

        status = grpc.StatusCode
        for probe in (f"/{HEALTH}/Check", f"/{SERVICE}/ServerLive", f"/{SERVICE}/ServerReady"):
            assert code(probe, None) == status.OK
        for path in (f"/{SERVICE}/ModelInfer", f"/{SERVICE}/ServerMetadata", "/no/such"):
            assert code(path, None) == code(path, "wrong") == status.UNAUTHENTICATED
        assert code(f"/{SERVICE}/ServerMetadata", guarded.till) == status.OK
        assert code(f"/{SERVICE}/ModelStatistics", guarded.till) == status.PERMISSION_DENIED
        assert code(f"/{SERVICE}/ModelStatistics", guarded.shop) == status.OK
        assert code(f"/{SERVICE}/ModelInfer", guarded.till, bytes(1000)) == status.INVALID_ARGUMENT
        assert code("/no/such", guarded.till) == status.UNIMPLEMENTED
    metrics = guarded.ask("GET", "/metrics", guarded.shop).text
    assert 'guardhouse_requests_total{code="401",route="grpc:ModelInfer"}' in metrics


def test_keys_change_while_the_server_runs(guarded: Guarded) -> None:
    """A key that is added is taken within seconds, and a key that is deleted is refused, without a restart."""
    key = add_key(guarded.file, "kiosk", ["predict"])
    until(lambda: guarded.predict(key).status_code == 200)
    document = yaml.safe_load(guarded.file.read_text())
    document["principals"] = [each for each in document["principals"] if each["name"] != "kiosk"]
    guarded.file.write_text(yaml.safe_dump(document))
    until(lambda: guarded.predict(key).status_code == 401)
    assert guarded.predict(guarded.till).status_code == 200


def test_the_log_names_principals_and_no_keys(guarded: Guarded) -> None:
    """A line of the access log has the principal's name; no line has a key."""

    def lines() -> list[str]:
        guarded.predict(guarded.till)  # again and again: under many requests, some have no line
        logged = [line for line in guarded.gateway.log().splitlines() if '"principal": "till"' in line]
        return [line for line in logged if json.loads(line)["route"] == "/v1/models/{name}:predict"]

    assert until(lines, pause=0.2)
    assert guarded.shop not in guarded.gateway.log()
    assert guarded.till not in guarded.gateway.log()


@NEEDS_BENTOML
@pytest.mark.filterwarnings("ignore")  # whatever BentoML and its dependencies deprecate is theirs
def test_bentomls_client_has_a_token(guarded: Guarded) -> None:
    """BentoML's own client predicts with the key as its token."""
    import bentoml

    with bentoml.SyncHTTPClient(guarded.gateway.url, token=guarded.till) as client:
        assert client.predict(instances=[YES])["predictions"][0]["action"] == "allow"
    del client
    gc.collect()  # the client leaves its folder to the collector, which would warn in another test


def test_the_command_makes_keys(tmp_path: Path) -> None:
    """The key alone is on standard output; a wrong scope is refused with the scopes that there are."""
    file = tmp_path / "keys.yaml"
    made = cli("keys", "new", "shop", "--scope", "predict", "--scope", "detail", "--file", file)
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("guardhouse-")
    assert made.stdout.count("\n") == 1
    assert "shown once" in made.stderr
    assert yaml.safe_load(file.read_text())["principals"][0]["scopes"] == ["predict", "detail"]
    refused = cli("keys", "new", "shop", "--scope", "all", "--file", file)
    assert refused.returncode == 2
    assert "there are predict, detail, explain" in refused.stderr


def test_commands_send_the_key_of_the_environment(guarded: Guarded, tmp_path: Path) -> None:
    """`guardhouse feedback` and `groups` send the key in GUARDHOUSE_API_KEY; without a key they say what to do."""
    outcomes = tmp_path / "outcomes.csv"
    outcomes.write_text("id,label\nfrom-a-file,yes\n")
    guarded.predict(guarded.shop, ids=["from-a-file"])
    sent = ["feedback", "--file", outcomes, "--url", guarded.gateway.url, "--json"]
    assert json.loads(cli(*sent, GUARDHOUSE_API_KEY=guarded.shop).stdout)["accepted"] == 1
    for command in (sent, ["groups", "--url", guarded.gateway.url]):
        for environment in ({}, {"GUARDHOUSE_API_KEY": "wrong"}):
            refused = cli(*command, **environment)
            assert refused.returncode == 2
            assert "GUARDHOUSE_API_KEY" in refused.stderr


def test_an_address_that_others_reach_needs_keys_or_a_word(bundles: "Bundles", tmp_path: Path) -> None:
    """Without keys a server does not listen on every address, unless `--open` says that everybody may ask."""
    bundle = bundles.bundle("table")
    refused = cli("serve", bundle, "--host", "0.0.0.0", GUARDHOUSE_STATE=str(tmp_path), PYTHONPATH=bundles.python_path)  # noqa: S104
    assert refused.returncode == 2
    assert "GUARDHOUSE_API_KEYS_FILE" in refused.stderr
    assert "--open" in refused.stderr
    missing = cli("serve", bundle, GUARDHOUSE_API_KEYS_FILE=str(tmp_path / "none.yaml"), PYTHONPATH=bundles.python_path)
    assert missing.returncode == 2
    assert "none.yaml: the file of keys cannot be read" in missing.stderr
