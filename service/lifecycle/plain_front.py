"""A front's process without BentoML: uvicorn with the same door. ``service.lifecycle.plain`` starts this process."""

import socket
import sys
from typing import Any

import uvicorn

from service.front.http import Receive, Send
from service.front.uvicorn_protocol import StrictProtocol
from service.lifecycle.door import Door

__all__ = ["main"]

GRACE_SECONDS = 60


async def nothing_behind(_: Any, receive: Receive, send: Send) -> None:  # noqa: ANN401 - an ASGI scope
    """Take the place of BentoML's application behind the door: complete the lifespan's start and stop."""
    for _part in ("startup", "shutdown"):
        message = await receive()
        await send({"type": f"{message['type']}.complete"})


def main() -> None:
    """Serve on the socket that the supervisor handed to this process."""
    descriptor = int(sys.argv[sys.argv.index("--fd") + 1])
    config = uvicorn.Config(
        Door(nothing_behind, schema=False),
        http=StrictProtocol,
        ws="none",
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    main()
