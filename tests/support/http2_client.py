"""A client of HTTP/2 that writes frames as no library would: floods, resets, and messages that do not end."""

import contextlib
import socket
import struct
import time
from typing import Self

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
INITIAL_WINDOW, LARGEST_FRAME, LARGEST_WINDOW = 4, 16384, 2**31 - 1
CANCEL = struct.pack(">I", 8)
INFER = "/inference.GRPCInferenceService/ModelInfer"


def frame(kind: int, flags: int = 0, stream: int = 0, content: bytes = b"") -> bytes:
    """Write a frame."""
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def head(stream: int, path: str = INFER, *, flags: int = END_HEADERS) -> bytes:
    """Write the head of a gRPC call; its fields are plain literals."""
    fields = {
        ":method": "POST", ":scheme": "http", ":path": path, ":authority": "a", "te": "trailers",
        "content-type": "application/grpc",
    }  # fmt: skip
    block = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )
    return frame(HEADERS, flags, stream, block)


def message(content: bytes) -> bytes:
    """Write the bytes of a gRPC message: its length goes before it."""
    return b"\0" + struct.pack(">I", len(content)) + content


class Http2:
    """One connection. It answers pings and settings, and keeps count of the windows that the server opens."""

    def __init__(self, address: str, seconds: float = 120) -> None:
        """Connect, and send the preface."""
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""
        self.windows = {0: 65535}
        self.initial = 65535
        self.ended: dict[int, bytes] = {}
        """How each stream ended: the content of its last frame."""
        self.closed = False
        self.send(PREFACE + frame(SETTINGS) + frame(WINDOW, content=struct.pack(">I", LARGEST_WINDOW - 65535)))

    def __enter__(self) -> Self:
        """Give the connection, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.socket.close()

    def send(self, data: bytes) -> bool:
        """Send bytes; say whether the connection is still open."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.closed = True
        return not self.closed

    def begin(self, stream: int, path: str = INFER) -> bool:
        """Begin a call."""
        self.windows[stream] = self.initial
        return self.send(head(stream, path))

    def upload(self, stream: int, content: bytes, seconds: float = 120) -> bytes:
        """Send the message of a call as fast as the windows allow; give how the stream ended."""
        rest, end = memoryview(message(content)), time.monotonic() + seconds
        while stream not in self.ended and not self.closed and time.monotonic() < end:
            room = min(len(rest), self.windows[0], self.windows[stream])
            parts = [rest[place : min(place + LARGEST_FRAME, room)] for place in range(0, room, LARGEST_FRAME)]
            rest = rest[max(room, 0) :]
            frames = [frame(DATA, 0, stream, bytes(part)) for part in parts]
            if parts and not rest:
                frames[-1] = frame(DATA, END_STREAM, stream, bytes(parts[-1]))
            for each in (0, stream):
                self.windows[each] -= max(room, 0)
            self.send(b"".join(frames))
            self.receive(0.2)
        return self.ended.get(stream, b"")

    def receive(self, seconds: float) -> None:
        """Read the frames that come within a time."""
        self.socket.settimeout(max(seconds, 1e-6))
        with contextlib.suppress(TimeoutError, BlockingIOError):
            data = b""
            with contextlib.suppress(ConnectionError):
                data = self.socket.recv(1 << 20)
            self.closed |= not data
            self._read += data
        self.socket.settimeout(120)
        while len(self._read) >= 9:
            size, kind, flags, stream = (
                struct.unpack(">I", b"\0" + self._read[:3])[0],
                *struct.unpack(">BBI", self._read[3:9]),
            )
            if len(self._read) < 9 + size:
                break
            content, self._read = self._read[9 : 9 + size], self._read[9 + size :]
            self._take(kind, flags, stream, content)

    def _take(self, kind: int, flags: int, stream: int, content: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            for place in range(0, len(content), 6):
                name, value = struct.unpack(">HI", content[place : place + 6])
                if name == INITIAL_WINDOW:
                    for each in self.windows.keys() - {0}:
                        self.windows[each] += value - self.initial
                    self.initial = value
            self.send(frame(SETTINGS, ACK))
        elif kind == WINDOW:
            self.windows[stream] = self.windows.get(stream, 0) + struct.unpack(">I", content)[0]
        elif kind == PING and not flags & ACK:
            self.send(frame(PING, ACK, content=content))
        elif kind == RESET or (kind == HEADERS and flags & END_STREAM):
            self.ended[stream] = content
        elif kind == GOAWAY:
            self.closed = True
