"""Takes outcomes in a thread of its own: joins them with their predictions, and stores them before it answers."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from service.messages.outcomes import LISTS, Joined, Outcome
from service.messages.refused import Refused
from service.monitoring.live_monitors import Monitoring
from service.store.database import StoreDownError
from service.store.recorder import Recorder
from service.store.store_client import StoreClient
from service.telemetry.metrics.engine import EngineMetrics

__all__ = ["Feedback"]

T = TypeVar("T")
LOG = logging.getLogger("guardhouse")
WAITING = 8
"""How many request bodies may wait for the thread. A body of 10,000 outcomes, the most, takes about half a second."""
FLUSH_SECONDS, FLUSH_SHARE = 10.0, 0.8
"""How long feedback waits until the rows that were answered before it are stored: so many seconds, but not longer than
this share of the time of a request. So the client is refused in a sentence, before its time is over."""
OTHERS_SECONDS, LOOK_SECONDS = 5.0, 0.05
"""How long another server on the same database may take to store its answered rows, and how often we look, in
seconds."""
RETRY_SECONDS = 2.0


class Feedback:
    """The outcomes of one model's predictions."""

    def __init__(
        self,
        store: StoreClient,
        recorder: Recorder,
        monitoring: Monitoring,
        metrics: EngineMetrics,
        *,
        request_seconds: float,
    ) -> None:
        """Start the thread; a request may take ``request_seconds`` at most."""
        self._flush_seconds = min(FLUSH_SECONDS, FLUSH_SHARE * request_seconds)
        self._store, self._recorder, self._monitoring = store, recorder, monitoring
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feedback")
        self._inside = 0

    async def join(self, outcomes: Sequence[Outcome]) -> Joined:
        """Store outcomes, and return what became of each outcome.

        Raises:
            Refused: too many bodies wait, or the database is down. The client may send the same outcomes again; each
                outcome counts once.
        """
        joined = await self._in_thread(lambda: self._join(outcomes))
        if joined.unknown and await self._others_have_stored():
            places = joined.unknown
            late = await self._in_thread(lambda: self._join([outcomes[place] for place in places]))
            for name in LISTS:
                again = [places[place] for place in getattr(late, name)]
                setattr(joined, name, again if name == "unknown" else sorted([*getattr(joined, name), *again]))
        self._metrics.feedback.add(
            "unknown", by=len(joined.unknown)
        )  # counted last: another server may have stored their predictions
        return joined

    async def _others_have_stored(self) -> bool:
        """Wait until the other servers on this database have stored their answered rows; False if there are none.

        Raises:
            Refused: another server did not store its rows in time. That server then counts as dead: when the client
                sends the same body again, nothing waits for that server.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + OTHERS_SECONDS
        asked = await self._in_thread(lambda: _or_down(self._store.ask_others))
        if not asked:
            return False
        while behind := await self._in_thread(lambda: _or_down(lambda: self._store.behind(asked))):
            if loop.time() > end:
                LOG.warning("servers on the same database did not store their rows in time: %s", ", ".join(behind))
                await self._in_thread(lambda: _or_down(lambda: self._store.strike(behind)))
                raise Refused(
                    "store_down",
                    "another server has not stored yet what it answered; nothing is lost by sending the same again",
                    retry_after=RETRY_SECONDS,
                )
            await asyncio.sleep(LOOK_SECONDS)
        return True

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._inside >= WAITING:
            raise Refused("feedback_queue_full", "too much feedback is waiting", retry_after=RETRY_SECONDS)
        self._inside += 1
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        # The body counts as waiting until the thread is done with it, even if the caller's deadline passed meanwhile.
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def _done(self, future: "asyncio.Future[T]") -> None:
        self._inside -= 1
        future.cancelled() or future.exception()  # retrieved, so that asyncio does not log it as unhandled

    def _join(self, outcomes: Sequence[Outcome]) -> Joined:
        if self._recorder.down or not self._recorder.flush(self._flush_seconds):
            raise _down()
        joined = _or_down(lambda: self._store.join(outcomes, self._monitoring.tally))
        for part in joined.parts:  # only after the commit: a failed transaction must not be counted
            self._monitoring.learn(part.rows, part.tallies)
        self._metrics.judged(joined)
        return joined

    def close(self) -> None:
        """Finish the bodies that wait, and end the thread."""
        self._thread.shutdown(wait=True)


def _or_down(work: Callable[[], T]) -> T:
    try:
        return work()
    except StoreDownError:
        raise _down() from None


def _down() -> Refused:
    detail = "the store is down; nothing is lost by sending the same again"
    return Refused("store_down", detail, retry_after=RETRY_SECONDS)
