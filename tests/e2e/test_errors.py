"""The rows of the contract's table of errors that this version covers."""

import base64
import io
import json
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from example_folders import ALLOWED, CRASH_MODEL, HELD, NAP, VALUE_CONFIG
from fresh_client import FRESH
from gateways import ON_THE_DEVICE, differing, faults_allowed, read_answer
from PIL import Image

if TYPE_CHECKING:
    from gateways import Gateway

A = json.dumps(ALLOWED)


def places(response: httpx.Response) -> list[list[Any]]:
    """Give the places of the faults."""
    return [error["loc"] for error in response.json()["errors"]]


# 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b"[",
        b"nonsense",
        b"{'instances': []}",
        b'{"instances": [1,]}',
        b'{"instances": []} trailing',
        b'{"instances": [01]}',
        b'{"instances": [.5]}',
        b'{"instances": ["a\nb"]}',
        b"\xff\xfe{\x00}\x00",
        b'{"instances": ["\xe9"]}',
        b'{"instances": ["\xed\xa0\x80"]}',
        b'\xef\xbb\xbf{"instances": []}',
        b'{"instances": [], "instances": []}',
        b'{"instances": [{"age": 1, "age": 1}]}',
        b'{"instances": [{"age": 1, "\\u0061ge": 1}]}',
        b'{"instances": [[[{"a": 1, "a": 2}]]]}',
        b'{"parameters": {"detail": true, "detail": false}, "instances": []}',
        b'{"instances": ["\\ud800"]}',
        b'{"\\udc00": 1}',
        b'{"instances": ' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"a":' * 3000 + b"1" + b"}" * 3000,
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)
@pytest.mark.parametrize("path", ["/v1/models/loans:predict", "/predict", "/v1/models/loans:explain"])
def test_not_json_is_400(table: "Gateway", body: bytes, path: str) -> None:
    """A body that is no JSON, is not UTF-8, repeats a key or nests too deep is refused by every door alike."""
    response = table.post(body, path)
    assert response.status_code == 400
    assert response.json()["errors"] == []


@pytest.mark.parametrize("seconds", ["abc", "0", "-1", "nan", "", "1,5"])
@pytest.mark.parametrize("path", ["/v1/models/loans:predict", "/readyz", "/metrics"])
def test_bad_timeout_is_400(table: "Gateway", path: str, seconds: str) -> None:
    """A deadline that is no positive number is the caller's mistake, on every path, and is counted."""
    before = table.metrics()
    method = "POST" if path.endswith("predict") else "GET"
    response = table.client.request(method, path, headers={"X-Request-Timeout": seconds}, content=b"{}")
    assert response.status_code == 400
    assert "X-Request-Timeout" in response.json()["detail"]
    template = path.replace("loans", "{name}")
    moved = differing(table.metrics(), before, "guardhouse_requests_total")
    assert moved[f'guardhouse_requests_total{{code="400",route="{template}"}}'] == 1


# 404, 405


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/favicon.ico"),
        ("GET", "/v1"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/models/other"),
        ("GET", "/v1/models/LOANS"),
        ("POST", "/v1/models/other:predict"),
        ("POST", "/v1/models/loans:predict/"),
        ("POST", "/v1/models/loans:Predict"),
        ("GET", "/livez//"),
        ("GET", "/livez/../metrics/x"),
        ("PUT", "/nothing"),
        ("GET", "/%00"),
        ("GET", "/%ff%fe"),
        ("HEAD", "/nothing"),
        ("GET", "/" + "a" * 8000),
    ],
)
def test_unknown_paths_are_404(table: "Gateway", method: str, path: str) -> None:
    """Every unknown path gets the same answer, and one series counts them."""
    before = table.metrics()
    assert table.client.request(method, path).status_code == 404
    moved = differing(table.metrics(), before, "guardhouse_requests_total{code=")
    assert moved['guardhouse_requests_total{code="404",route="unmatched"}'] == 1


@pytest.mark.parametrize("path", ["/v1/models/loans:predict", "/v1/models/loans:explain", "/predict"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_wrong_methods_of_post_paths_are_405(table: "Gateway", method: str, path: str) -> None:
    """Another method on a path that takes POST is answered 405 with `Allow: POST`."""
    response = table.client.request(method, path)
    assert response.status_code == 405
    assert response.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    "path",
    ["/livez", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/v1/models", "/v1/models/loans",
     "/v1/models/loans/monitors"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_wrong_methods_of_get_paths_are_405(table: "Gateway", method: str, path: str) -> None:
    """Another method on a path that takes GET is answered 405, and `Allow` lists GET and HEAD."""
    response = table.client.request(method, path)
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET, HEAD"


# 413


def test_declared_length_is_refused_before_the_body(images: "Gateway") -> None:
    """If Content-Length is over the limit, the answer comes before one byte of the body."""
    answer = images.raw(
        b"POST /v1/models/colours:predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 65537\r\nX-Request-ID: big\r\n\r\n"
    )
    assert answer.status == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    assert json.loads(answer.body)["request_id"] == "big"


def test_expecting_client_is_not_told_to_continue(images: "Gateway") -> None:
    """A client that sends Expect: 100-continue with too long a body is refused at once."""
    answer = images.raw(
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Expect: 100-continue\r\nContent-Length: 999999\r\n\r\n"
    )
    assert answer.status == 413


@pytest.mark.parametrize("length", [b"99999999999999999999999999", b"65537"])
def test_absurd_lengths_are_refused(images: "Gateway", length: bytes) -> None:
    """A length of any size is compared, not allocated."""
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
    assert images.raw(head + length + b"\r\n\r\n").status in {400, 413}


def test_chunked_body_is_cut_off(images: "Gateway") -> None:
    """Without a declared length the body is refused as soon as it is over the limit."""

    def chunks() -> Iterator[bytes]:
        for _ in range(80):
            yield b" " * 1024

    response = images.client.post("/predict", content=chunks(), headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert "65536" in response.json()["detail"]


def test_whole_large_body_gets_its_answer(table: "Gateway") -> None:
    """A client that sends all of a body that is too large still gets to read why it was refused."""
    response = table.client.post("/predict", content=b" " * (17 << 20), headers={"Content-Type": "application/json"})
    assert response.status_code == 413


def test_body_of_exactly_the_limit_is_read(images: "Gateway") -> None:
    """The limit itself is allowed: such a body fails for another reason."""
    body = b"{}" + b" " * 65534
    assert images.post(body).status_code == 422
    assert images.post(body + b" ").status_code == 413


# 415


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx",
     "application/ld+json", "json", "", "application/json; charset=latin-1", "application/json;charset=utf-16",
     "application/json; charset=utf-80"],
)  # fmt: skip
def test_other_content_types_are_415(table: "Gateway", kind: str) -> None:
    """Only JSON in UTF-8 is taken."""
    assert table.client.post("/predict", content=b"{}", headers={"Content-Type": kind}).status_code == 415


@pytest.mark.parametrize(
    "kind",
    ["application/json", "Application/JSON", "application/json; charset=utf-8", 'application/json;charset="UTF-8"',
     "application/json; Charset = utf-8", "application/json; profile=x"],
)  # fmt: skip
def test_spellings_of_json_are_taken(table: "Gateway", kind: str) -> None:
    """Case, quotes, spaces and other parameters do not matter."""
    body = json.dumps({"instances": [ALLOWED]})
    assert table.client.post("/predict", content=body, headers={"Content-Type": kind}).status_code == 200


def test_absent_content_type_is_json(table: "Gateway") -> None:
    """A client that does not say what it sends is taken to send JSON."""
    request = httpx.Request("POST", f"{table.url}/predict", content=json.dumps({"instances": [ALLOWED]}))
    assert "content-type" not in request.headers
    assert table.client.send(request).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity, gzip", "x"])
def test_content_encodings_are_415(table: "Gateway", encoding: str) -> None:
    """A compressed body could be anything once unpacked: it is not taken."""
    assert table.post(b"{}", Content_Encoding=encoding).status_code == 415
    assert table.post({"instances": [ALLOWED]}, Content_Encoding="identity").status_code == 200


# 422


def row(**change: str) -> str:
    """Spell a row with some of its values as they are given."""
    fields = {name: json.dumps(value) for name, value in ALLOWED.items()} | change
    return "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"


NUMBERS = ['"1.5"', '""', "true", "false", "[]", "[1]", "{}", "NaN", "Infinity", "-Infinity", "1e400", "-1e400",
           "1e39", "1" + "0" * 400]  # fmt: skip
TABLE_FAULTS: list[tuple[str, list[list[Any]]]] = [
    ("{}", [["instances"]]),
    ("[]", [[]]),
    ("null", [[]]),
    ("3", [[]]),
    ("NaN", [[]]),
    ('"instances"', [[]]),
    ('{"instances": []}', [["instances"]]),
    ('{"instances": null}', [["instances"]]),
    ('{"instances": {}}', [["instances"]]),
    (f'{{"instances": {A}}}', [["instances"]]),
    (f'{{"instances": [{A}], "instance": 1}}', [["instance"]]),
    (f'{{"instances": [{A}], "{"k" * 99}": 1}}', [["k" * 40]]),
    ('{"instances": [5]}', [["instances", 0]]),
    ('{"instances": [null]}', [["instances", 0]]),
    ('{"instances": ["age"]}', [["instances", 0]]),
    ('{"instances": [[]]}', [["instances", 0]]),
    ('{"instances": [[1, 2, "north", "cook"]]}', [["instances", 0]]),
    ('{"instances": [[1, 2, "north", "cook", 0.6, 7]]}', [["instances", 0]]),
    ('{"instances": [[1, "2", "north", "cook", 0.6]]}', [["instances", 0, "income"]]),
    ('{"instances": [{}]}', [["instances", 0, name] for name in ("age", "income", "region", "job", "trap")]),
    (f'{{"instances": [{row(agee="1")}]}}', [["instances", 0, "agee"]]),
    (f'{{"instances": [{A}, {row(**{"x" * 99: "1"})}]}}', [["instances", 1, "x" * 40]]),
    (f'{{"instances": [{A.replace("age", "Age")}]}}', [["instances", 0, "age"], ["instances", 0, "Age"]]),
    *((f'{{"instances": [{A}, {row(age=value)}]}}', [["instances", 1, "age"]]) for value in NUMBERS),
    *(
        (f'{{"instances": [{row(region=value)}]}}', [["instances", 0, "region"]])
        for value in ("true", "1.5", "[]", "{}", "NaN", "1")
    ),
    (f'{{"instances": [{A}], "ids": []}}', [["ids"]]),
    (f'{{"instances": [{A}], "ids": ["a", "b"]}}', [["ids"]]),
    (f'{{"instances": [{A}], "ids": "a"}}', [["ids"]]),
    (f'{{"instances": [{A}], "ids": [1]}}', [["ids", 0]]),
    (f'{{"instances": [{A}], "ids": [null]}}', [["ids", 0]]),
    (f'{{"instances": [{A}], "ids": [""]}}', [["ids", 0]]),
    (f'{{"instances": [{A}], "ids": ["{"i" * 257}"]}}', [["ids", 0]]),
    (f'{{"instances": [{A}, {A}, {A}], "ids": ["a", "b", "a"]}}', [["ids", 2]]),
    (f'{{"instances": [{A}], "groups": []}}', [["groups"]]),
    (f'{{"instances": [{A}], "groups": {{"race": ["x"]}}}}', [["groups", "race"]]),
    (f'{{"instances": [{A}], "groups": {{"age": ["x"]}}}}', [["groups", "age"]]),
    (f'{{"instances": [{A}], "groups": {{"sex": "Female"}}}}', [["groups", "sex"]]),
    (f'{{"instances": [{A}], "groups": {{"sex": []}}}}', [["groups", "sex"]]),
    (f'{{"instances": [{A}, {A}], "groups": {{"sex": ["Female", 1]}}}}', [["groups", "sex", 1]]),
    (f'{{"instances": [{A}], "groups": {{"sex": [true]}}}}', [["groups", "sex", 0]]),
    (f'{{"instances": [{A}], "parameters": []}}', [["parameters"]]),
    (f'{{"instances": [{A}], "parameters": {{"detial": true}}}}', [["parameters", "detial"]]),
    (f'{{"instances": [{A}], "parameters": {{"detail": 1}}}}', [["parameters", "detail"]]),
    (f'{{"instances": [{A}], "parameters": {{"detail": "true"}}}}', [["parameters", "detail"]]),
    (f'{{"instances": [{", ".join([A] * 1025)}]}}', [["instances"]]),
    (
        f'{{"instances": [{row(age=chr(34) + "1" + chr(34))}, {A}, {row(trap="true", job="3.5")}, 5], "ids": [1, 2]}}',
        [["instances", 0, "age"], ["instances", 2, "job"], ["instances", 2, "trap"], ["instances", 3], ["ids"]],
    ),
]


@pytest.mark.parametrize(("body", "expected"), TABLE_FAULTS, ids=lambda value: str(value)[:60])
def test_faults_of_a_table_are_listed_by_place(table: "Gateway", body: str, expected: list[list[Any]]) -> None:
    """Each fault of a well-formed body is listed with its place; the status is 422."""
    response = table.post(body.encode())
    assert response.status_code == 422, response.text
    assert sorted(places(response), key=str) == sorted(expected, key=str)
    assert all(error["msg"] for error in response.json()["errors"])
    assert table.post(body.encode(), "/predict").json()["errors"] == response.json()["errors"]


@pytest.mark.parametrize(("faults", "listed"), [(1, 1), (19, 19), (20, 20), (21, 20), (500, 20)])
def test_up_to_twenty_faults_are_listed(table: "Gateway", faults: int, listed: int) -> None:
    """The first twenty faults are listed, in the order of the rows, and the rest are counted."""
    rows = [ALLOWED | ({"age": "old"} if i % 2 else {}) for i in range(2 * faults)]
    response = table.post({"instances": rows})
    assert response.status_code == 422
    assert places(response) == [["instances", 2 * i + 1, "age"] for i in range(listed)]
    assert f"{faults} fault" in response.json()["detail"]


def test_faults_do_not_quote_long_values(table: "Gateway") -> None:
    """A long wrong value is described, not sent back."""
    response = table.post({"instances": [ALLOWED | {"age": "secret" * 100}]})
    assert response.status_code == 422
    assert "secretsecret" not in response.text


def _file(mode: str = "RGB", size: tuple[int, int] = (8, 6), kind: str = "PNG", cut: int | None = None) -> str:
    file = io.BytesIO()
    noise = np.random.default_rng(0).bytes(8 * size[0] * size[1])
    bytes_a_pixel = {"L": 1, "I;16": 2, "RGB": 3, "RGBA": 4}[mode]
    Image.frombytes(mode, size, noise[: bytes_a_pixel * size[0] * size[1]]).save(file, kind)
    return json.dumps({"b64": base64.b64encode(file.getvalue()[:cut]).decode()})


def _nested(**change: Any) -> str:
    image = np.full((3, 6, 8), 0.5).tolist()
    image[2][5][7] = change.get("value", 0.5)
    return json.dumps(image)


IMAGE_FAULTS: list[tuple[str, list[Any]]] = [
    ('{"b64": "no base64!"}', ["b64"]),
    ('{"b64": "é"}', ["b64"]),
    ('{"b64": "aGVsbG8="}', ["b64"]),
    ('{"b64": ""}', ["b64"]),
    (_file(cut=60), ["b64"]),
    (_file(kind="JPEG", cut=300), ["b64"]),
    (_file(kind="GIF"), ["b64"]),
    (_file(kind="BMP"), ["b64"]),
    (_file(size=(6, 8)), ["b64"]),
    (_file(size=(80, 60)), ["b64"]),
    (_file(mode="L"), ["b64"]),
    (_file(mode="RGBA"), ["b64"]),
    (_file(mode="I;16"), ["b64"]),
    ('{"b64": 5}', []),
    ('{"b64": null}', []),
    ("{}", []),
    ('{"b64": "", "x": 1}', []),
    ('{"url": "file:///etc/passwd"}', []),
    ("0.5", []),
    ("[]", []),
    ("[[[0.5]]]", []),
    (json.dumps([[[0.5] * 8] * 6] * 4), []),
    (json.dumps([[[0.5] * 8] * 6] * 2 + [[[0.5] * 8] * 5]), [2]),
    (json.dumps([[[0.5] * 8] * 6] * 2 + [[[0.5] * 8] * 5 + [[0.5] * 7]]), [2, 5]),
    (_nested(value="0.5"), [2, 5, 7]),
    (_nested(value=True), [2, 5, 7]),
    (_nested(value=None), [2, 5, 7]),
    (_nested(value=float("nan")), [2, 5, 7]),
    (_nested(value=float("inf")), [2, 5, 7]),
    (_nested(value=1e300), [2, 5, 7]),
    (_nested(value=[0.5]), [2, 5, 7]),
]


@pytest.mark.parametrize(("instance", "place"), IMAGE_FAULTS, ids=lambda value: str(value)[:40])
def test_faults_of_an_image_are_listed_by_place(images: "Gateway", instance: str, place: list[Any]) -> None:
    """An image that cannot be decoded and nested lists of another shape are listed with their places; 422."""
    body = f'{{"instances": [{_nested()}, {instance}]}}'
    response = images.post(body.encode())
    assert response.status_code == 422, response.text
    assert places(response) == [["instances", 1, *place]]


def test_truncated_images_are_not_called_base64(images: "Gateway") -> None:
    """If the base64 is sound and the image is not, the fault is the image's, so that the right side is corrected."""
    for instance in (_file(cut=60), _file(cut=20), _file(kind="JPEG", cut=100)):
        (error,) = images.post(f'{{"instances": [{instance}]}}'.encode()).json()["errors"]
        assert "base64" not in error["msg"]


@pytest.mark.parametrize(
    ("parameters", "place"),
    [
        ({"method": "shap"}, "method"),
        ({"target": "maybe"}, "target"),
        ({"steps": 0}, "steps"),
        ({"steps": 10**9}, "steps"),
        ({"steps": True}, "steps"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 1.5}, "top_k"),
        ({"detail": True}, "detail"),
    ],
)
def test_bad_parameters_of_explain_are_422(table: "Gateway", parameters: dict[str, Any], place: str) -> None:
    """A parameter that explain does not know or take is named."""
    response = table.post({"instances": [ALLOWED], "parameters": parameters}, "/v1/models/loans:explain")
    assert response.status_code == 422
    assert places(response) == [["parameters", place]]


def test_too_many_rows_to_explain_are_422(table: "Gateway") -> None:
    """Explanations are dear: a request may ask for a few."""
    response = table.post({"instances": [ALLOWED] * 33}, "/v1/models/loans:explain")
    assert response.status_code == 422
    assert places(response) == [["instances"]]


# 500


def test_crashing_model_is_one_500(table: "Gateway") -> None:
    """A fault of ours is a 500 that is counted, logged with its request id, and never with the payload."""
    before = table.metrics()
    with faults_allowed(table, "a batch failed: ValueError", "ValueError while answering request crash-me"):
        response = table.post(
            {"instances": [ALLOWED | {"trap": CRASH_MODEL, "income": 61234.5}]}, X_Request_ID="crash-me"
        )
    assert response.status_code == 500
    assert response.json()["request_id"] == "crash-me"
    assert response.json()["errors"] == []
    moved = differing(table.metrics(), before)
    assert moved['guardhouse_requests_total{code="500",route="/v1/models/{name}:predict"}'] == 1
    assert "61234" not in response.text
    log = table.log()
    assert log.count("crash-me") == 1
    assert "61234" not in log
    assert table.predict([ALLOWED])[0]["action"] == "allow"


# 503, 504


@contextmanager
def busy(gateway: "Gateway", waiting: int) -> Iterator[None]:
    """Keep the model asleep in the block, with so many rows in the queue behind it."""
    nap = {"instances": [{"a": NAP, "b": 1, "c": HELD}]}
    behind = {"instances": [{"a": 1, "b": 1, "c": 1}] * waiting}
    before = gateway.metrics()[ON_THE_DEVICE]
    with ThreadPoolExecutor(2) as pool:
        with gateway.holding_naps():
            asleep = pool.submit(FRESH.post, f"{gateway.url}/predict", json=nap)
            # The nap must be in its batch before anything can queue behind it.
            gateway.wait_for(lambda metrics: metrics[ON_THE_DEVICE] > before)
            queued = pool.submit(FRESH.post, f"{gateway.url}/predict", json=behind) if waiting else None
            gateway.wait_for(lambda metrics: metrics["guardhouse_queue_rows"] >= waiting)
            yield
        assert asleep.result().status_code == 200
        assert queued is None or queued.result().status_code == 200


def test_full_queue_is_503_at_once(values: "Gateway") -> None:
    """Requests beyond the queue are refused at once, with Retry-After, and counted by their reason.

    Short requests have a quarter more room.
    """
    before = values.metrics()
    one = {"instances": [[1, 1, 1]]}
    with ThreadPoolExecutor(2) as pool:
        with busy(values, waiting=8):
            assert values.post({"instances": [[1, 1, 1]] * 2}).status_code == 503
            short = [pool.submit(FRESH.post, f"{values.url}/predict", json=one) for _ in range(2)]
            values.wait_for(lambda metrics: metrics["guardhouse_queue_rows"] >= 10)
            after = values.metrics(in_flight=4)
            response = values.post(one)
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) >= 1
            assert values.post(b"{").status_code == 503  # what there is no room for is not even read
            assert values.post(b"{", "/v2/models/value/infer").status_code == 503
        assert [each.result().status_code for each in short] == [200, 200]
    moved = differing(values.metrics(), before)
    assert moved['guardhouse_shed_requests_total{reason="queue_full"}'] == 4
    assert moved['guardhouse_requests_total{code="503",route="/v1/models/{name}:predict"}'] == 3
    assert 'guardhouse_stage_duration_seconds_count{stage="decode"}' not in differing(values.metrics(), after)
    assert values.metrics()["guardhouse_queue_rows"] == 0
    assert values.predict([[1, 1, 1]])[0]["value"] == pytest.approx(2)


def test_deadline_that_cannot_be_met_is_503(values: "Gateway") -> None:
    """A request that could be answered only after its deadline is refused at once, while it can still go elsewhere."""
    for _ in range(2):  # batches took long of late
        values.predict([[NAP, 1, 0.4]])
    before = values.metrics()
    with busy(values, waiting=4):
        response = values.post({"instances": [[1, 1, 1]]}, X_Request_Timeout="0.05")
    assert response.status_code == 503
    assert differing(values.metrics(), before)['guardhouse_shed_requests_total{reason="deadline"}'] == 1


def test_passed_deadline_is_504(values: "Gateway") -> None:
    """A request is answered when its own deadline passes, whatever the model is doing."""
    started = time.monotonic()
    with values.holding_naps():
        response = values.post({"instances": [[NAP, 1, HELD]]}, X_Request_Timeout="0.2")
    assert time.monotonic() - started > 0.15
    assert response.status_code == 504


def test_servers_own_deadline_holds(values: "Gateway") -> None:
    """A caller may ask for less time than the config gives, and not for more."""
    response = values.post({"instances": [[NAP, 1, 0.1]]}, X_Request_Timeout="1e9")
    assert response.status_code == 200
    seconds = VALUE_CONFIG["server"]["timeout_seconds"]
    started = time.monotonic()
    with values.holding_naps():
        response = values.post({"instances": [[NAP, 1, HELD]]}, X_Request_Timeout="inf")
    assert response.status_code == 504
    assert time.monotonic() - started > seconds - 0.1


def test_client_that_leaves_harms_nobody(values: "Gateway") -> None:
    """A client that hangs up while it waits is forgotten, and its rows are not counted as waiting."""
    with busy(values, waiting=0):
        body = json.dumps({"instances": [[1, 1, 1]] * 8}).encode()
        for _ in range(3):
            with values.connect() as connection:
                connection.sendall(
                    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
                    + str(len(body)).encode() + b"\r\n\r\n" + body[: len(body) // 2]
                )  # fmt: skip
    assert values.predict([[1, 1, 1]])[0]["value"] == pytest.approx(2)
    metrics = values.metrics()
    assert metrics["guardhouse_queue_rows"] == 0
    assert metrics["guardhouse_inflight_requests"] == 0


ENDS = {
    "closes": lambda _: None,
    "resets": lambda connection: connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)),
    "closes half, then all": lambda connection: (connection.shutdown(socket.SHUT_WR), time.sleep(0.2)),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_rows_of_clients_that_left_are_not_computed(values: "Gateway", how: str, protocol: str) -> None:
    """A client that leaves costs the next one a batch at most and is 499; no monitor, store or total has its rows."""
    values.predict([[1, 1, 1]])  # behind whatever an earlier test left on the device
    before = values.metrics()
    rows = [[NAP, 1, HELD]] * 8
    body, path = {"instances": rows}, "/predict"
    if protocol == "v2":
        tensor = {"name": "x", "datatype": "FP32", "shape": [8, 3], "data": rows}
        body, path = {"inputs": [tensor]}, "/v2/models/value/infer"
    route = {"v1": "/predict", "v2": "/v2/models/{name}/infer"}[protocol]
    left = f'guardhouse_requests_total{{code="499",route="{route}"}}'
    with values.holding_naps():
        with values.connect() as connection:
            connection.sendall(_request(path, body))
            values.wait_for(
                lambda metrics: metrics["guardhouse_queue_rows"] == 8 - values.batch_rows
            )  # the others are on the device
            ENDS[how](connection)
        values.wait_for(lambda metrics: metrics[left] > before[left])
    values.wait_for(lambda metrics: metrics["guardhouse_queue_rows"] == 0)
    assert values.predict([[1, 1, 1]])[0]["value"] == pytest.approx(2)
    moved = differing(values.metrics(), before)
    assert moved["guardhouse_batch_rows_count"] == 2  # the batch that was on the device, and the one just now
    assert moved[left] == 1
    for total in ("rows_total", "store_rows_total", 'stream_bin_total{stream="column:a"'):
        names = [name for name in moved if name.startswith(f"guardhouse_{total.partition('{')[0]}")]
        names = [name for name in names if "stream=" not in name or 'stream="column:a"' in name]
        assert sum(moved[name] for name in names) == 1, total


def test_a_half_closed_client_gets_its_answer(values: "Gateway") -> None:
    """A client that closes its sending side after its request is answered, however long that takes, and counted."""
    before = values.metrics()
    with values.connect() as connection:
        connection.sendall(_request("/predict", {"instances": [[NAP, 1, 0.5]]}))
        connection.shutdown(socket.SHUT_WR)
        answer = read_answer(connection)
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert len(json.loads(answer.body)["predictions"]) == 1
        assert connection.recv(1) == b""
    assert differing(values.metrics(), before)['guardhouse_rows_total{action="allow"}'] == 1


def test_feedback_of_a_client_that_left_is_stored(values: "Gateway") -> None:
    """Outcomes that arrived whole count, whether or not their client waits to hear of it."""
    values.predict([[1, 1, 1]], ids=["left-early"])
    path, outcome = "/v1/models/value:feedback", {"outcomes": [{"id": "left-early", "label": 2}]}

    def arrived() -> float:
        return sum(n for name, n in values.metrics().items() if "requests_total" in name and ":feedback" in name)

    before, pause = arrived(), 0.01
    while arrived() == before:  # a reset discards what a server has not read: a server that stalls never sees it
        with values.connect() as connection:
            connection.sendall(_request(path, outcome))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            time.sleep(pause)
        time.sleep(0.5)
        pause *= 4
    assert values.post(outcome, path).json()["duplicate"] == ["left-early"]


def _request(path: str, body: object) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def test_concurrent_explanations_are_bounded(values: "Gateway") -> None:
    """Few explanations wait in a queue of their own; more are refused with Retry-After, and predictions go on."""
    before = values.metrics()
    bodies = [{"instances": [[1 + i / 100, 1, 1]] * 8, "parameters": {"steps": 256}} for i in range(48)]
    with ThreadPoolExecutor(48) as pool:
        running = [pool.submit(FRESH.post, f"{values.url}/v1/models/value:explain", json=body) for body in bodies]
        assert values.predict([[1, 1, 1]])[0]["action"] == "allow"
        answers = [one.result() for one in running]
    for response in answers:
        values.check(response)
    codes = [response.status_code for response in answers]
    assert set(codes) <= {200, 503}
    assert codes.count(200) >= 8
    moved = differing(values.metrics(), before)
    assert moved.get('guardhouse_shed_requests_total{reason="explain_queue_full"}', 0) == codes.count(503)
    ok = 'guardhouse_explanations_total{method="integrated_gradients",result="ok"}'
    assert moved[ok] == codes.count(200)
