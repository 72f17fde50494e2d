"""An engine in the test's own process: a front's client that calls a real pipeline, without batcher and sockets."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy.typing as npt
import torch

from guards import Batch, Bundle, Config, InputSchema
from guards.monitors.groups.monitor import level_codes, of_requests
from service.engine.describe import served_model
from service.engine.to_host import answer_of
from service.messages.answer import Answer
from service.messages.monitor_changes import Change
from service.messages.outcomes import Joined, Outcome
from service.messages.refused import Refused
from service.messages.scope import Scope
from service.messages.served_model import ServedModel
from service.messages.stage import Stage

__all__ = ["LocalEngine", "served_config", "served_model_of"]

Array = npt.NDArray[Any]


def served_model_of(bundle: Bundle, config: Config | None = None) -> ServedModel:
    """Describe a bundle as the engine does; ``config`` is the deployed config, if it is not the fitted one."""
    return served_model(
        config or bundle.config, bundle.schema, bundle.classes, causes=bundle.cause_names, bundle=bundle.id
    )


def served_config(
    config: Config,
    schema: InputSchema,
    classes: Sequence[str] = (),
    causes: Mapping[str, Sequence[str]] | None = None,
    **changes: Any,
) -> ServedModel:
    """Describe a model that was never fitted, for tests of what is read and written; ``changes`` replace fields."""
    served = served_model(config, schema, classes, causes=causes or {}, bundle="sha256:0")
    return served.model_copy(update=changes)


class LocalEngine:
    """Implements :class:`service.front.engine_client.EngineClient` by one call of the pipeline for each request.

    A test sets ``trouble``, the reason why the engine is not ready, and ``refusal``, with which it refuses every
    question. ``asked`` lists the outcomes and the scopes of all questions, ``threads`` the threads that asked.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.pipeline = bundle, bundle.pipeline()
        self.trouble: str | None = None
        self.refusal: Exception | None = None
        self.stored: dict[str, Outcome] = {}
        self.scopes: list[Scope] = []
        self.changes: list[Change] = []
        self.predicted: set[str] = set()
        self.threads: list[threading.Thread] = []
        self._groups = of_requests(bundle.monitors)

    def ready(self) -> str | None:
        return self.trouble

    def check_room(self, rows: int = 1) -> None:
        if self.trouble is not None:
            raise Refused("loading", self.trouble, retry_after=2)
        if self.refusal is not None:
            raise self.refusal
        if rows > self.bundle.config.server.max_queue_rows:
            raise Refused("queue_full", "the queue is full")

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
        del deadline, client
        self.check_room(len(x))
        self.threads.append(threading.current_thread())
        batch = Batch(torch.tensor(x), level_codes(self._groups, len(x), groups))
        answer = answer_of(self.pipeline(batch, causes=causes))
        self.predicted.update(ids)
        if stages is not None:
            stages.append(Stage("model", 0.0, 1.0, len(x)))
        return replace(answer, violated=None)  # a front does not get this field

    async def report(self, scope: Scope = "bundle") -> dict[str, Any]:
        self.check_room()
        self.scopes.append(scope)
        return {"monitors": {}, "bundle": self.bundle.id}

    async def join(self, outcomes: Sequence[Outcome]) -> Joined:
        """Keep outcomes of predictions in memory, by the rules of the store."""
        self.check_room()
        if not self.bundle.config.store.enabled:
            raise Refused("no_store", "this server keeps no predictions: store.enabled is false")
        joined = Joined()
        for place, outcome in enumerate(outcomes):
            stored = self.stored.get(outcome.id)
            if outcome.id not in self.predicted:
                joined.unknown.append(place)
            elif stored is None or (outcome.replace and not stored.agrees(outcome.label, outcome.value)):
                (joined.accepted if stored is None else joined.replaced).append(place)
                self.stored[outcome.id] = outcome
            elif stored.agrees(outcome.label, outcome.value):
                joined.duplicate.append(place)
            else:
                joined.conflicting.append(place)
        return joined

    async def change(self, change: Change) -> dict[str, Any]:
        """Keep a change in memory."""
        self.check_room()
        self.changes.append(change)
        return {**change.shown, "rows": 0, "not_corrected": []}

    async def metrics(self) -> list[dict[str, Any]]:
        self.check_room()
        return []

    async def close(self) -> None:
        """Do nothing: nothing is open."""
