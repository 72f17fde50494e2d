"""Structured logs: one JSON object a line, and never more than a few lines a second from one place."""

import json
import logging
import logging.config
import time

__all__ = ["Bucket", "RateLimit", "configure"]

LINES_PER_SECOND = 5
BURST = 20


class JsonLines(logging.Formatter):
    """One record, one JSON object; its ``fields``, where it has any, are members of it."""

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
    """A token bucket of lines: a burst, then so many a second."""

    __slots__ = ("_dropped", "_last", "_tokens")

    def __init__(self) -> None:
        self._tokens, self._last, self._dropped = float(BURST), 0.0, 0

    def take(self, now: float) -> int | None:
        """Take a token: how many lines found none since the last that did, or None where this one finds none."""
        self._tokens = min(float(BURST), self._tokens + max(0.0, now - self._last) * LINES_PER_SECOND)
        self._last = now
        if self._tokens < 1:
            self._dropped += 1
            return None
        self._tokens -= 1
        dropped, self._dropped = self._dropped, 0
        return dropped


class RateLimit(logging.Filter):
    """Drops lines of one place in the code beyond a rate, and says how many when it lets the next one through."""

    def __init__(self) -> None:
        super().__init__()
        self._buckets: dict[tuple[str, int], Bucket] = {}  # bounded by the places that log

    def filter(self, record: logging.LogRecord) -> bool:
        """Take a token from the place's bucket; one of a record that is ``sampled`` was taken before it was made."""
        if getattr(record, "sampled", False):
            return True
        dropped = self._buckets.setdefault((record.pathname, record.lineno), Bucket()).take(record.created)
        if dropped:
            record.msg = f"{record.getMessage()} ({dropped} such lines were dropped)"
            record.args = ()
        return dropped is not None


def configure(level: str) -> None:
    """Log JSON lines to standard error; BentoML's, uvicorn's and Python's own only from warnings and errors."""
    logging.captureWarnings(capture=True)
    quiet = {"level": "WARNING", "handlers": [], "propagate": True}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": JsonLines}},
            "filters": {"rate": {"()": RateLimit}},
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
                # The one quotes what a client sent as its trace context, the other tells of every try to reach the
                # collector: service.collector counts the spans that are lost.
                "opentelemetry.trace": {"level": "CRITICAL"},
                "opentelemetry.exporter.otlp.proto.http.trace_exporter": {"level": "CRITICAL"},
                # uvicorn tells every malformed request twice; our own layer answers and counts them.
                "uvicorn.error": {"level": "CRITICAL", "handlers": [], "propagate": True},
                "uvicorn.access": {"level": "WARNING", "handlers": [], "propagate": False},
            },
        }
    )
