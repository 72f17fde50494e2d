"""No secret of a URL reaches a message: whatever is wrong with a URL, only the driver, the host and the database do."""

import asyncio
import logging
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export import SpanExportResult

from guards.errors import Mistake
from service.quotas.shared_buckets import connect
from service.store.database import Database, StoreDownError
from service.store.database_url import parse_url
from service.store.trouble import trouble_of
from service.telemetry.logs import QUOTING
from service.telemetry.otlp import Collector
from service.telemetry.tracing import Tracing

LEAST = 6
"""A secret has at least so many characters; shorter parts of a URL may be a part of any sentence."""
SECRETS = st.text("abcXYZ019-_.@:/?#%&=+ é\n", min_size=8, max_size=16).map(lambda text: f"q7{text}7q")
RAW = st.booleans()
NAMES = st.sampled_from(
    ["sslmode", "password", "user", "host", "port", "options", "connect_timeout", "channel_binding", "passfile"]
)


@st.composite
def urls(draw: st.DrawFn, scheme: str, host: str, path: str) -> tuple[str, list[str]]:
    """Make a URL with a user, a password and options, as somebody who may forget to escape writes it; its secrets."""
    user, password = draw(SECRETS), draw(SECRETS)
    options = draw(st.lists(st.tuples(NAMES | SECRETS, SECRETS), max_size=3))

    def written(text: str) -> str:
        return text if draw(RAW) else quote(text, safe="")

    query = "&".join(f"{written(name)}={written(value)}" for name, value in options)
    url = f"{scheme}://{written(user)}:{written(password)}@{host}{path}" + (f"?{query}" if query else "")
    return url, [user, password, *(part for option in options for part in option if part.startswith("q7"))]


def assert_unquoted(said: str, secrets: list[str]) -> None:
    """Check that a message has no part of a secret that is as long as a secret."""
    for secret in secrets:
        for text in (secret, quote(secret, safe="")):
            parts = [text[start : start + LEAST] for start in range(len(text) - LEAST + 1)]
            assert not [part for part in parts if part.lower() in said.lower()], said


def what_is_said(work: Callable[[], object]) -> str:
    """Do work with a URL, and give what an operator would read about it; any other error fails the law."""
    try:
        work()
    except (Mistake, StoreDownError) as told:
        return str(told)
    return ""


@settings(max_examples=60)
@given(urls("postgresql", "127.0.0.1:1", "/db"))
@example(("postgresql://u:pa@q7secret7q@127.0.0.1:1/db", ["q7secret7q"]))
@example(("postgresql://u@127.0.0.1:1/db?sslmode=q7secret7q", ["q7secret7q"]))
@example(("postgresql://u@127.0.0.1:1/db?channel_binding=q7secret7q", ["q7secret7q"]))
@example(("postgresql://u@127.0.0.1:1/db?q7secret7q=1", ["q7secret7q"]))
@example(("postgresql://u@/db?host=/q7secret7q", ["q7secret7q"]))
@example(("postgresql://127.0.0.1:q7secret7q/db", ["q7secret7q"]))
@example(("postgresql://127.0.0.1/db?port=q7secret7q", ["q7secret7q"]))
def test_a_database_that_refuses_quotes_nothing(given: tuple[str, list[str]]) -> None:
    """Nothing listens on the port: what the driver says of the URL is not repeated."""
    url, secrets = given
    said = what_is_said(lambda: Database(parse_url(url)).read(lambda _: None))
    assert said
    assert_unquoted(said, secrets)


@given(urls("sqlite", "", "/proc/none/x.db"))
@example(("sqlite:////tmp/x.db?timeout=q7secret7q", ["q7secret7q"]))
def test_a_file_that_cannot_be_opened_quotes_nothing(given: tuple[str, list[str]]) -> None:
    """A SQLite file has no options, and a mistake in its URL is said without the URL."""
    url, secrets = given
    said = what_is_said(lambda: Database(parse_url(url)))
    assert said
    assert_unquoted(said, secrets)


@given(urls("redis", "127.0.0.1:1", "/0") | urls("rediss", "127.0.0.1:1", "/0"))
@example(("redis://127.0.0.1/0?q7secret7q=1", ["q7secret7q"]))
@example(("redis://127.0.0.1/0?socket_timeout=q7secret7q", ["q7secret7q"]))
@example(("redis://127.0.0.1:q7secret7q/0", ["q7secret7q"]))
def test_a_redis_that_cannot_be_asked_quotes_nothing(given: tuple[str, list[str]]) -> None:
    """An option that the client does not know is refused before the start, in a sentence."""
    url, secrets = given
    assert_unquoted(what_is_said(lambda: connect(url)), secrets)


@settings(max_examples=30)
@given(
    urls("http", "127.0.0.1:1", "/v1/traces") | urls("q7secret7q", "h", "/x") | urls("http", "h:q7secret7q", "/x"),
    SECRETS,
)
def test_a_collector_that_cannot_be_reached_quotes_nothing(given: tuple[str, list[str]], header: str) -> None:
    """Neither the URL of the collector nor a header for the collector is in a log line."""
    url, secrets = given
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(logging.Formatter().format(record))

    keep, root = Keep(), logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in QUOTING}
    root.addHandler(keep)
    try:
        for name in levels:
            logging.getLogger(name).setLevel(logging.CRITICAL)  # as the server configures its log
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_HEADERS": header,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "0.001",
        }  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            tracing = Tracing.from_environment(model="m", version="1", environment=environment)
            if tracing is not None:
                assert Collector().export([]) is not SpanExportResult.SUCCESS
                asyncio.run(tracing.close())
    finally:
        root.removeHandler(keep)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    assert_unquoted("\n".join(lines), [*secrets, header, "q7secret7q"])


@given(SECRETS, st.sampled_from(["{}", "connection to {} failed: Connection refused", "FATAL: role {} does not exist"]))
def test_a_drivers_error_is_named_by_known_phrases(secret: str, message: str) -> None:
    """Whatever an error says, only its class, its code and a listed phrase are repeated."""
    assert_unquoted(trouble_of(OSError(message.format(secret))), [secret])
