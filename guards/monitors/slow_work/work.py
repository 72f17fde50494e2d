"""A piece of a monitor's slow work, in a form that any process can run."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from guards.monitors.slow_work.client import Arrays, shared

__all__ = ["Arrays", "Work"]


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """Work that is too slow for the thread that runs the model: a call of a named function with plain arrays.

    ``function`` is ``module:name``; the function takes ``task``, which is JSON, and ``arrays``, and returns arrays.
    ``python`` is the interpreter whose environment has the packages that the function imports; None for this one.
    """

    function: str
    task: Mapping[str, Any]
    arrays: Arrays
    python: str | None = None

    def run(self) -> Arrays:
        """Do the work now: here, or in a process of the interpreter that the work needs.

        Raises:
            WorkFailedError: that process ended, or the function raised an exception in it.
        """
        if self.python is not None:
            return shared(self.python).run(self.function, self.task, self.arrays)
        module, _, name = self.function.partition(":")
        result: Arrays = getattr(import_module(module), name)(self.task, self.arrays)
        return result
