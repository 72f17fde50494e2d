"""The interface between front and engine: everything that the front may ask the engine."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy.typing as npt

from service.messages.answer import Answer
from service.messages.monitor_changes import Change
from service.messages.outcomes import Joined, Outcome
from service.messages.scope import Scope
from service.messages.stage import Stage

__all__ = ["EngineClient"]

Array = npt.NDArray[Any]


class EngineClient(Protocol):
    """What the front knows of the engine. Arguments and results are plain arrays, strings and numbers."""

    def ready(self) -> str | None:
        """Return why the engine cannot predict now; None if the engine is ready."""
        ...

    def check_room(self, rows: int = 1) -> None:
        """Refuse rows that the queue has no room for. Called before decoding, since refusing a flood must be cheap.

        Raises:
            Refused: the engine is not ready, or the queue is full.
        """
        ...

    async def predict(
        self,
        x: Array,
        *,
        ids: Sequence[str],
        groups: Mapping[str, Sequence[str | None]],
        deadline: float,
        causes: bool = False,
        stages: list[Stage] | None = None,
        client: str = "",
    ) -> Answer:
        """Judge and predict rows (n, ...) float32, one id each.

        Args:
            x: the rows.
            ids: the rows' ids.
            groups: for each attribute that the client sent, the value of each row or None.
            deadline: when the caller stops waiting, by ``time.monotonic``.
            causes: whether the answer also says why each guard found a row unusual.
            stages: a list to which the stages of the request are added; None if nobody needs the stages.
            client: who asks, for guards with memory.

        Raises:
            Refused: the queue is full, the deadline cannot be met, or the engine is not ready.
            ModelFault: the model raised an exception.
        """
        ...

    async def report(self, scope: Scope = "bundle") -> dict[str, Any]:
        """Return the report of every monitor, over the served bundle, its version or its lifetime.

        Raises:
            Refused: the server has no store, or the store is down.
        """
        ...

    async def join(self, outcomes: Sequence[Outcome]) -> Joined:
        """Store outcomes of known predictions durably.

        Raises:
            Refused: too many outcomes wait, or the store is down. They may be sent again: each outcome counts once.
        """
        ...

    async def change(self, change: Change) -> dict[str, Any]:
        """Record a change of the monitors, and return what became of it.

        Raises:
            Refused: the server has no store, the store is down, or the monitor cannot be reset.
        """
        ...

    async def metrics(self) -> list[dict[str, Any]]:
        """Return the metric families that only the engine has, as plain data.

        Raises:
            Refused: the engine cannot be reached.
        """
        ...

    async def close(self) -> None:
        """Close all connections to the engine."""
        ...
