"""Takes outcomes beside the event loop: joined with their predictions, and durable before it answers."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from service.columns import Truth
from service.database import StoreDownError
from service.metrics import ModelMetrics
from service.monitoring import Monitoring
from service.protocols.outcomes import RESULTS, decode, encode
from service.protocols.problem import Problem, unavailable
from service.recorder import LINGER_SECONDS, Recorder
from service.store import Store, Verdict

__all__ = ["Feedback"]

T = TypeVar("T")
WAITING = 8
"""Bodies that may wait for the one thread; each may hold 10,000 outcomes, and takes it half a second at most."""
FLUSH_SECONDS = 10.0
OTHERS_SECONDS = 10 * LINGER_SECONDS
"""How long another server on the same database may take to store what it answered before its id is called unknown."""
RETRY_SECONDS = 2.0


class Feedback:
    """The outcomes of one model's predictions."""

    def __init__(
        self, store: Store, recorder: Recorder, monitoring: Monitoring, metrics: ModelMetrics, classes: tuple[str, ...]
    ) -> None:
        self._store, self._recorder, self._monitoring = store, recorder, monitoring
        self._metrics, self._classes = metrics, classes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feedback")
        self._inside = 0

    async def take(self, body: bytes) -> bytes:
        """Store the outcomes of a body, and tell what became of each.

        Raises:
            Problem: 400 or 422 where the body is at fault; 503 where too many wait, or the database is down: then
                the same body may be sent again, and counts once.
        """
        loop = asyncio.get_running_loop()
        came = loop.time()
        truths = await self._beside(lambda: decode(body, self._classes))
        verdict = await self._beside(lambda: self._join(truths))
        if verdict.unknown and self._store.shared:
            await asyncio.sleep(came + OTHERS_SECONDS - loop.time())
            places = verdict.unknown
            late = await self._beside(lambda: self._join([truths[place] for place in places]))
            for name in RESULTS:
                again = [places[place] for place in getattr(late, name)]
                setattr(verdict, name, again if name == "unknown" else sorted([*getattr(verdict, name), *again]))
        self._metrics.feedback.add("unknown", by=len(verdict.unknown))  # only now: another server may have known them
        return encode(verdict, truths)

    async def _beside(self, work: Callable[[], T]) -> T:
        if self._inside >= WAITING:
            raise unavailable("too much feedback is waiting", reason="feedback_queue_full", retry_after=RETRY_SECONDS)
        self._inside += 1
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        # Counted until the thread is done with it, even if the caller's deadline passed in the meantime.
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def _done(self, future: "asyncio.Future[T]") -> None:
        self._inside -= 1
        future.cancelled() or future.exception()  # an answer nobody waits for any more is not an unhandled error

    def _join(self, truths: list[Truth]) -> Verdict:
        if self._recorder.down or not self._recorder.flush(FLUSH_SECONDS):
            raise _down()
        try:
            verdict = self._store.join(truths, self._monitoring.tally)
        except StoreDownError:
            raise _down() from None
        for part in verdict.parts:  # only now: what was not committed did not happen
            self._monitoring.learn(part.rows, part.tallies)
        self._metrics.judged(verdict)
        return verdict

    def close(self) -> None:
        """Finish what is inside."""
        self._thread.shutdown(wait=True)


def _down() -> Problem:
    return unavailable(
        "the store is down; nothing is lost by sending the same again", reason="store_down", retry_after=RETRY_SECONDS
    )
