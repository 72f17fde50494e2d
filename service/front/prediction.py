"""Turns the body of a prediction request into the body of its answer, for every protocol and transport."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from guards.actions import Action
from service.front.admission import need
from service.front.client_names import ClientNames
from service.front.client_threads import CLIENT_THREADS
from service.front.concurrency import ConcurrencyLimit, Ticket
from service.front.engine_client import EngineClient
from service.front.protocols.v1 import Request
from service.messages.answer import LEFT_OUT, Answer
from service.messages.row_name import row_name
from service.telemetry.request_record import CURRENT, StageTimes, current_owner, took

__all__ = ["Asked", "Predicted", "Prediction"]

T = TypeVar("T")
ACTION, SKIPPED_GUARDS = "X-Guardhouse-Action", "X-Guardhouse-Skipped"


@dataclass(slots=True, eq=False)
class Asked(Generic[T]):
    """A decoded request: its rows, and the function that encodes the answer.

    ``encode`` returns the answer in the transport's form, and the strictest action among the answer's rows. ``causes``
    asks the guards to name causes. ``detail`` is whether the answer has the guards' p-values.
    """

    rows: Request
    encode: Callable[[Answer], tuple[T, Action]]
    causes: bool = False
    detail: bool = False


class Predicted(NamedTuple, Generic[T]):
    """An encoded answer, its strictest action, and the names of guards that were left out on some row."""

    body: T
    strictest: Action
    skipped: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers that tell of the guards."""
        told = {ACTION: self.strictest.label}
        return {**told, SKIPPED_GUARDS: self.skipped} if self.skipped else told


class Prediction:
    """Answers the prediction requests of a front process."""

    def __init__(
        self,
        engine: EngineClient,
        stages: StageTimes,
        limit: ConcurrencyLimit,
        *,
        stored_row_bytes: int = 0,
        optional_guards: Sequence[tuple[int, str]] = (),
        clients: ClientNames | None = None,
    ) -> None:
        """Ask ``engine`` for predictions, and observe how long decoding and encoding take in ``stages``.

        Requests beyond ``limit`` are refused. The store keeps ``stored_row_bytes`` of each row, and the row's id. The
        answer says which of the ``optional_guards``, by place and name, were left out. If the model has guards with
        memory, ``clients`` names the clients for them.
        """
        self._stored_row_bytes, self._optional_guards = stored_row_bytes, optional_guards
        self._engine, self._stages, self._limit, self._clients = engine, stages, limit, clients

    async def predict(self, decode: Callable[[], Asked[T]], *, deadline: float, slow: bool = False) -> Predicted[T]:
        """Check for room, decode, predict and encode; return the encoded answer and what its headers say.

        If decoding or encoding would hold up other requests, a thread does that work.

        Args:
            decode: decodes the request.
            deadline: when the caller stops waiting, in seconds of the event loop's clock.
            slow: whether ``decode`` takes so long that a thread should run it.

        Raises:
            Problem: the request cannot be decoded into rows, or asks for a detail that the caller may not see.
            Refused: too many requests are being answered or wait to be decoded, or the engine does not accept rows now.
            ModelFault: the model raised an exception.
        """
        self._engine.check_room()
        exchange, left = CURRENT.get(), deadline - asyncio.get_running_loop().time()
        caller, arrived = ("", time.perf_counter()) if exchange is None else (exchange.caller, exchange.arrived)
        if slow:
            CLIENT_THREADS.check_room()
        with self._limit.enter(caller, arrived, left) as ticket:
            return await self._answer(decode, ticket, deadline=deadline, slow=slow)

    async def _answer(
        self, decode: Callable[[], Asked[T]], ticket: Ticket, *, deadline: float, slow: bool
    ) -> Predicted[T]:
        started = time.perf_counter()
        asked = await CLIENT_THREADS.run(decode) if slow else decode()
        rows, exchange = asked.rows, CURRENT.get()
        ticket.weigh(len(rows.x))
        noted = None if exchange is None else exchange.stages
        took(self._stages, "decode", started)
        if exchange is not None:
            exchange.rows = len(rows.x)
            if asked.detail:
                need(exchange.principal, "detail")
            if exchange.budget is not None:
                await exchange.budget.spend("rows", len(rows.x))
                if self._stored_row_bytes:
                    stored = sum(map(len, rows.ids)) + self._stored_row_bytes * len(rows.x)
                    await exchange.budget.spend("stored_bytes", stored)
        owner = current_owner()
        names = [row_name(owner, name) for name in rows.ids]
        answer = await self._engine.predict(
            rows.x,
            ids=names,
            groups=rows.groups,
            deadline=deadline,
            causes=asked.causes,
            stages=noted,
            client="" if self._clients is None else self._clients.of(exchange),
        )
        if exchange is not None:
            exchange.actions = answer.action
        started = time.perf_counter()
        written = await CLIENT_THREADS.run(lambda: asked.encode(answer)) if answer.is_large else asked.encode(answer)
        took(self._stages, "encode", started)
        skipped = [name for place, name in self._optional_guards if (answer.p_value[:, place] == LEFT_OUT).any()]
        return Predicted(*written, ",".join(skipped))
