"""A server ends, whatever fails during the shutdown."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from service.lifecycle import shutdown
from service.lifecycle.shutdown import Shutdown


class Ending:
    """A shutdown that counts its steps, and whose steps fail on request."""

    def __init__(self, *broken: str) -> None:
        self.done: list[str] = []
        self._broken = broken
        self.shutdown = Shutdown(
            request_seconds=0.1,
            announce=lambda: self.step("announce"),
            close_idle=lambda: None,
            finish=self.waiting("finish"),
            close=self.waiting("close"),
        )

    def step(self, name: str) -> None:
        self.done.append(name)
        if name in self._broken:
            raise OSError(name)

    def waiting(self, name: str) -> Callable[[], Awaitable[None]]:
        async def step() -> None:
            self.step(name)
            if f"{name} hangs" in self._broken:
                await asyncio.Event().wait()

        return step


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, seconds in (("DRAIN_SECONDS", 0.1), ("LAST_SECONDS", 0.1), ("MARGIN_SECONDS", 20.0)):
        monkeypatch.setattr(shutdown, name, seconds)
    # nohup and background jobs of a shell ignore some signals.
    handlers = {number: signal.signal(number, signal.SIG_DFL) for number in (*shutdown.SIGNALS, signal.SIGUSR1)}
    monkeypatch.setattr(shutdown, "_exit_after", lambda _: None)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def run(ending: Ending, *signals: signal.Signals, monkeypatch: pytest.MonkeyPatch, closes: bool = True) -> list[str]:
    """Send signals to this process, and give what was done by its end."""

    async def live() -> None:
        loop = asyncio.get_running_loop()
        over = asyncio.Event()

        async def close() -> None:
            await ending.shutdown.close()
            over.set()

        def leave(*_: Any) -> None:
            ending.step("leave")
            if closes:
                ending.shutdown._run(close())

        def exit_at_once(status: int) -> None:
            ending.step(f"exit {status}")
            over.set()

        monkeypatch.setattr("os._exit", exit_at_once)
        signal.signal(signal.SIGTERM, leave)
        ending.shutdown.listen(loop)
        for number in signals:
            signal.raise_signal(number)
        await asyncio.wait_for(over.wait(), 30)

    asyncio.run(live())
    return ending.done


@pytest.mark.parametrize("number", shutdown.SIGNALS)
def test_every_signal_ends_the_server(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signals of a supervisor, of a keyboard and of a terminal that is closed all take the same way."""
    assert run(Ending(), number, number, monkeypatch=monkeypatch) == ["announce", "finish", "leave", "close"]


@pytest.mark.parametrize("broken", ["announce", "finish", "finish hangs"])
def test_a_step_that_fails_does_not_keep_the_server(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that makes an end more polite may fail or hang: the end is scheduled before."""
    done = run(Ending(broken), signal.SIGTERM, monkeypatch=monkeypatch)
    assert done == ["announce", "finish", "leave", "close"]


def test_a_port_that_cannot_be_closed_does_not_keep_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the listening socket, whatever is wrong with it."""
    monkeypatch.setattr(shutdown, "inherited", lambda: 1 / 0)
    assert run(Ending(), signal.SIGTERM, monkeypatch=monkeypatch) == ["announce", "finish", "leave", "close"]


def test_connections_that_stay_open_do_not_keep_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never reads its answer is left behind, after everything was closed."""
    monkeypatch.setattr(shutdown, "MARGIN_SECONDS", 1.0)
    done = run(Ending(), signal.SIGTERM, monkeypatch=monkeypatch, closes=False)
    # If this process stalls, the server gives up before it has asked uvicorn to leave.
    assert [step for step in done if step != "leave"] == ["announce", "finish", "close", "exit 1"]


def test_draining_is_not_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGUSR1 withdraws the server from service, once, and SIGTERM then does not announce it again."""
    ending = Ending()
    done = run(ending, signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM, monkeypatch=monkeypatch)
    assert ending.shutdown.draining
    assert done == ["announce", "finish", "leave", "close"]


def test_what_nohup_ignores_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was started to outlive its terminal outlives it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    run(Ending(), signal.SIGTERM, monkeypatch=monkeypatch)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
