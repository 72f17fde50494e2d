"""The server's side of the process that explains: how it paces itself beside predictions."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from service import explain_process, explainers
from service.explainers import Explainers, Task

TASK = Task({"method": None}, b"")
SECONDS = 0.05


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Put a process in the other's place that takes a while over each question; gives when each was asked."""
    times: list[float] = []
    process = SimpleNamespace(returncode=None)

    async def send(*_: object) -> None:
        times.append(asyncio.get_running_loop().time())

    async def receive(_: object) -> tuple[dict[str, Any], bytes]:
        await asyncio.sleep(SECONDS)
        return {"status": "ok"}, b""

    async def started(_: Explainers) -> Any:
        return process

    monkeypatch.setattr(explainers, "_send", send)
    monkeypatch.setattr(explainers, "_receive", receive)
    monkeypatch.setattr(Explainers, "_started", started)
    return times


def ask(questions: int, share: float, busy: Callable[[], bool], seconds: float = 60) -> None:
    """Ask so many questions at once, and wait for all."""

    async def all_of_them() -> None:
        asking = Explainers("sha256:0", questions, share=share, busy=busy)
        deadline = asyncio.get_running_loop().time() + seconds
        await asyncio.gather(*(asking.explain(TASK, deadline) for _ in range(questions)))
        if asking._idle is not None:
            asking._idle.cancel()

    asyncio.run(all_of_them())


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_beside_predictions_explanations_take_their_share_of_the_time(asked: list[float], share: float) -> None:
    """While predictions are served, the next question waits until the last one was no more than its share."""
    ask(4, share, lambda: True)
    gaps = [after - before for before, after in pairwise(asked)]
    assert len(gaps) == 3
    assert min(gaps) >= SECONDS / share


def test_a_pause_ends_with_the_predictions(asked: list[float]) -> None:
    """Once no predictions are served, nobody waits for the rest of a pause."""
    looks: list[float] = []

    def busy() -> bool:
        looks.append(asked[-1] if asked else 0)
        return len(looks) < 4

    ask(2, 0.001, busy)
    assert len(asked) == 2
    assert len(looks) == 4
    assert asked[1] - asked[0] < explainers.MAX_PAUSE_SECONDS


def test_alone_explanations_do_not_pause(asked: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no predictions are served, a question follows the last at once."""
    monkeypatch.setattr(explainers, "LOOK_SECONDS", 1e9)  # a pause would be as long as it may be
    ask(3, 0.001, lambda: False)
    assert len(asked) == 3
    assert asked[2] - asked[0] < explainers.MAX_PAUSE_SECONDS


def test_a_container_may_forbid_to_step_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Priorities are for the others' sake: where none of them may be set, explanations are made all the same."""

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    for name in ("os.nice", "os.sched_setscheduler", "ctypes.CDLL", "pathlib.Path.write_text"):
        monkeypatch.setattr(name, forbidden)
    explain_process._step_back()
