"""Bodies of many small image files, each of which takes long to judge: other clients and the operator do not wait."""

import base64
import io
import json
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
from fresh_client import FRESH
from image_files import chunk, jpeg, png, profile, segment
from PIL import Image
from v2_client import speak

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

ROWS, LARGEST = 1024, 16 << 20
FILE_BYTES = LARGEST * 3 // 4 // ROWS - 600
"""So many bytes of a file fit into a body of so many files."""
CURVE = np.linspace(0, 65535, 4096).astype(">u2").tobytes()
JSON = {"Content-Type": "application/json"}
ATTEMPTS = 3


def _long_profile() -> bytes:
    """Write an ICC profile that is small if packed, has as many tags as are read, and curves of many points."""
    tags = b"".join(struct.pack(">4sII", b"%04d" % number, 0, 65536) for number in range(97))
    curve = b"curv" + bytes(4) + struct.pack(">I", len(CURVE) // 2) + CURVE
    tags += b"".join(struct.pack(">4sII", name, 1332, len(curve)) for name in (b"rTRC", b"gTRC", b"bTRC"))
    return (profile()[:128] + struct.pack(">I", 100) + tags + curve).ljust(65536, b"\0")


BOMBS = {
    "iCCP": png(chunk(b"iCCP", b"x\0\0" + zlib.compress(_long_profile(), 9))),
    "zTXt": png(chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(FILE_BYTES * 900)))),
    "many chunks": png(chunk(b"tEXt", b"a\0") * (FILE_BYTES // 14)),
    "many segments": jpeg(segment(0xFE, b"") * 2000),
    "padding": jpeg(b"\xff" * FILE_BYTES),
    "sound images": png(),
}


def _body(file: bytes) -> bytes:
    text = base64.b64encode(file).decode()
    count = min(ROWS, (LARGEST - 100) // (len(text) + 12))
    return json.dumps({"instances": [{"b64": text}] * count}, separators=(",", ":")).encode()


@pytest.fixture(scope="module")
def spacious(bundles: "Bundles") -> "Iterator[Gateway]":
    """Serve a classifier of images that takes large bodies."""
    for speaker in speak(bundles, "images", max_body_bytes=LARGEST, max_rows_per_request=ROWS, max_queue_rows=8 * ROWS):
        yield speaker.gateway


def _asked(gateway: "Gateway", body: bytes) -> httpx.Response:
    return FRESH.post(f"{gateway.url}{gateway.predict_path}", content=body, headers=JSON)


def _longest_wait(gateway: "Gateway", bombs: list[Future[httpx.Response]]) -> float:
    """Ask for everything else again and again while the bombs are answered; give the longest time of an answer."""
    one, longest = _body(BOMBS["sound images"])[:-2].split(b"},", 1)[0] + b"}]}", 0.0
    while not all(bomb.done() for bomb in bombs):
        for path in ("image", "/metrics", f"/v1/models/{gateway.name}/monitors", "/readyz"):
            started = time.monotonic()
            answer = _asked(gateway, one) if path == "image" else FRESH.get(f"{gateway.url}{path}")
            assert answer.status_code == 200, (path, answer.text)
            longest = max(longest, time.monotonic() - started)
    return longest


@pytest.mark.parametrize("name", BOMBS)
def test_image_bombs_hold_up_nobody(spacious: "Gateway", name: str) -> None:
    """While six bodies of many images are judged, another client's image, metrics and monitors take turns with them."""
    body = _body(BOMBS[name])
    found = []
    for _ in range(ATTEMPTS):
        with ThreadPoolExecutor(6) as pool:
            started = time.monotonic()
            bombs = [pool.submit(_asked, spacious, body) for _ in range(6)]
            longest = _longest_wait(spacious, bombs)
            took = time.monotonic() - started
        codes = {bomb.result().status_code for bomb in bombs}
        assert codes <= {200, 422, 503}
        assert codes != {503}
        found.append((longest, took))
        if longest < max(took / 2, 0.5):
            return
    raise AssertionError(found)


def test_a_deadline_ends_the_decoding(spacious: "Gateway") -> None:
    """A request whose time is over is 504, and its images are not decoded to the end."""
    (front,) = spacious.fronts
    body = _body(png())
    quick = {"X-Request-Timeout": "0.001", **JSON}
    answered = ended = 0.0
    for _ in range(ATTEMPTS):
        before = sum(front.cpu_times()[:2])
        assert _asked(spacious, body).status_code == 200
        answered += sum(front.cpu_times()[:2]) - before
        before = sum(front.cpu_times()[:2])
        answer = FRESH.post(f"{spacious.url}{spacious.predict_path}", content=body, headers=quick)
        assert answer.status_code == 504
        ended += sum(front.cpu_times()[:2]) - before
    assert ended < answered / 2


def test_a_large_image_of_many_scans_is_refused(spacious: "Gateway") -> None:
    """A progressive JPEG whose scans are repeated is refused with the place of the image."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((6, 8, 3), dtype=np.uint8)).save(file, "JPEG", progressive=True)
    whole = file.getvalue()
    last = whole[whole.rfind(b"\xff\xda") : -2]
    answer = _asked(spacious, _body(whole[:-2] + last * 60 + whole[-2:]))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["instances", 0, "b64"]
    assert "32 scans" in answer.text
