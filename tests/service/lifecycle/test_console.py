"""Whether a front serves the console, and what the front page lists."""

import asyncio

import orjson
import pytest
from local_engine import served_model_of
from tiny_models import fitted

from service.front.http import Call
from service.front.openapi.document import pages
from service.lifecycle.console import console_routes, has_console


@pytest.mark.parametrize(
    ("configured", "host", "on"),
    [
        (None, "127.0.0.1", True), (None, "::1", True), (None, "0.0.0.0", False), (None, None, False),  # noqa: S104
        (True, "0.0.0.0", True), (True, None, True), (False, "127.0.0.1", False),  # noqa: S104
    ],
)  # fmt: skip
def test_the_console_is_on_where_only_this_machine_reaches_it(
    configured: bool | None, host: str | None, on: bool
) -> None:
    """By default the console is on at a loopback address alone; the config may say otherwise."""
    served = served_model_of(fitted("tensor", server={"console": configured}).bundle)
    assert has_console(served, None if host is None else (host, 3000)) is on


def test_the_front_page_lists_what_the_documents_list() -> None:
    """Every path of /openapi.json is on the front page, with its summary."""
    documents = pages(served_model_of(fitted("tensor").bundle))
    home = console_routes(documents, None)["/"].handlers["GET"]
    reply = asyncio.run(home(Call("GET", "/", {}, "id", 0.0)))  # type: ignore[arg-type]
    listed = orjson.loads(reply.body)["addresses"]
    assert listed.keys() == orjson.loads(documents["/openapi.json"][0])["paths"].keys()
    assert all(listed.values())
