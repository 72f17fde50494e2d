"""What the console shows, by name: the model, the last minutes, and the monitors."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from service.front.console.console_routes import Source
from service.front.console.evidence import Evidence
from service.front.console.paced_report import PacedReport
from service.front.console.samples import Samples
from service.front.engine_client import EngineClient
from service.front.readiness import Readiness
from service.front.triton_routes import PREDICTING
from service.messages.board import Board
from service.messages.served_model import ServedModel
from service.telemetry.metrics.server_counts import ServerCounts

__all__ = ["Sources"]


class Sources:
    """The console's data in one front, and the tasks that keep a short history of them."""

    def __init__(
        self,
        served: ServedModel,
        engine: EngineClient,
        readiness: Readiness,
        *,
        board: Board,
        counts: Callable[[], ServerCounts],
    ) -> None:
        """Describe ``served``; ``board`` and ``counts`` show the whole server."""
        self._served, self._engine, self._readiness = served, engine, readiness
        self._samples = Samples(board, counts, PREDICTING)
        self._evidence = Evidence(engine.metrics)
        self._report = PacedReport(engine.report)

    def by_name(self) -> dict[str, Source]:
        """Give every source by its name under /console/data/."""
        return {"model": self._model, "now": self._now, "monitors": self._monitors}

    def keep(self) -> list["asyncio.Task[None]"]:
        """Begin to keep the history; gives the tasks, which whoever calls this cancels at the end."""
        return [asyncio.create_task(self._samples.keep_reading()), asyncio.create_task(self._evidence.keep_reading())]

    async def _model(self) -> Mapping[str, Any]:
        """Describe the served model, and say whether the server can predict; if not, ``trouble`` says why."""
        served, trouble = self._served, self._readiness.trouble()
        return {
            "name": served.name,
            "version": served.version,
            "bundle": served.bundle,
            "platform": served.platform,
            "shadow": served.shadow,
            "classes": served.classes,
            "rows": served.rows.model_dump(mode="json"),
            "groups": served.groups,
            "stores_rows": served.stores_rows,
            "stores_inputs": served.stores_inputs,
            "max_rows_per_request": served.server.max_rows_per_request,
            "explain": {
                "method": served.explain.method,
                "allowed": served.explain.allowed,
                "methods": [each.model_dump(mode="json") for each in served.explain.explainers],
                "max_rows": served.explain.max_rows,
            },
            **served.about,
            "ready": trouble is None,
            "trouble": trouble,
        }

    async def _now(self) -> Mapping[str, Any]:
        trouble = self._readiness.trouble()
        return {**self._samples.document(), **self._evidence.promises(), "ready": trouble is None, "trouble": trouble}

    async def _monitors(self) -> Mapping[str, Any]:
        """Give the monitors' report, with each stream's bins and evidence.

        Raises:
            Refused: the engine is not ready.
        """
        self._readiness.check_engine()
        report = await self._report.read()
        return {
            "report": report,
            "histograms": self._evidence.histograms(),
            "evidence": self._evidence.evidence(report),
        }
