"""The path that every request for predictions takes through a front."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from idle_limit import idle_limit
from local_engine import LocalEngine
from tiny_models import fitted

from guards import Action
from service.front.prediction import Asked, Prediction
from service.front.protocols import v1
from service.messages.answer import LARGE, Answer
from service.messages.refused import ModelFault, Refused
from service.telemetry.metrics.front import FrontMetrics
from service.telemetry.request_record import CURRENT, Exchange, Exchanges

ROWS = np.full((3, 5), 0.5, dtype=np.float32)


class Threads:
    """Decodes and encodes, and remembers in which thread."""

    def __init__(self) -> None:
        self.decoded: list[threading.Thread] = []
        self.encoded: list[threading.Thread] = []
        self.causes = False

    def decode(self) -> Asked[int]:
        self.decoded.append(threading.current_thread())
        return Asked(v1.Request(ROWS, ["a", "b", "c"], {}, {}), self.encode, self.causes)

    def encode(self, answer: Answer) -> tuple[int, Action]:
        self.encoded.append(threading.current_thread())
        return len(answer), Action(int(answer.action.max()))


@pytest.fixture(scope="module")
def fitted_engine() -> LocalEngine:
    """Fit a model."""
    return LocalEngine(fitted("tensor").bundle)


@pytest.fixture
def engine(fitted_engine: LocalEngine) -> Iterator[LocalEngine]:
    """Give an engine that refuses nothing."""
    fitted_engine.trouble = fitted_engine.refusal = None
    yield fitted_engine
    fitted_engine.trouble = fitted_engine.refusal = None


def predicted(
    engine: LocalEngine, threads: Threads, *, slow: bool = False, noted: bool = True
) -> tuple[Any, Exchange, FrontMetrics]:
    """Predict within the record of a request."""
    metrics = FrontMetrics({"/predict": (200,)})

    async def main() -> tuple[Any, Exchange]:
        exchange = Exchanges(metrics).begin("/predict", "POST", "id", [])
        exchange.stages = [] if noted else None
        deadline = asyncio.get_running_loop().time() + 10
        return await Prediction(engine, metrics.stages, idle_limit()).predict(
            threads.decode, deadline=deadline, slow=slow
        ), exchange

    try:
        told, exchange = asyncio.run(main())
    finally:
        CURRENT.set(None)
    return told, exchange, metrics


def test_the_record_of_the_request_is_filled(engine: LocalEngine) -> None:
    """The record holds the rows, the action on each row, and the stages of the front and of the engine, in order."""
    (rows, strictest, _), exchange, metrics = predicted(engine, Threads())
    assert (rows, exchange.rows) == (3, 3)
    assert exchange.actions is not None
    assert exchange.action == strictest.label
    assert [stage.name for stage in exchange.stages or ()] == ["decode", "model", "encode"]
    assert {stage: metrics.stages.total(stage)[0] for stage in ("decode", "encode")} == {"decode": 1, "encode": 1}


def test_stages_are_counted_if_nobody_asks_for_them(engine: LocalEngine) -> None:
    """Without a trace the histograms still count each stage once."""
    _, exchange, metrics = predicted(engine, Threads(), noted=False)
    assert exchange.stages is None
    assert [metrics.stages.total(stage)[0] for stage in ("decode", "encode")] == [1, 1]


def test_a_request_without_a_record_is_answered(engine: LocalEngine) -> None:
    """A prediction does not need the record of a request around it."""
    (rows, *_) = asyncio.run(
        Prediction(engine, FrontMetrics({}).stages, idle_limit()).predict(Threads().decode, deadline=1e9)
    )
    assert rows == 3


@pytest.mark.parametrize("slow", [False, True])
def test_slow_bodies_are_decoded_in_a_thread(engine: LocalEngine, slow: bool) -> None:
    """Slow bodies are decoded in a thread, and quick bodies on the event loop."""
    threads = Threads()
    predicted(engine, threads, slow=slow)
    assert (threads.decoded == [threading.main_thread()]) != slow
    assert threads.encoded == [threading.main_thread()]


def test_large_answers_are_encoded_in_a_thread(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer with very many probabilities is encoded beside the event loop."""
    threads = Threads()
    whole = engine.predict

    async def wide(*rows: Any, **named: Any) -> Answer:
        answer = await whole(*rows, **named)
        many = np.zeros((3, LARGE), dtype=np.float32)
        return Answer(**{name: getattr(answer, name) for name in Answer.__slots__} | {"probabilities": many})

    monkeypatch.setattr(engine, "predict", wide)
    predicted(engine, threads)
    assert threads.encoded != [threading.main_thread()]


def test_a_refusal_comes_before_decoding(engine: LocalEngine) -> None:
    """To refuse a flood is cheap: no byte of a body is decoded for which there is no room."""
    threads = Threads()
    engine.refusal = Refused("queue_full", "the queue is full")
    with pytest.raises(Refused, match="full"):
        predicted(engine, threads)
    engine.trouble = "the model is still loading"
    with pytest.raises(Refused, match="loading"):
        predicted(engine, threads)
    assert threads.decoded == []


def test_causes_are_named_only_if_asked_for(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guards name causes if the request wants them, and otherwise do not work for them."""
    seen: list[bool] = []
    pipeline = engine.pipeline

    def watched(batch: Any, *, causes: bool) -> Any:
        seen.append(causes)
        return pipeline(batch, causes=causes)

    monkeypatch.setattr(engine, "pipeline", watched)
    threads = Threads()
    predicted(engine, threads)
    threads.causes = True
    predicted(engine, threads)
    assert seen == [False, True]


def test_a_fault_of_the_model_passes_through(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception of the model ends the request, which is not encoded."""

    async def fails(*_: Any, **__: Any) -> Answer:
        raise ModelFault("KeyError")

    threads = Threads()
    monkeypatch.setattr(engine, "predict", fails)
    with pytest.raises(ModelFault):
        predicted(engine, threads)
    assert threads.encoded == []
