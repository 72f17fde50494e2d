"""The body of a request that changes the monitors: whom or what to change, and why."""

import re
from collections.abc import Sequence

from service.front.protocols.problem import unprocessable
from service.front.protocols.strict_json import parsed
from service.messages.monitor_changes import Kind

__all__ = ["LONGEST_REASON", "PRINCIPAL", "SUBJECTS", "decode"]

PRINCIPAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LONGEST_REASON = 500
SUBJECTS: dict[Kind, str] = {"exclude": "principal", "include": "principal", "reset": "monitor"}
"""The key that says whom or what to change."""


def decode(body: bytes, kind: Kind, monitors: Sequence[str]) -> tuple[str, str]:
    """Decode a body into the subject of a change and its reason; ``monitors`` are the names of all monitors.

    Raises:
        Problem: 400 if the body is no JSON; 422 with every fault and its place.
        Refused: the JSON would take more memory than there is now.
    """
    key = SUBJECTS[kind]
    with parsed(body) as document:
        if not isinstance(document, dict):
            raise unprocessable([((), f"expected an object with `{key}` and `reason`")])
        faults = [((name[:40],), "unknown key") for name in document if name not in (key, "reason")]
        faults += [((name,), "missing") for name in (key, "reason") if name not in document]
        subject, reason = document.get(key, ""), document.get("reason", "-")
        if key in document and (sentence := _fault(key, subject, monitors)):
            faults.append(((key,), sentence))
        if not isinstance(reason, str) or not reason.isprintable() or not 1 <= len(reason.strip()) <= LONGEST_REASON:
            faults.append((("reason",), f"expected 1 to {LONGEST_REASON} printable characters in one line"))
        if faults:
            raise unprocessable(faults)
        return str(subject), str(reason)


def _fault(key: str, subject: object, monitors: Sequence[str]) -> str | None:
    if key == "monitor":
        return None if subject in monitors else f"there is no such monitor; there are {', '.join(monitors)}"
    known = isinstance(subject, str) and PRINCIPAL.fullmatch(subject)
    return None if known else "expected the name of a principal, as in the file of keys"
