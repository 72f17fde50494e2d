"""A collector of traces in this process, which speaks OTLP over HTTP as OpenTelemetry specifies it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Collector:
    """Keeps all requests that it receives."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.requests: list[ExportTraceServiceRequest] = []
        self.paths: set[str] = set()

    @property
    def spans(self) -> list[Any]:
        """All spans received so far."""
        return [
            span
            for request in list(self.requests)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def trace(self, trace_id: str) -> list[Any]:
        """The spans of one trace."""
        return [span for span in self.spans if span.trace_id.hex() == trace_id]

    def wait(self, found: Callable[[], list[Any]], count: int, seconds: float = 180) -> list[Any]:
        """Wait until ``found`` gives at least ``count`` spans."""
        end = time.monotonic() + seconds
        while len(spans := found()) < count:
            assert time.monotonic() < end, f"{len(spans)} of {count} spans came"
            time.sleep(0.02)
        return spans


@contextmanager
def collecting(answer: Callable[[], None] = lambda: None) -> Iterator[Collector]:
    """Listen for spans; ``answer`` is called before each answer, and may be slow."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.requests.append(ExportTraceServiceRequest.FromString(body))
            collector.paths.add(self.path)
            answer()
            told = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """Print nothing: in some tests the client does not wait for the answer."""

    with Server(("127.0.0.1", 0), Handler) as server:
        collector = Collector(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def attributes(holder: Any) -> dict[str, Any]:
    """Give the attributes of a span, or of a resource."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in holder.attributes}
