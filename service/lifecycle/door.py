"""The door: the ASGI application in front of BentoML's. It answers every HTTP path."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from service.front.http import Message, Receive, Send
from service.front.page_routes import SCHEMA
from service.lifecycle.supervisor import tell_to_stop

if TYPE_CHECKING:
    from service.lifecycle.front_process import FrontProcess

__all__ = ["Door"]

LOG = logging.getLogger("guardhouse")


class Door:
    """Hands HTTP requests to the front. The application behind it gets lifespan events, and describes its schema."""

    def __init__(self, app: Any, *, schema: bool = True) -> None:  # noqa: ANN401 - any ASGI application
        """Wrap an application. If ``schema`` is true, the front serves the application's ``/schema.json``."""
        self.app, self._schema = app, schema
        self.front: FrontProcess | None = None

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif self.front is not None:
            await self.front.answer(scope, receive, send)

    async def _document(self) -> bytes:
        """Ask the application for its schema, as BentoML's clients would."""
        parts: list[bytes] = []

        async def hear() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def keep(message: Message) -> None:
            parts.append(message.get("body", b""))

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": SCHEMA, "raw_path": SCHEMA.encode(), "root_path": "", "query_string": b"", "headers": [],
        }  # fmt: skip
        await self.app(scope, hear, keep)
        return b"".join(parts)

    async def _lifespan(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        async def hear() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                # Imported here, because the supervisor and `bentoml build` import this module and start no front.
                from service.lifecycle.front_process import FrontProcess  # noqa: PLC0415

                self.front = front = await FrontProcess.start(self._document if self._schema else None)
                scope["state"].update(
                    keep_alive_seconds=front.served.server.keep_alive_seconds,
                    connections=front.connections,
                    direct=front.direct,
                )
            elif self.front is not None:
                await self.front.shutdown.close()
            return message

        try:
            await self.app(scope, hear, send)
        except InterruptedError as told:
            tell_to_stop()  # otherwise the supervisor would start another front, if only this front got the signal
            await send({"type": "lifespan.startup.failed", "message": str(told)})
        except Exception as failure:  # noqa: BLE001 - if it got out, uvicorn would serve without a started front
            LOG.critical("start-up failed: %s", failure)
            tell_to_stop(failed=True)  # otherwise the supervisor would start this process again and again
            await send({"type": "lifespan.startup.failed", "message": str(failure)})
