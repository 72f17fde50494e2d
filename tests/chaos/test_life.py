"""A server's life: loading, serving, losing its worker, draining, and what it says when it cannot begin."""

import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
import yaml
from gateways import cli, free_port
from made_up import ALLOWED, NAP, REJECTED, TABLE_CONFIG, VALUE_CONFIG
from safetensors.torch import load_file, save_file
from users import as_user

import service.cli
from guards.types import Mistake
from service.metrics import Metrics
from service.runtime import Runtime, load

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

ROW = {"instances": [[1, 1, 1]]}
VALUE = "/v1/models/value"


@pytest.fixture
def serve(bundles: "Bundles") -> Iterator[Callable[..., "Gateway"]]:
    """Start servers that are stopped at the end, in order, whatever happened."""
    started: list[Gateway] = []

    def start(name: str, **options: Any) -> "Gateway":
        started.append(bundles.serve(name, **options))
        return started[-1]

    yield start
    for gateway in started:
        gateway.stop()


def test_loading_serving_and_draining(serve: Callable[..., "Gateway"]) -> None:
    """Readiness follows the model in and out, requests in flight are answered, and the process leaves with 0."""
    gateway = serve("values", MADE_UP_BUILD_SECONDS="2").wait_listening()
    _is_loading(gateway)
    gateway.wait_ready()
    assert gateway.client.get(VALUE).json() == {"name": "value", "ready": True}
    processes = gateway._processes()
    with ThreadPoolExecutor(2) as pool, httpx.Client(base_url=gateway.url) as kept:
        assert kept.post("/predict", json=ROW).status_code == 200
        nap = {"instances": [{"a": NAP, "b": 1, "c": 2.5}]}
        asleep = pool.submit(httpx.post, f"{gateway.url}/predict", json=nap, timeout=20)
        _until(lambda: gateway._scrape()["guardhouse_inflight_requests"] == 1)
        asked = time.monotonic()
        gateway.terminate()
        _until(lambda: gateway.client.get("/readyz").status_code == 503)
        refused = gateway.client.get("/readyz")
        assert "shutting down" in refused.json()["detail"]
        assert refused.headers["connection"] == "close"
        late = kept.post("/predict", json=ROW, timeout=20)  # a request on its way when the signal came
        _until(lambda: _refuses(gateway.port))
        assert time.monotonic() - asked > 0.8
        assert not asleep.done() or asleep.result().status_code == 200
        answered = asleep.result()
    assert answered.status_code == late.status_code == 200
    assert answered.json()["predictions"][0]["value"] == pytest.approx(3 * NAP - 2 + 2.5, abs=1e-4)
    assert gateway.wait() == 0
    assert time.monotonic() - asked < 20
    assert not [process for process in processes if process.is_running()]
    assert not gateway.surprises()


def _is_loading(gateway: "Gateway") -> None:
    """Check every path of a server whose model is not there yet."""
    assert gateway.client.get("/livez").status_code == 200
    assert "loading" in gateway.client.get("/readyz").json()["detail"]
    for path in ("/predict", f"{VALUE}:predict", f"{VALUE}:explain"):
        refused = gateway.client.post(path, json=ROW)
        assert refused.status_code == 503
        assert "loading" in refused.json()["detail"]
    assert gateway.client.get(f"{VALUE}/monitors").status_code == 503
    assert gateway.client.get(VALUE).json() == {"name": "value", "ready": False}
    metrics = gateway.metrics()
    assert metrics['guardhouse_shed_requests_total{reason="loading"}'] == 4
    assert gateway.client.get("/openapi.json").status_code == gateway.client.get("/docs").status_code == 200


def _until(true: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def _refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except ConnectionRefusedError:
        return True
    return False


def test_loading_keeps_nobody_waiting(serve: Callable[..., "Gateway"]) -> None:
    """From the first connection that is taken until the model is there, every question has its answer at once."""
    gateway = serve("values", MADE_UP_BUILD_SECONDS="1")
    _until(lambda: not _refuses(gateway.port), 60)
    took: list[float] = []

    def ask(method: str, path: str) -> int:
        asked = time.monotonic()
        status = httpx.request(method, f"{gateway.url}{path}", json=ROW if method == "POST" else None).status_code
        took.append(time.monotonic() - asked)
        return status

    with ThreadPoolExecutor(16) as pool:
        ready, refused = [], []
        while not (ready and any(one.done() and one.result() == 200 for one in ready)):
            alive = pool.submit(ask, "GET", "/livez")
            ready.append(pool.submit(ask, "GET", "/readyz"))
            refused.append(pool.submit(ask, "POST", "/predict"))
            assert alive.result() == 200
            time.sleep(0.02)
    assert {one.result() for one in ready} == {one.result() for one in refused} == {200, 503}
    assert max(took) < 0.5


def test_leaving_while_loading(serve: Callable[..., "Gateway"]) -> None:
    """A server that is told to go before its model is there goes."""
    gateway = serve("values", MADE_UP_BUILD_SECONDS="20").wait_listening()
    gateway.terminate()
    assert gateway.wait(18) == 0


@pytest.mark.slow
def test_a_killed_worker_comes_back(serve: Callable[..., "Gateway"]) -> None:
    """The supervisor starts a new worker where one was killed at work; it serves, and nothing is in flight in it."""
    gateway = serve("values").wait_ready()
    (worker,) = psutil.Process(gateway.process.pid).children()
    nap = {"instances": [{"a": NAP, "b": 1, "c": 4}]}
    with ThreadPoolExecutor(1) as pool:
        asleep = pool.submit(httpx.post, f"{gateway.url}/predict", json=nap, timeout=20)
        gateway.wait_for(lambda metrics: metrics["guardhouse_inflight_requests"] == 1)
        worker.send_signal(signal.SIGKILL)
        gateway.expected.append("WARNING|circus|restart")
        worker.wait(10)
        assert isinstance(asleep.exception(), httpx.TransportError)
    gateway.wait_ready()
    assert gateway._scrape()["guardhouse_inflight_requests"] == 0
    assert gateway.predict([[1, 1, 1]])[0]["value"] == pytest.approx(2, abs=1e-4)


@pytest.mark.parametrize("user", [pytest.param("this user", marks=pytest.mark.slow), "without capabilities"])
def test_requests_through_a_whole_drain(serve: Callable[..., "Gateway"], user: str) -> None:
    """Clients that connect without pause until they are refused all get their answers, to the very end."""
    gateway = serve("values", prefix=as_user(user)).wait_ready()
    statuses: list[int] = []

    def send(_: int) -> None:
        fresh = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=gateway.url, limits=fresh, timeout=10) as client, suppress(httpx.ConnectError):
            while True:
                statuses.append(client.post("/predict", json=ROW).status_code)

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(send, i) for i in range(8)]
        time.sleep(0.4)
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
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["sha256"][path.name] = sha256(path.read_bytes()).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_a_damaged_bundle_is_never_ready(bundles: "Bundles", tmp_path: Path) -> None:
    """The server stays up to say why it is not ready, in readyz and in one line of the log."""
    from gateways import Gateway

    bundle = tmp_path / "bundle"
    shutil.copytree(bundles.bundle("values"), bundle)
    _flip_a_byte(bundle)
    gateway = Gateway(bundle, bundles.config("values"), tmp_path, PYTHONPATH=bundles.python_path).wait_listening()
    gateway.expected.append('"level": "critical".*sha256 differs')
    _until(lambda: "loading" not in gateway.client.get("/readyz").text, 20)
    for path, method in (("/readyz", "GET"), ("/predict", "POST")):
        refused = gateway.client.request(method, path, content=json.dumps(ROW))
        assert refused.status_code == 503
        assert "sha256 differs" in refused.json()["detail"]
    assert gateway.client.get("/livez").status_code == 200
    gateway.stop()
    assert "Traceback" not in gateway.log()
    assert gateway.log().count("critical") == 1


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(_flip_a_byte, "sha256 differs"), (_lose_a_file, "is missing"), (_promise_otherwise, "self-test")],
)
def test_every_damage_is_told_in_a_sentence(
    bundles: "Bundles", tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    """A changed byte, a lost file, and verdicts other than those on known rows: none of them is served."""
    bundle = tmp_path / "bundle"
    shutil.copytree(bundles.bundle("values"), bundle)
    damage(bundle)
    with pytest.raises(Mistake, match=reason):
        Runtime(load(bundle, bundles.config("values"), None), Metrics({}, []))


def test_state_that_cannot_be_restored_does_not_keep_the_model(
    bundles: "Bundles", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault while monitors are restored costs what they had seen, and no prediction."""
    monkeypatch.setattr("service.runtime.Snapshots", lambda *_, **__: {}["lost"])
    runtime = Runtime(load(bundles.bundle("values"), bundles.config("values"), None), Metrics({}, []), state=tmp_path)
    runtime.monitoring.close()
    assert runtime.snapshots is None
    assert "the monitors start anew, and a restart forgets them: KeyError: 'lost'" in caplog.text


def test_a_builder_that_cannot_be_found_is_a_sentence(bundles: "Bundles", monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the config beside the code the builder is not importable: the reason says what to set."""
    monkeypatch.setattr("sys.path", [path for path in sys.path if path != str(bundles.config("values").parent)])
    monkeypatch.delitem(sys.modules, "made_up_value", raising=False)
    with pytest.raises(Mistake, match="GUARDHOUSE_CONFIG"):
        load(bundles.bundle("values"), None, None)


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
    assert shadowed["guards"]["quality"]["causes"] == ["age"]
    metrics = gateway.metrics()
    assert metrics['guardhouse_guard_flags_total{guard="quality"}'] == 1
    assert metrics['guardhouse_rows_total{action="allow"}'] == 2
    assert gateway.post({"instances": [ALLOWED] * 4}).status_code == 422


Refused = Callable[..., str]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run `guardhouse serve` in this process up to where it would become the server, and give its complaint."""

    def serve(*arguments: str | Path, **environment: str) -> str:
        for name in list(os.environ):
            if name.startswith(("GUARDHOUSE_", "BENTOML_")):
                monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.argv", ["guardhouse", "serve", *map(str, arguments)])
        monkeypatch.setattr("os.chdir", pytest.fail)
        with pytest.raises(SystemExit) as left:
            service.cli.run()
        assert left.value.code == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert "Traceback" not in said.err
        return said.err

    return serve


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
    """A misspelt key of the deployed config is told by its dotted place."""
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
    assert "workers is 2: one worker" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout
