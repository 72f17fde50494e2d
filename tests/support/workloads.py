"""Slow work for monitors, made up: a process of its own finds it here by name."""

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
    """Do what takes no time."""
    del task
    return {"twice": 2 * arrays["value"]}


def refuse(task: Mapping[str, Any], arrays: Arrays) -> Arrays:
    """Fail, and name a row."""
    raise ValueError(f"PAYLOAD {task} {arrays}")


def die(task: Mapping[str, Any], arrays: Arrays) -> Arrays:
    """Take the process along."""
    del task
    os.kill(os.getpid(), signal.SIGKILL)
    return arrays


def wait(task: Mapping[str, Any], arrays: Arrays) -> Arrays:
    """Do nothing until a file appears."""
    while not Path(task["until"]).exists():
        time.sleep(0.01)
    return {"twice": 2 * arrays["value"]}


def describe(task: Mapping[str, Any], arrays: Arrays) -> Arrays:
    """Tell what the process is like."""
    del task, arrays
    assert not {"torch", "guards"} & sys.modules.keys()
    return {"nice": np.asarray(os.nice(0)), "threads": np.asarray(int(os.environ["OMP_NUM_THREADS"]))}
