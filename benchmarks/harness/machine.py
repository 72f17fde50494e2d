"""What a result is a result of: hardware, versions, date."""

import datetime as dt
import os
import platform
from pathlib import Path

import torch

__all__ = ["describe"]


def describe() -> dict[str, str | int]:
    """Name the machine as far as a reader needs it to weigh a figure."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.machine()
    return {
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
