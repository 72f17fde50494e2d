"""Who can reach a server: without keys, only this machine, unless the operator says that everybody may ask."""

import ipaddress
import os
import sys
from typing import Any

from guards.errors import Mistake
from service.settings import Settings

__all__ = ["is_loopback", "keep_to_this_machine", "refuse_exposed"]

LOCAL, LOOPBACK, EVERY_ADDRESS = "localhost", "127.0.0.1", "0.0.0.0"  # noqa: S104 - what BentoML listens on by default


def refuse_exposed(host: str, settings: Settings) -> None:
    """Refuse to listen on an address that other machines reach, if everybody who reaches the server may ask everything.

    Raises:
        Mistake: the address is no loopback address, there are no keys, and ``GUARDHOUSE_OPEN`` does not allow it.
    """
    if settings.api_keys is None and not settings.open and not is_loopback(host):
        raise Mistake(
            f"the server has no keys, and other machines reach {host}: name a file of keys in "
            "GUARDHOUSE_API_KEYS_FILE (`guardhouse keys new` makes one), or say with `--open` (GUARDHOUSE_OPEN=1) that "
            "everybody who reaches the server may predict, send feedback and read the monitors"
        )


def keep_to_this_machine(listening: Any) -> None:  # noqa: ANN401 - circus has no types
    """Let a server listen on the loopback address if nobody has said on which, and everybody may ask everything.

    `bentoml serve` listens on every address by default. ``listening`` is circus's description of a socket.
    """
    said = "BENTOML_HOST" in os.environ or any(each.split("=")[0] == "--host" for each in sys.argv)
    allowed = os.environ.get("GUARDHOUSE_API_KEYS_FILE") or os.environ.get("GUARDHOUSE_OPEN")
    if getattr(listening, "host", None) == EVERY_ADDRESS and not said and not allowed:
        listening.host = LOOPBACK
        sys.stderr.write(
            f"Nobody named a host, and the server has no keys: it listens on {LOOPBACK} alone. `--host`, with keys "
            "(GUARDHOUSE_API_KEYS_FILE) or GUARDHOUSE_OPEN=1, lets others in.\n"
        )


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    if host == LOCAL:
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:  # a name: whoever chose it may not know where it leads
        return False
