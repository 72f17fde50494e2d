"""The door: the ASGI application in front of BentoML's. It answers every HTTP path except BentoML's schema."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from service.front.http import Message, Receive, Send
from service.lifecycle.supervisor import tell_to_stop

if TYPE_CHECKING:
    from service.lifecycle.front_process import FrontProcess

__all__ = ["Door"]

LOG = logging.getLogger("guardhouse")
SCHEMA = "/schema.json"


class Door:
    """Answers HTTP requests itself. The application behind it gets lifespan events and, if asked, its schema path."""

    def __init__(self, app: Any, *, schema: bool = True) -> None:  # noqa: ANN401 - any ASGI application
        """Wrap an application. If ``schema`` is true, the application answers ``/schema.json``."""
        self.app, self._schema = app, schema
        self.front: FrontProcess | None = None

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif self._schema and scope["path"] == SCHEMA and scope["method"] == "GET":
            await self.app(scope, receive, send)
        elif self.front is not None:
            await self.front.answer(scope, receive, send)

    async def _lifespan(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        async def hear() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                # Imported here, because the supervisor and `bentoml build` import this module and start no front.
                from service.lifecycle.front_process import FrontProcess  # noqa: PLC0415

                self.front = front = await FrontProcess.start()
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
