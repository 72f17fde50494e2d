"""Lets processes that step back keep their priority: beside a busy suite, the kernel would hardly ever run them.

Python imports this module at its start if this folder is on the path.
"""

import os
from typing import Any


def keep(*_: Any) -> None:
    """Change nothing."""


os.nice = keep  # type: ignore[assignment]
if hasattr(os, "sched_setscheduler"):
    os.sched_setscheduler = keep
