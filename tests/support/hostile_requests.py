"""A corpus of hostile requests without end, from one seed: sound requests that were spoilt, by bytes and by meaning."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["GRPC_METHODS", "Attack", "Sound", "attacks", "messages"]

TOKENS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"\r\n\r\n", b"0\r\n\r\n", b"%00", b"%2e%2e%2f", b"../", b"//",
    b"?", b"#",
    b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9", b"\xff", b"\xc3\x28", b"\xe2\x80\xa8",
    b"GET / HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00", b"-1", b"0x10", b"1e3", b"NaN", b"9" * 30, b"A" * 300,
    b'"', b"{", b"[", b"]", b"}", b",", b"\\u0000", b"\\ud800", b"null", b"true", b"1" * 400, b"e9999",
]  # fmt: skip
METHODS = [
    b"GET",
    b"POST",
    b"HEAD",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"TRACE",
    b"CONNECT",
    b"get",
    b"P\0ST",
    b"",
]
FRAMING = [
    b"Content-Length: -1", b"Content-Length: +5", b"Content-Length: 0x5", b"Content-Length: 5, 5",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 99999999999999999999", b"Content-Length : 5", b"Content-Length: ", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity",
    b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked\r\nContent-Length: 3",
    b"Content-Encoding: gzip", b"Expect: 100-continue", b"Expect: 200-ok", b"Connection: upgrade\r\nUpgrade: h2c",
    b"Connection: upgrade\r\nUpgrade: websocket", b"Connection: close", b"Connection: keep-alive, close",
    b"Trailer: Host",
    b"X-Request-ID: \xff\xfe", b"X-Request-ID: " + b"x" * 200, b"X-Forwarded-For: 1.2.3.4, \0",
    b"Authorization: Bearer x",
    b"X-API-Key: a\r\nX-API-Key: b", b"traceparent: 00-zz-zz-zz", b"Prefer: respond-async", b"Accept: image/png",
    b" folded: line",
    b"Host: a\r\nHost: b", b"Inference-Header-Content-Length: 99999999", b"Inference-Header-Content-Length: -3",
    b": empty", b"no colon",
]  # fmt: skip
CHUNKED = [
    b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffffffffff\r\n", b"-5\r\nhello\r\n0\r\n\r\n",
    b"5;a=b\r\nhello\r\n0\r\nHost: x\r\n\r\n", b"5\nhello\n0\n\n",
    b"0x5\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloX\r\n0\r\n\r\n", b"zz\r\n", b"00000000000000005\r\nhello\r\n0\r\n\r\n",
]  # fmt: skip
ODD: list[Any] = [
    None, True, False, 0, -1, 1e308, -1e-320, 2**63, 10**400, "", "\0", "\ud800".encode("utf-16",
    "surrogatepass").decode("utf-16", "replace"),
    "x" * 1000, [], {}, [[]], {"": None}, [None] * 50, float("inf"), float("nan"), "__proto__", "../../etc/passwd",
    "'; drop table",
]  # fmt: skip
GRPC_METHODS = (
    "ModelInfer", "ModelMetadata", "ModelReady", "ServerReady", "ServerMetadata", "ServerLive", "ModelStatistics",
    "ModelConfig",
    "RepositoryIndex", "RepositoryModelLoad", "Nothing",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attack:
    """What is sent over a connection of its own, and the way in which it was made."""

    kind: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound request: its method and target, its headers, and its body."""

    method: bytes
    target: bytes
    headers: tuple[bytes, ...]
    body: bytes

    def written(self, headers: Sequence[bytes] = (), *, sized: bool = True) -> bytes:
        """Write the request with more headers; ``sized`` states the length of its body."""
        size = [b"Content-Length: %d" % len(self.body)] if sized else []
        lines = [b"%s %s HTTP/1.1" % (self.method, self.target), b"Host: x", *self.headers, *size, *headers]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


def attacks(seed: int, sound: Sequence[Sound]) -> Iterator[Attack]:
    """Make attacks from sound requests, the same for the same seed."""
    rng = random.Random(seed)  # noqa: S311 - a corpus, the same each time
    kinds: dict[str, Callable[[random.Random, Sound], bytes]] = {
        "bytes": _spoilt_bytes, "head": _spoilt_head, "framing": _spoilt_framing, "json": _spoilt_json,
        "target": _spoilt_target, "pipeline": _pipeline, "cut": _cut, "binary": _spoilt_binary,
    }  # fmt: skip
    while True:
        kind = rng.choice(list(kinds))
        yield Attack(kind, kinds[kind](rng, rng.choice(sound)))


def messages(seed: int, sound: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
    """Make messages for gRPC: a method, and bytes that may be no message."""
    rng = random.Random(seed)  # noqa: S311 - a corpus, the same each time
    while True:
        data = rng.choice(sound) if rng.random() < 0.8 else rng.randbytes(rng.randrange(200))
        yield rng.choice(GRPC_METHODS), _mutated(rng, data, rng.randrange(6))


def _mutated(rng: random.Random, data: bytes, changes: int) -> bytes:
    """Change, insert, drop, repeat or exchange some bytes."""
    found = bytearray(data)
    for _ in range(changes):
        at, size = rng.randrange(len(found) + 1), rng.choice((1, 1, 2, 4, 16, 64))
        match rng.randrange(5):
            case 0:
                found[at : at + size] = rng.randbytes(size)
            case 1:
                found[at:at] = rng.choice(TOKENS)
            case 2:
                del found[at : at + size]
            case 3:
                found[at:at] = found[at : at + size] * rng.randrange(1, 4)
            case _:
                found[at : at + size] = rng.choice(TOKENS)
    return bytes(found)


def _spoilt_bytes(rng: random.Random, sound: Sound) -> bytes:
    return _mutated(rng, sound.written(), rng.randrange(1, 6))


def _spoilt_head(rng: random.Random, sound: Sound) -> bytes:
    return sound.written([_mutated(rng, rng.choice(FRAMING), rng.randrange(3)) for _ in range(rng.randrange(1, 4))])


def _spoilt_framing(rng: random.Random, sound: Sound) -> bytes:
    framing = rng.sample(FRAMING[:15], rng.randrange(1, 3))
    return sound.written(framing, sized=False) + _mutated(rng, rng.choice(CHUNKED), rng.randrange(3))


def _spoilt_target(rng: random.Random, sound: Sound) -> bytes:
    target = _mutated(rng, sound.target, rng.randrange(1, 4))
    return Sound(rng.choice(METHODS), target, sound.headers, sound.body).written()


def _pipeline(rng: random.Random, sound: Sound) -> bytes:
    whole = sound.written()
    return whole * rng.randrange(1, 4) + _mutated(rng, whole, rng.randrange(3)) + whole


def _cut(rng: random.Random, sound: Sound) -> bytes:
    whole = sound.written()
    return whole[: rng.randrange(len(whole))]


def _spoilt_json(rng: random.Random, sound: Sound) -> bytes:
    """Exchange values anywhere in a JSON body, or nest it, and frame it soundly."""
    try:
        document = json.loads(sound.body)
    except ValueError:
        return _spoilt_bytes(rng, sound)
    for _ in range(rng.randrange(1, 4)):
        document = _exchanged(rng, document)
    body = json.dumps(document).encode()
    if rng.random() < 0.1:
        depth = rng.choice((10, 100, 1000, 5000))
        body = b"[" * depth + body + b"]" * depth
    if rng.random() < 0.2:
        body = _mutated(rng, body, rng.randrange(1, 4))
    return Sound(sound.method, sound.target, sound.headers, body).written()


def _exchanged(rng: random.Random, value: Any) -> Any:
    """Exchange one value somewhere within a value, or add or drop one."""
    if rng.random() < 0.25 or not isinstance(value, list | dict) or not value:
        return rng.choice(ODD)
    if isinstance(value, list):
        at = rng.randrange(len(value))
        return [*value[:at], *([_exchanged(rng, value[at])] * rng.choice((0, 1, 1, 1, 2))), *value[at + 1 :]]
    name = rng.choice(list(value))
    changed = {**value, name: _exchanged(rng, value[name])}
    match rng.randrange(8):
        case 0:
            del changed[name]
        case 1:
            changed[rng.choice(("", "\0", "ids", "groups", "parameters", "x" * 300))] = rng.choice(ODD)
    return changed


def _spoilt_binary(rng: random.Random, sound: Sound) -> bytes:
    """Lie about the length of the JSON head of a binary request, or about its tensors."""
    length = rng.choice((len(sound.body), len(sound.body) // 2, 0, -1, 2**31, 2**63, rng.randrange(400)))
    body = sound.body if rng.random() < 0.5 else _mutated(rng, sound.body, 2)
    headers = [b"Inference-Header-Content-Length: %d" % length]
    spoilt = Sound(b"POST", sound.target, (b"Content-Type: application/octet-stream",), body)
    return spoilt.written(headers)
