"""The header ``Server-Timing``: how long each part of a request took, if the client asks (W3C Server Timing)."""

import time
from collections.abc import Mapping

from service.telemetry.request_record import Exchange

__all__ = ["ask", "timing"]

ASKED = b"x-server-timing"
YES = (b"1", b"true")
PARTS = {"decode": "decode", "queue": "queue", "input_guards": "model", "model": "model", "output_guards": "model",
         "encode": "encode"}  # fmt: skip
"""The part that shows each stage. The guards' time is added to the model's, because some guards are not visible."""


def ask(exchange: Exchange, headers: Mapping[bytes, bytes]) -> bool:
    """Start recording the stages of a request if its client asks for them; return whether the client asks."""
    wanted = headers.get(ASKED) in YES
    if wanted and exchange.stages is None:
        exchange.stages = []
    return wanted


def timing(exchange: Exchange) -> str:
    """Return the header's value: the milliseconds of each part, and the total since the request began."""
    spent: dict[str, float] = {}
    for stage in exchange.stages or ():
        part = PARTS.get(stage.name)
        if part is not None:
            spent[part] = spent.get(part, 0.0) + stage.end - stage.start
    spent["total"] = time.perf_counter() - exchange.started
    return ", ".join(f"{part};dur={1000 * seconds:.3f}" for part, seconds in spent.items())
