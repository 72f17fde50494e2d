"""Structured logs: each line is one JSON object, and one place in the code logs only a few lines per second."""

import json
import logging
import logging.config
import time

__all__ = ["QUOTING", "Bucket", "RateLimit", "configure", "log_as_json"]

QUOTING = ("opentelemetry.trace", "opentelemetry.util.re", "opentelemetry.exporter", "sqlalchemy.pool", "psycopg")
"""Loggers of libraries that may quote what a client sent, a password in a URL, or a key for the collector. This server
says itself what is wrong: service.telemetry.tracing, service.telemetry.otlp and service.store."""
LINES_PER_SECOND = 5
BURST = 20


class JsonLines(logging.Formatter):
    """Writes a record as one JSON object. If the record has ``fields``, they become members of the object."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the record."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class Bucket:
    """A token bucket for log lines: ``BURST`` lines at once, then ``LINES_PER_SECOND``."""

    __slots__ = ("_dropped", "_last", "_tokens")

    def __init__(self) -> None:
        self._tokens, self._last, self._dropped = float(BURST), 0.0, 0

    def take(self, now: float) -> int | None:
        """Take a token. Return how many lines got no token since the last line that did; None if there is no token."""
        self._tokens = min(float(BURST), self._tokens + max(0.0, now - self._last) * LINES_PER_SECOND)
        self._last = now
        if self._tokens < 1:
            self._dropped += 1
            return None
        self._tokens -= 1
        dropped, self._dropped = self._dropped, 0
        return dropped


class RateLimit(logging.Filter):
    """Drops the lines of one place in the code beyond a rate; the next line that passes says how many were dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._buckets: dict[tuple[str, int], Bucket] = {}  # at most one bucket for each place in the code that logs

    def filter(self, record: logging.LogRecord) -> bool:
        """Take a token from the bucket of the record's place. A ``sampled`` record has already taken a token."""
        if getattr(record, "sampled", False):
            return True
        dropped = self._buckets.setdefault((record.pathname, record.lineno), Bucket()).take(record.created)
        if dropped:
            record.msg = f"{record.getMessage()} ({dropped} such lines were dropped)"
            record.args = ()
        return dropped is not None


class CallerLeft(logging.Filter):
    """Drops gRPC's error, with a traceback, that an answer could not be sent because the caller had left.

    A call is cancelled soon after its caller has left. If the call ends just before that, gRPC fails to send the answer
    and logs an ``ExecuteBatchError``. Callers with short deadlines leave all the time, and that is no fault of the
    server. The call itself is counted by its code, as every call is.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every other record. The name is compared because gRPC does not export the class."""
        raised = record.exc_info[0] if record.exc_info else None
        return raised is None or raised.__name__ != "ExecuteBatchError"


def log_as_json() -> None:
    """Log this project's warnings and errors as JSON lines, and leave all other logging of the process as it is."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("guardhouse")
    logger.handlers, logger.propagate = [handler], False


def configure(level: str) -> None:
    """Log JSON lines to standard error. BentoML, uvicorn and Python's warnings log only warnings and errors."""
    logging.captureWarnings(capture=True)
    quiet = {"level": "WARNING", "handlers": [], "propagate": True}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": JsonLines}},
            "filters": {"rate": {"()": RateLimit}, "caller left": {"()": CallerLeft}},
            "handlers": {
                "stderr": {
                    "class": "logging.StreamHandler",
                    "formatter": "json",
                    "filters": ["rate"],
                    "stream": "ext://sys.stderr",
                }
            },
            "root": {"handlers": ["stderr"], "level": "WARNING"},
            "loggers": {
                "guardhouse": {"level": level.upper()},
                "bentoml": quiet,
                "circus": quiet,
                "grpc._cython.cygrpc": {"filters": ["caller left"]},
                **{name: {"level": "CRITICAL"} for name in QUOTING},
                # uvicorn logs every malformed request twice; our own layer answers and counts these requests.
                "uvicorn.error": {"level": "CRITICAL", "handlers": [], "propagate": True},
                "uvicorn.access": {"level": "WARNING", "handlers": [], "propagate": False},
            },
        }
    )
