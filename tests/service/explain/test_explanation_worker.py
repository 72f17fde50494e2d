"""The desk's side of the explanation process: how it slows down beside predictions, and what it refuses."""

import asyncio
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import pytest
from waiting import until_in_loop

from service.explain import worker_client
from service.explain.worker_client import ExplanationWorker
from service.messages.frames import Frame
from service.messages.refused import Refused
from service.processes import EndedError

SECONDS = 0.05


class SlowProcess:
    """A process that takes a while over each question, and knows when each was asked."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self.asked: list[float] = []
        self.ended = 0

    async def start(self) -> None:
        pass

    async def ask(self, head: Mapping[str, Any], body: bytes) -> Frame:
        del head, body
        self.asked.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.seconds)
        return {"status": "ok"}, b""

    async def end(self) -> None:
        self.ended += 1


class HeldProcess(SlowProcess):
    """A process that answers nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__(0)
        self.go = asyncio.Event()

    async def ask(self, head: Mapping[str, Any], body: bytes) -> Frame:
        answer = await super().ask(head, body)
        await self.go.wait()
        return answer


def ask(
    process: Any, questions: int, share: float = 1, *, busy: Callable[[], bool] = lambda: False, seconds: float = 600
) -> list[Frame | BaseException]:
    """Ask so many questions at once with a queue for as many, wait for all, and give what came of each."""

    async def all_of_them() -> list[Frame | BaseException]:
        worker = ExplanationWorker(process, questions, share=share, busy=busy)
        deadline = asyncio.get_running_loop().time() + seconds
        each = (worker.explain({}, b"", deadline) for _ in range(questions))
        found = await asyncio.gather(*each, return_exceptions=True)
        await worker.close()
        return found

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_beside_predictions_explanations_take_their_share_of_the_time(share: float) -> None:
    """While predictions are made, the next question waits until the last one took no more than its share."""
    process = SlowProcess()
    ask(process, 4, share, busy=lambda: True)
    gaps = [after - before for before, after in pairwise(process.asked)]
    assert len(gaps) == 3
    assert min(gaps) >= SECONDS / share


def test_a_pause_ends_with_the_predictions() -> None:
    """Once no predictions are made, no question waits for the rest of a pause."""
    process, looks = SlowProcess(), 0

    def busy() -> bool:
        nonlocal looks
        looks += 1
        return looks < 4

    ask(process, 2, 0.001, busy=busy)
    assert len(process.asked) == 2
    assert looks == 4
    assert process.asked[1] - process.asked[0] < worker_client.MAX_PAUSE_SECONDS


def test_alone_explanations_do_not_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """While no predictions are made, a question follows the last at once."""
    monkeypatch.setattr(worker_client, "LOOK_SECONDS", 1e9)  # a pause would be as long as it may be
    process = SlowProcess()
    ask(process, 3, 0.001)
    assert len(process.asked) == 3
    assert process.asked[2] - process.asked[0] < worker_client.MAX_PAUSE_SECONDS


def test_a_full_queue_refuses() -> None:
    """If as many questions wait as may, the next question is refused with the seconds after which to come again."""

    async def scene() -> None:
        process: Any = HeldProcess()
        worker = ExplanationWorker(process, 2, share=1, busy=lambda: False)
        deadline = asyncio.get_running_loop().time() + 600
        waiting = [asyncio.create_task(worker.explain({}, b"", deadline)) for _ in range(3)]
        await until_in_loop(lambda: process.asked)  # one is being answered, two wait
        with pytest.raises(Refused, match="too many explanations are waiting") as refused:
            await worker.explain({}, b"", deadline)
        assert (refused.value.reason, refused.value.retry_after) == ("explain_queue_full", 5)
        process.go.set()
        assert await asyncio.gather(*waiting) == [({"status": "ok"}, b"")] * 3
        await worker.close()

    asyncio.run(scene())


def test_a_deadline_ends_the_wait_for_a_turn() -> None:
    """A question whose deadline passes in the queue gets no answer and is never asked."""

    async def scene() -> None:
        process: Any = HeldProcess()
        worker = ExplanationWorker(process, 1, share=1, busy=lambda: False)
        now = asyncio.get_running_loop().time()
        first = asyncio.create_task(worker.explain({}, b"", now + 600))
        await until_in_loop(lambda: process.asked)
        with pytest.raises(TimeoutError):
            await worker.explain({}, b"", now + 0.1)
        process.go.set()
        assert await first == ({"status": "ok"}, b"")
        assert len(process.asked) == 1
        await worker.close()

    asyncio.run(scene())


def test_an_explanation_that_does_not_end_is_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the process does not answer soon after the deadline, it is killed, and the log has a line about it."""
    monkeypatch.setattr(worker_client, "GRACE_SECONDS", 0.05)
    process = SlowProcess(600)
    (found,) = ask(process, 1, seconds=1)
    assert isinstance(found, TimeoutError)
    assert process.ended >= 1
    assert "did not end at its deadline: its process is killed" in caplog.text


@pytest.mark.parametrize("deaths", [1, 2, 3])
def test_a_question_is_asked_of_two_processes_at_most(deaths: int, caplog: pytest.LogCaptureFixture) -> None:
    """If the process ends, a new process gets the question; if that process ends too, the question gets no answer."""

    class Fatal(SlowProcess):
        async def ask(self, head: Mapping[str, Any], body: bytes) -> Frame:
            answer = await super().ask(head, body)
            if len(self.asked) <= deaths:
                raise EndedError(-9)
            return answer

    process = Fatal(0)
    first, second = ask(process, 2)
    assert isinstance(first, EndedError) is (deaths > 1)
    assert second == ({"status": "ok"}, b"")
    assert len(process.asked) == (4 if deaths > 2 else 3)
    assert caplog.text.count("the process that explains ended by itself (status -9)") == deaths
