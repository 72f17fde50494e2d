"""Takes outcomes beside the event loop: joined with their predictions, and durable before it answers."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from service.columns import Truth
from service.database import StoreDownError
from service.metrics import ModelMetrics
from service.monitoring import Monitoring
from service.protocols.outcomes import REPLACED, RESULTS, decode, encode
from service.protocols.problem import Problem, unavailable
from service.recorder import Recorder
from service.store import Store, Verdict

__all__ = ["Feedback"]

T = TypeVar("T")
LOG = logging.getLogger("guardhouse")
WAITING = 8
"""Bodies that may wait for the one thread; each may hold 10,000 outcomes, and takes it half a second at most."""
FLUSH_SECONDS = 10.0
OTHERS_SECONDS, LOOK_SECONDS = 5.0, 0.05
"""How long another server on the same database may take to store what it answered, and how often that is looked up."""
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
        truths = await self._beside(lambda: decode(body, self._classes))
        verdict = await self._beside(lambda: self._join(truths))
        if verdict.unknown and await self._others_have_stored():
            places = verdict.unknown
            late = await self._beside(lambda: self._join([truths[place] for place in places]))
            for name in (*RESULTS, REPLACED):
                again = [places[place] for place in getattr(late, name)]
                setattr(verdict, name, again if name == "unknown" else sorted([*getattr(verdict, name), *again]))
        self._metrics.feedback.add("unknown", by=len(verdict.unknown))  # only now: another server may have known them
        return encode(verdict, truths)

    async def _others_have_stored(self) -> bool:
        """Wait until the other servers on this database have stored what they answered; False if there are none.

        Raises:
            Problem: 503, one of them does not; it is taken for dead, and not waited for when the body comes again.
        """
        replicas = self._recorder.replicas
        assert replicas is not None  # noqa: S101 - a recorder with a store has them
        loop = asyncio.get_running_loop()
        end = loop.time() + OTHERS_SECONDS
        asked = await self._beside(lambda: _or_down(replicas.ask))
        if not asked:
            return False
        while behind := await self._beside(lambda: _or_down(lambda: replicas.behind(asked))):
            if loop.time() > end:
                LOG.warning("servers on the same database that do not say what they have stored: %s", ", ".join(behind))
                await self._beside(lambda: _or_down(lambda: replicas.strike(behind)))
                raise unavailable(
                    "another server has not stored yet what it answered; nothing is lost by sending the same again",
                    reason="store_down", retry_after=RETRY_SECONDS,
                )  # fmt: skip
            await asyncio.sleep(LOOK_SECONDS)
        return True

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
        verdict = _or_down(lambda: self._store.join(truths, self._monitoring.tally))
        for part in verdict.parts:  # only now: what was not committed did not happen
            self._monitoring.learn(part.rows, part.tallies)
        self._metrics.judged(verdict)
        return verdict

    def close(self) -> None:
        """Finish what is inside."""
        self._thread.shutdown(wait=True)


def _or_down(work: Callable[[], T]) -> T:
    try:
        return work()
    except StoreDownError:
        raise _down() from None


def _down() -> Problem:
    return unavailable(
        "the store is down; nothing is lost by sending the same again", reason="store_down", retry_after=RETRY_SECONDS
    )
