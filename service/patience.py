"""Waiting for an answer no longer than whoever asked."""

import asyncio
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any

from service.http import Call, Reply
from service.protocols.problem import Problem

__all__ = ["unless_gone"]


async def unless_gone(answer: Coroutine[Any, Any, Reply], call: Call) -> Reply:
    """Wait for an answer as long as its client does: a question that nobody waits for must not keep others waiting.

    Raises:
        Problem: the client went away; nobody reads it.
    """
    if call.gone is None:
        return await answer
    answering, gone = asyncio.ensure_future(answer), asyncio.ensure_future(call.gone())
    answering.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, whoever asks for it
    try:
        await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise Problem(HTTPStatus.BAD_REQUEST, "the client went away before its question was answered")
        return answering.result()
    finally:
        answering.cancel()
        gone.cancel()
