"""``Server-Timing``: where the time of one answer went, for a client that asks (W3C Server Timing)."""

import time
from collections.abc import Mapping

from service.exchange import Exchange

__all__ = ["ask", "timing"]

ASKED = b"x-server-timing"
YES = (b"1", b"true")
PARTS = {"decode": "decode", "queue": "queue", "input_guards": "model", "model": "model", "output_guards": "model",
         "encode": "encode"}  # fmt: skip
"""What each stage is shown as: the guards' time is the model's, since some of them no answer shows."""


def ask(exchange: Exchange, headers: Mapping[bytes, bytes]) -> bool:
    """Let the stages of a request be noted if its client wants to know them."""
    wanted = headers.get(ASKED) in YES
    if wanted and exchange.stages is None:
        exchange.stages = []
    return wanted


def timing(exchange: Exchange) -> str:
    """Write the header: milliseconds of each part, and of all since the request's first byte."""
    spent: dict[str, float] = {}
    for stage in exchange.stages or ():
        part = PARTS.get(stage.name)
        if part is not None:
            spent[part] = spent.get(part, 0.0) + stage.end - stage.start
    spent["total"] = time.perf_counter() - exchange.started
    return ", ".join(f"{part};dur={1000 * seconds:.3f}" for part, seconds in spent.items())
