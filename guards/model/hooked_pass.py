"""What forward hooks read in one pass of a module: of the pipeline's pass, or of a pass with gradients."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch

__all__ = ["HookedPass"]

T = TypeVar("T")


class HookedPass(Generic[T]):
    """Collects what hooks read, in the order of running: ``captured`` is of the pipeline's last pass.

    A pass with gradients collects in its own thread, by :meth:`traced`, so that a pipeline in another thread is not
    disturbed. A pass that is neither in inference mode nor traced collects nothing.
    """

    def __init__(self) -> None:
        self.captured: list[T] = []
        self._traced = threading.local()

    @property
    def into(self) -> list[T] | None:
        """The list of the running pass; None if the pass collects nothing."""
        # Only the pipeline is ever compiled. In a compiled graph, a question for the mode would break the graph in two.
        if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
            return self.captured
        return getattr(self._traced, "into", None)

    @contextmanager
    def traced(self) -> Iterator[list[T]]:
        """Collect in passes outside inference mode, in this thread alone."""
        self._traced.into = []
        try:
            yield self._traced.into
        finally:
            del self._traced.into
