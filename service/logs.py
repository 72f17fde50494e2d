"""Structured logs: one JSON object a line, and never more than a few lines a second from one place."""

import json
import logging
import logging.config
import time

__all__ = ["RateLimit", "configure"]

LINES_PER_SECOND = 5
BURST = 20


class JsonLines(logging.Formatter):
    """One record, one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the record."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class RateLimit(logging.Filter):
    """Drops lines of one place in the code beyond a rate, and says how many when it lets the next one through."""

    def __init__(self) -> None:
        super().__init__()
        self._buckets: dict[tuple[str, int], tuple[float, float, int]] = {}  # bounded by the places that log

    def filter(self, record: logging.LogRecord) -> bool:
        """Take a token from the place's bucket."""
        place = (record.pathname, record.lineno)
        tokens, last, dropped = self._buckets.get(place, (float(BURST), record.created, 0))
        tokens = min(float(BURST), tokens + (record.created - last) * LINES_PER_SECOND)
        passes = tokens >= 1
        self._buckets[place] = (tokens - 1, record.created, 0) if passes else (tokens, record.created, dropped + 1)
        if passes and dropped:
            record.msg = f"{record.getMessage()} ({dropped} such lines were dropped)"
            record.args = ()
        return passes


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
                # uvicorn tells every malformed request twice; our own layer answers and counts them.
                "uvicorn.error": {"level": "CRITICAL", "handlers": [], "propagate": True},
                "uvicorn.access": {"level": "WARNING", "handlers": [], "propagate": False},
            },
        }
    )
