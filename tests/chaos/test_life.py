"""A server's life: loading, serving, losing a process, draining, and the errors of a server that cannot start."""

import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from container_users import as_user
from example_folders import ALLOWED, NAP, REJECTED, TABLE_CONFIG, VALUE_CONFIG
from forged_bundles import forge
from fresh_client import FRESH
from gateways import BENTOML_SERVE, ROOT, STALL_SECONDS, cli, free_port, gone
from safetensors.torch import load_file, save_file
from waiting import until

import service.cli.commands
from guards.bundle.bundle import Bundle
from guards.errors import Mistake
from service.engine.engine import Engine
from service.lifecycle.shutdown import DRAIN_SECONDS, LAST_SECONDS
from service.messages.board import Board
from service.telemetry.metrics.engine import EngineMetrics
from service.telemetry.metrics.plain_families import FamiliesFile

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

ROW = {"instances": [[1, 1, 1]]}
VALUE = "/v1/models/value"


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Give a file that keeps a model from being built, as long as the file exists."""
    path = tmp_path / "gate"
    path.touch()
    return path


def test_loading_serving_and_draining(serve: Callable[..., "Gateway"], gate: Path) -> None:
    """Readiness follows the model in and out, nobody waits for it, requests in flight are answered, and all end."""
    gateway = serve("values", by_command=True, MADE_UP_BUILD_GATE=str(gate))
    _keeps_nobody_waiting(gateway, gate)
    gateway.wait_ready()
    assert gateway.client.get(VALUE).json() == {"name": "value", "ready": True}
    processes = gateway._processes()
    with ThreadPoolExecutor(2) as pool, httpx.Client(base_url=gateway.url, timeout=STALL_SECONDS) as kept:
        assert kept.post("/predict", json=ROW).status_code == 200
        nap = {"instances": [{"a": NAP, "b": 1, "c": 2.5}]}
        asleep = pool.submit(FRESH.post, f"{gateway.url}/predict", json=nap, timeout=STALL_SECONDS)
        gateway.wait_in_flight(asleep)
        asked = time.monotonic()
        gateway.terminate()
        if (refused := _not_ready(gateway)) is not None:
            assert "shutting down" in refused.json()["detail"]
            assert refused.headers["connection"] == "close"
        try:
            assert kept.post("/predict", json=ROW).status_code == 200  # on its way when the signal came
        except httpx.TransportError:
            assert time.monotonic() - asked > DRAIN_SECONDS  # this process has stalled: idle connections are closed
        until(lambda: _refuses(gateway.port))
        assert time.monotonic() - asked > 0.8
        answered = asleep.result()
    assert answered.status_code == 200
    assert answered.json()["predictions"][0]["value"] == pytest.approx(3 * NAP - 2 + 2.5, abs=1e-4)
    assert gateway.wait() == 0
    until(lambda: all(map(gone, processes)))
    assert not gateway.surprises()


def _keeps_nobody_waiting(gateway: "Gateway", gate: Path) -> None:
    """Ask from the first connection that is taken until the model is there: every question has its answer at once."""

    def ask(method: str, path: str) -> int:
        return FRESH.request(method, f"{gateway.url}{path}", json=ROW if method == "POST" else None).status_code

    def ask_all() -> list[int]:
        asked = [("GET", "/livez"), ("GET", "/readyz"), ("POST", "/predict")]
        return [one.result() for one in [pool.submit(ask, *question) for question in asked]]

    until(lambda: not _refuses(gateway.port))
    with ThreadPoolExecutor(3) as pool:
        for _ in range(20):
            assert ask_all() == [200, 503, 503]  # the model cannot be built yet, and nobody waits for that
        _is_loading(gateway, refused=20)
        gate.unlink()
        seen = [ask_all()]
        while seen[-1] != [200, 200, 200]:
            seen.append(ask_all())
    assert {tuple(codes) for codes in seen} <= {(200, 503, 503), (200, 200, 503), (200, 503, 200), (200, 200, 200)}


def _is_loading(gateway: "Gateway", refused: int) -> None:
    """Check every path of a server whose model is not there yet."""
    assert gateway.client.get("/livez").status_code == 200
    assert "loading" in gateway.client.get("/readyz").json()["detail"]
    for path in ("/predict", f"{VALUE}:predict", f"{VALUE}:explain"):
        answer = gateway.client.post(path, json=ROW)
        assert answer.status_code == 503
        assert "loading" in answer.json()["detail"]
    assert gateway.client.get(f"{VALUE}/monitors").status_code == 503
    assert gateway.client.get(VALUE).json() == {"name": "value", "ready": False}
    metrics = gateway.metrics()
    assert metrics['guardhouse_shed_requests_total{reason="loading"}'] == refused + 4
    assert gateway.client.get("/openapi.json").status_code == gateway.client.get("/docs").status_code == 200


def _not_ready(gateway: "Gateway") -> httpx.Response | None:
    """Ask until a server that leaves says that it is not ready; None if this process has stalled until it had left."""
    last = time.monotonic()
    while True:
        asked = time.monotonic()
        try:
            answer = gateway.client.get("/readyz")
        except httpx.TransportError:
            assert time.monotonic() - last > DRAIN_SECONDS
            return None
        if answer.status_code == 503:
            return answer
        last = asked


def _refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=STALL_SECONDS).close()
    except ConnectionRefusedError:
        return True
    return False


def test_leaving_while_loading(serve: Callable[..., "Gateway"], gate: Path) -> None:
    """A server that gets SIGTERM before its model is loaded ends."""
    gateway = serve("values", MADE_UP_BUILD_GATE=str(gate)).wait_listening()
    gateway.terminate()
    assert gateway.wait() == 0


@pytest.mark.slow
def test_a_killed_front_comes_back(serve: Callable[..., "Gateway"]) -> None:
    """If a front is killed at work, the supervisor starts another one; it serves, and nothing is in flight in it."""
    gateway = serve("values").wait_ready()
    (front,) = gateway.fronts
    nap = {"instances": [{"a": NAP, "b": 1, "c": 4}]}
    with ThreadPoolExecutor(1) as pool:
        asleep = pool.submit(FRESH.post, f"{gateway.url}/predict", json=nap, timeout=STALL_SECONDS)
        gateway.wait_in_flight(asleep)
        front.send_signal(signal.SIGKILL)
        gateway.expected.append("WARNING|circus|restart")
        front.wait(STALL_SECONDS)
        assert isinstance(asleep.exception(), httpx.TransportError)
    gateway.wait_ready()
    gateway.wait_for(lambda metrics: metrics["guardhouse_inflight_requests"] == 0)
    assert gateway.predict([[1, 1, 1]])[0]["value"] == pytest.approx(2, abs=1e-4)


@pytest.mark.parametrize("user", [pytest.param("this user", marks=pytest.mark.slow), "without capabilities"])
def test_requests_through_a_whole_drain(serve: Callable[..., "Gateway"], user: str) -> None:
    """Clients that connect without pause until they are refused all get their answers, to the very end."""
    gateway = serve("values", prefix=as_user(user)).wait_ready()
    statuses: list[int] = []

    def send(_: int) -> None:
        fresh = httpx.Limits(max_keepalive_connections=0)
        with (
            httpx.Client(base_url=gateway.url, limits=fresh, timeout=STALL_SECONDS) as client,
            suppress(httpx.ConnectError),
        ):
            while True:
                asked = time.monotonic()
                try:
                    statuses.append(client.post("/predict", json=ROW).status_code)
                except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                    # A server that leaves waits for a request that long. This process has stalled for longer.
                    assert time.monotonic() - asked > LAST_SECONDS

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(send, i) for i in range(8)]
        until(lambda: len(statuses) > 100 or any(one.done() for one in running))
        gateway.terminate()
        for one in running:
            one.result()
    assert gateway.wait() == 0
    assert len(statuses) > 100
    assert set(statuses) == {200}


# What cannot be served


def _flip_a_byte(bundle: Path) -> None:
    path = bundle / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _lose_a_file(bundle: Path) -> None:
    (bundle / "weights.safetensors").unlink()


def _promise_otherwise(bundle: Path) -> None:
    """Change the known verdicts and the checksum with them: only the self-test can tell."""
    path = bundle / "state.safetensors"
    state = load_file(path)
    state["self_test.logits"] += 0.5
    save_file(state, path)
    forge(bundle)


def _edit_the_manifest(bundle: Path) -> None:
    manifest = bundle / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"temperature": 1', b'"temperature": 2'))


def test_a_damaged_bundle_is_never_ready(bundles: "Bundles", tmp_path: Path) -> None:
    """The server stays up to say why it is not ready, in readyz and in one line of the log."""
    from gateways import Gateway

    bundle = tmp_path / "bundle"
    shutil.copytree(bundles.bundle("values"), bundle)
    _flip_a_byte(bundle)
    gateway = Gateway(bundle, bundles.config("values"), tmp_path, PYTHONPATH=bundles.python_path).wait_listening()
    gateway.expected.append('"level": "critical".*sha256 differs')
    until(lambda: "loading" not in gateway.client.get("/readyz").text)
    for path, method in (("/readyz", "GET"), ("/predict", "POST")):
        refused = gateway.client.request(method, path, content=json.dumps(ROW))
        assert refused.status_code == 503
        assert "sha256 differs" in refused.json()["detail"]
    assert gateway.client.get("/livez").status_code == 200
    gateway.stop()
    assert "Traceback" not in gateway.log()
    assert gateway.log().count("critical") == 1


def an_engine(bundle: Path, folder: Path, code: Path, *, state: Path | None) -> Engine:
    """Load a bundle, and make the engine of it as the engine's process does."""
    loaded = Bundle.load(bundle, folder=code)
    Board.make(folder / "board", 1)
    board = Board(folder / "board")
    metrics = EngineMetrics([guard.name for guard in loaded.config.guards], [])
    return Engine(loaded, board, metrics, families=FamiliesFile(folder / "families"), state=state)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        *((_flip_a_byte, "sha256 differs"), (_lose_a_file, "is missing"), (_promise_otherwise, "self-test")),
        (_edit_the_manifest, "its digest differs"),
    ],
)
def test_every_damage_is_told_in_a_sentence(
    bundles: "Bundles", tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    """A changed byte, a lost file, and verdicts other than those on known rows: none of them is served."""
    bundle = tmp_path / "bundle"
    shutil.copytree(bundles.bundle("values"), bundle)
    damage(bundle)
    with pytest.raises(Mistake, match=reason):
        an_engine(bundle, tmp_path, bundles.config("values").parent, state=None)


def test_state_that_cannot_be_restored_does_not_keep_the_model(
    bundles: "Bundles", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault while monitors are restored costs what they had seen, and no prediction."""
    monkeypatch.setattr("service.engine.engine.Snapshots", lambda *_, **__: {}["lost"])
    engine = an_engine(bundles.bundle("values"), tmp_path, bundles.config("values").parent, state=tmp_path)
    engine.monitoring.close()
    assert engine._snapshots is None
    assert "the monitors start anew, and a restart forgets them: KeyError: 'lost'" in caplog.text


def test_a_builder_that_cannot_be_found_is_a_sentence(bundles: "Bundles", monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the config beside the code the builder is not importable: the reason says what to set."""
    monkeypatch.setattr("sys.path", [path for path in sys.path if path != str(bundles.config("values").parent)])
    monkeypatch.delitem(sys.modules, "made_up_value", raising=False)
    with pytest.raises(Mistake, match="GUARDHOUSE_CONFIG"):
        Bundle.load(bundles.bundle("values"))


# What may and may not change at deploy time


def _changed(bundles: "Bundles", name: str, document: dict[str, Any], file: str) -> Path:
    path = bundles.config(name).with_name(file)
    path.write_text(yaml.safe_dump(document))
    return path


def test_shadow_mode_judges_and_never_acts(bundles: "Bundles", serve: Callable[..., "Gateway"]) -> None:
    """Mode, budget, actions, shares and bounds change without a refit; in shadow every answer is allow, and counted."""
    guards = [guard | {"action": "reject", "share": 2.0} for guard in TABLE_CONFIG["guards"]]
    changes = {"mode": "shadow", "false_alarm_budget": 0.2, "guards": guards, "server": {"max_rows_per_request": 3}}
    config = _changed(bundles, "table", TABLE_CONFIG | changes, "shadow.yaml")
    gateway = serve("table", config=config).wait_ready()
    response = gateway.post({"instances": [ALLOWED, REJECTED], "parameters": {"detail": True}})
    allowed, shadowed = response.json()["predictions"]
    assert response.headers["X-Guardhouse-Action"] == "allow"
    for said in (allowed, shadowed):
        assert said["action"] == "allow"
        assert said["reasons"] == []
        assert said["label"] in {"no", "yes"}
    assert shadowed["guards"]["quality"]["flagged"] is True
    assert shadowed["guards"]["quality"]["causes"][0] == "age"
    metrics = gateway.metrics()
    assert metrics['guardhouse_guard_flags_total{guard="quality"}'] == 1
    assert metrics['guardhouse_rows_total{action="allow"}'] == 2
    assert gateway.post({"instances": [ALLOWED] * 4}).status_code == 422


Refused = Callable[..., str]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run `guardhouse serve` in this process until it would become the server, and return its complaint."""

    def serve(*arguments: str | Path, **environment: str) -> str:
        for name in list(os.environ):
            if name.startswith(("GUARDHOUSE_", "BENTOML_")):
                monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.argv", ["guardhouse", "serve", *map(str, arguments)])
        monkeypatch.setattr("os.chdir", pytest.fail)
        with pytest.raises(SystemExit) as left:
            service.cli.commands.run()
        assert left.value.code == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert "Traceback" not in said.err
        return said.err

    return serve


def test_serve_becomes_the_command_that_tests_start(bundles: "Bundles", monkeypatch: pytest.MonkeyPatch) -> None:
    """`guardhouse serve` runs BentoML with the bundle, the config and the address that were named."""
    became: list[Any] = []
    monkeypatch.setattr("os.chdir", became.append)
    monkeypatch.setattr("os.execve", lambda *arguments: became.extend(arguments))
    monkeypatch.setenv("BENTOML_HOME", "/home")
    bundle, config, port = bundles.bundle("values"), bundles.config("values"), str(free_port())
    options = ["--host", "127.0.0.1", "--port", port]
    monkeypatch.setattr("sys.argv", ["guardhouse", "serve", str(bundle), "--config", str(config), *options])
    with pytest.raises(SystemExit):
        service.cli.commands.run()
    root, program, command, environment = became
    assert (root, program, sorted(command)) == (ROOT, sys.executable, sorted([*BENTOML_SERVE, *options]))
    own = {"GUARDHOUSE_BUNDLE": str(bundle), "GUARDHOUSE_CONFIG": str(config), "BENTOML_DO_NOT_TRACK": "True"}
    assert environment == {**os.environ, **own}


def test_a_bundle_that_is_not_there_is_refused(refused: Refused, tmp_path: Path) -> None:
    """A path without a bundle ends the start with status 2 and says how to make one."""
    assert refused(tmp_path / "none").startswith(f"{tmp_path / 'none'}: no bundle there; make one with `guardhouse fit")


def test_a_manifest_that_is_cut_off_is_refused(bundles: "Bundles", refused: Refused, tmp_path: Path) -> None:
    """A bundle whose manifest is half copied ends the start with status 2 and a sentence."""
    (tmp_path / "manifest.json").write_bytes((bundles.bundle("values") / "manifest.json").read_bytes()[:-20])
    assert refused(tmp_path).startswith(f"{tmp_path / 'manifest.json'}: it cannot be read")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"version": "2"}, "version"),
        ({"reference": VALUE_CONFIG["reference"] | {"seed": 1}}, "reference.seed"),
        ({"guards": [{"name": "other", "detector": {"kind": "mahalanobis"}}]}, "guards.0.name"),
        ({"input": {"kind": "tensor", "shape": [3]}}, "input.kind"),
        ({"guards": []}, "guards.0.name"),
        ({"monitors": [{"name": "streams", "kind": "bins", "bins": 5}]}, "monitors.0.bins"),
    ],
)
def test_changes_that_need_a_refit_are_refused(
    bundles: "Bundles", refused: Refused, changes: dict[str, Any], key: str
) -> None:
    """Anything else that differs ends the start with status 2 and the name of the key."""
    config = _changed(bundles, "values", VALUE_CONFIG | changes, "changed.yaml")
    said = refused(bundles.bundle("values"), "--config", config)
    assert key in said
    assert "fit anew" in said


@pytest.mark.parametrize(
    ("arguments", "environment", "word"),
    [
        (["/nowhere/at/all"], {}, "guardhouse fit"),
        (["{bundle}", "--config", "/nowhere.yaml"], {}, "/nowhere.yaml"),
        (["{bundle}"], {"GUARDHOUSE_CONFIG": "/nowhere.yaml"}, "/nowhere.yaml"),
        (["{bundle}", "--port", "0"], {}, "--port"),
        (["{bundle}", "--port", "99999"], {}, "--port"),
        (["{bundle}", "--bundle-id", "sha256:0"], {}, "the bundle id that was asked for is sha256:0; name the folder"),
        (["{bundle}"], {"GUARDHOUSE_BUNDLE_ID": "sha256:1"}, "the bundle id that was asked for is sha256:1; name the"),
        (["{bundle}"], {"GUARDHOUSE_BUNDLE_ID": ""}, "GUARDHOUSE_BUNDLE_ID: it is empty"),
        (["{bundle}", "--host", "256.256.256.256"], {}, "--host"),
        (["{bundle}"], {"GUARDHOUSE_REDIS_URL": "http://x"}, "GUARDHOUSE_REDIS_URL"),
        (["{bundle}"], {"GUARDHOUSE_LOG_LEVEL": "loud"}, "GUARDHOUSE_LOG_LEVEL"),
        (["{bundle}"], {"HOME": "/proc/none", "GUARDHOUSE_STATE": "/proc/none"}, "BENTOML_HOME"),
        ([], {}, "Missing argument"),
    ],
)
def test_mistakes_of_a_start_are_sentences(
    bundles: "Bundles", refused: Refused, arguments: list[str], environment: dict[str, str], word: str
) -> None:
    """A wrong path, port, host or variable ends the start with status 2 and its name, never with a traceback."""
    filled = [argument.replace("{bundle}", str(bundles.bundle("values"))) for argument in arguments]
    assert word in refused(*filled, **environment)


def test_a_mistake_in_the_config_is_named(bundles: "Bundles", refused: Refused) -> None:
    """A misspelt key of the deployed config is named by its dotted place."""
    config = _changed(bundles, "values", VALUE_CONFIG | {"server": {"max_batch_row": 4}}, "misspelt.yaml")
    assert "server.max_batch_row: unknown key" in refused(bundles.bundle("values"), "--config", config)


def test_a_taken_port_is_refused(bundles: "Bundles") -> None:
    """A port that somebody listens on ends the whole process with status 2 and its number."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        done = cli(
            "serve", bundles.bundle("values"), "--config", bundles.config("values"), "--host", "127.0.0.1",
            "--port", str(port),
        )  # fmt: skip
    assert done.returncode == 2
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_more_workers_are_refused(bundles: "Bundles", tmp_path: Path) -> None:
    """Two workers would count twice and queue apart: BentoML's own configuration cannot ask for them."""
    config = tmp_path / "bentoml.yaml"
    config.write_text(yaml.safe_dump({"services": {"Gateway": {"workers": 2}}}))
    done = cli(
        "serve", bundles.bundle("values"), "--config", bundles.config("values"), "--port", str(free_port()),
        BENTOML_CONFIG=str(config), BENTOML_HOME=os.fspath(tmp_path),
    )  # fmt: skip
    assert done.returncode != 0
    assert "workers is 2: leave it out" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout
