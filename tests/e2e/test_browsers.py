"""What browsers need: permission for pages of other origins, and the times of an answer's stages."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml
from gateways import cli

if TYPE_CHECKING:
    from gateways import Gateway

PAGE, STRANGER = "https://app.example", "https://evil.example"
ROW = [1.0, 2.0, 0.5]
ASKED = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type, x-request-id"}


def test_preflights(restricted: "Gateway") -> None:
    """A listed origin gets leave, without the page's cookies; a stranger gets none, and neither makes a series."""
    before = set(restricted.metrics())
    for path in ("/v1/models/value:predict", "/v2/models/value/infer", "/predict", "/nowhere"):
        granted = httpx.options(restricted.url + path, headers={"Origin": PAGE, **ASKED})
        assert granted.status_code == 204
        assert granted.headers["Access-Control-Allow-Origin"] == PAGE
        assert granted.headers["Access-Control-Max-Age"] == "60"
        assert granted.headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in granted.headers
        allowed = granted.headers["Access-Control-Allow-Headers"].lower()
        assert all(name in allowed for name in ("content-type", "x-request-id", "inference-header", "x-extra"))
        assert "POST" in granted.headers["Access-Control-Allow-Methods"]
        refused = restricted.client.options(path, headers={"Origin": STRANGER, **ASKED})
        assert refused.status_code == 403
        assert "server.cors.origins" in refused.json()["detail"]
        assert "Access-Control-Allow-Origin" not in refused.headers
    assert set(restricted.metrics()) == before
    assert restricted.metrics()['guardhouse_requests_total{code="204",route="preflight"}'] == 4


def test_pages_may_read_answers(restricted: "Gateway") -> None:
    """Answers to pages of a listed origin allow it, errors too; others only say that they depend on the origin."""
    client = restricted.client
    for body, code in (({"instances": [ROW]}, 200), ({}, 422)):
        answer = client.post("/v1/models/value:predict", json=body, headers={"Origin": PAGE})
        assert answer.status_code == code
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert "X-Guardhouse-Action" in answer.headers["Access-Control-Expose-Headers"]
    for headers in ({"Origin": STRANGER}, {"Origin": f"{PAGE}.evil.example"}, {"Origin": "null"}, {}):
        answer = client.post("/v1/models/value:predict", json={"instances": [ROW]}, headers=headers)
        assert answer.status_code == 200
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.headers["Vary"] == "Origin"
    assert client.options("/livez", headers={"Origin": PAGE}).status_code == 405  # no preflight


def test_no_page_without_a_config(values: "Gateway") -> None:
    """Without `server.cors` a preflight is a method that no path takes, and no answer says anything of origins."""
    refused = values.client.options("/predict", headers={"Origin": PAGE, **ASKED})
    assert refused.status_code == 405
    assert not [name for name in refused.headers if name.startswith("access-control")]
    assert "Vary" not in refused.headers


def test_bentomls_own_cors_is_refused(bundles: Any, tmp_path: Path) -> None:
    """BentoML's `http.cors` would do nothing here, so that the server does not start with it, and says what to use."""
    config = tmp_path / "bentoml.yaml"
    cors = {"enabled": True, "access_control_allow_origins": [PAGE]}
    config.write_text(yaml.safe_dump({"services": {"Gateway": {"http": {"cors": cors}}}}))
    done = cli("serve", bundles.bundle("values"), BENTOML_CONFIG=str(config), BENTOML_HOME=str(tmp_path / "home"))
    assert done.returncode != 0
    assert "server.cors" in done.stderr + done.stdout


def test_server_timing_for_who_asks(values: "Gateway") -> None:
    """Only a client that asks gets the milliseconds of each stage, by v1 and v2."""
    tensors = [{"name": n, "datatype": "FP32", "shape": [1], "data": [v]} for n, v in zip("abc", ROW, strict=True)]
    asked = {"X-Server-Timing": "1"}
    for path, body in (
        ("/v1/models/value:predict", {"instances": [ROW]}),
        ("/v2/models/value/infer", {"inputs": tensors}),
    ):
        parts = values.client.post(path, json=body, headers=asked).headers["Server-Timing"]
        found = dict(re.findall(r"(\w+);dur=([0-9.]+)", parts))
        assert list(found) == ["decode", "queue", "model", "encode", "total"]
        milliseconds = {name: float(value) for name, value in found.items()}
        assert milliseconds["total"] >= sum(milliseconds.values()) - milliseconds["total"] > 0
        for headers in ({}, {"X-Server-Timing": "0"}):
            assert "Server-Timing" not in values.client.post(path, json=body, headers=headers).headers
    assert values.client.get("/livez", headers=asked).headers["Server-Timing"].startswith("total;dur=")
    refused = values.client.post("/predict", json={}, headers=asked)
    assert refused.status_code == 422
    assert "total;dur=" in refused.headers["Server-Timing"]
