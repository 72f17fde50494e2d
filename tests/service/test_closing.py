"""Closing: a part that fails or hangs does not keep the other parts from being closed."""

import asyncio
import logging

import pytest

from service.closing import Step, close_all, optional


def test_a_failure_and_a_hang_keep_nothing_from_being_closed(caplog: pytest.LogCaptureFixture) -> None:
    """Every step has its turn, within its time, and the log says which could not be closed."""
    closed: list[str] = []

    async def close(name: str) -> None:
        if name == "broken":
            raise ValueError(name)
        if name == "stuck":
            await asyncio.Event().wait()
        closed.append(name)

    names = ("first", "broken", "stuck", "last")
    asyncio.run(asyncio.wait_for(close_all(*(Step(name, 0.05, lambda name=name: close(name)) for name in names)), 5))
    assert closed == ["first", "last"]
    assert [record.getMessage() for record in caplog.records] == [
        "broken could not be closed",
        "stuck could not be closed within 0.05 s, and is left as it is",
    ]


def test_what_is_optional_costs_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A failure inside is logged once, and what follows goes on."""
    with caplog.at_level(logging.WARNING), optional("nobody finds the server"):
        raise PermissionError(1, "Operation not permitted")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.messages == ["nobody finds the server: PermissionError: [Errno 1] Operation not permitted"]
