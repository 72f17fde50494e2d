"""Made-up slow work for monitors, which the process of the slow work finds in this module by name."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Arrays = Mapping[str, Any]


def double(task: Mapping[str, Any], arrays: Arrays) -> Arrays:
    """Double the arrays, which takes no time."""
    del task
    return {"twice": 2 * arrays["value"]}


def refuse(task: Mapping[str, Any], arrays: Arrays) -> Arrays:
    """Fail with a message that names a row."""
    raise ValueError(f"PAYLOAD {task} {arrays}")


def die(task: Mapping[str, Any], arrays: Arrays) -> Arrays:
    """End the process."""
    del task
    os.kill(os.getpid(), signal.SIGKILL)
    return arrays


def wait(task: Mapping[str, Any], arrays: Arrays) -> Arrays:
    """Wait until a file appears."""
    while not Path(task["until"]).exists():
        time.sleep(0.01)
    return {"twice": 2 * arrays["value"]}


def describe(task: Mapping[str, Any], arrays: Arrays) -> Arrays:
    """Describe the process that runs this function."""
    del task, arrays
    assert not {"torch", "guards"} & sys.modules.keys()
    return {"nice": np.asarray(os.nice(0)), "threads": np.asarray(int(os.environ["OMP_NUM_THREADS"]))}
