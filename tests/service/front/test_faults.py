"""How refusals, problems and failures in a request are answered and logged."""

import logging
from typing import get_args

import pytest

from service.front.control_channel import EngineFaultError
from service.front.faults import problem_of, refusal
from service.front.protocols.problem import unprocessable
from service.messages.refused import ModelFault, Reason, Refused
from service.telemetry.metrics.front import FrontMetrics


@pytest.mark.parametrize("reason", get_args(Reason))
def test_every_reason_is_an_answer_that_is_counted(reason: Reason) -> None:
    """A refusal is 503 with Retry-After, but 429 for too many explanations; a refusal for ever names no time.

    It is 404 without a store, and 422 for a monitor that cannot be reset. Every reason that is counted has a series.
    """
    problem = refusal(Refused(reason, "the sentence", retry_after=6.6))
    assert problem.detail == "the sentence"
    if reason in ("no_store", "no_reset"):
        assert (problem.status, problem.headers, problem.reason) == (404 if reason == "no_store" else 422, {}, None)
        return
    assert problem.status == (429 if reason in ("explain_rate", "quota") else 503)
    assert problem.headers == {"Retry-After": "7"}
    metrics = FrontMetrics({})
    metrics.shed.add(str(problem.reason))
    assert metrics.shed.total(reason) == 1


def test_clients_are_never_told_to_come_again_at_once() -> None:
    """However short the wait, Retry-After is at least a second."""
    assert refusal(Refused("queue_full", "", retry_after=0.01)).headers == {"Retry-After": "1"}


def test_a_problem_and_a_passed_deadline_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A client's mistake and a passed deadline are not logged as faults."""
    problem = unprocessable([((), "wrong")])
    with caplog.at_level(logging.DEBUG):
        assert problem_of(problem, "a") is problem
        assert problem_of(TimeoutError(), "b").status == 504
        assert problem_of(Refused("draining", ""), "c").status == 503
    assert caplog.records == []


@pytest.mark.parametrize("fault", [ModelFault("KeyError"), EngineFaultError("KeyError")])
def test_a_fault_in_the_engine_is_one_line(caplog: pytest.LogCaptureFixture, fault: Exception) -> None:
    """If the engine failed, the front's log names the kind of error and the request; the engine's log has the place."""
    told = problem_of(fault, "the-id")
    assert (told.status, told.detail) == (500, "a fault of the server's; it is logged")
    assert [record.getMessage() for record in caplog.records] == ["KeyError while answering request the-id"]


def test_a_fault_of_the_fronts_says_where(caplog: pytest.LogCaptureFixture) -> None:
    """If the front itself failed, its log has the place, and does not quote the message."""

    def broken() -> None:
        text = "PAY" + "LOAD"
        raise ValueError(text)

    with pytest.raises(ValueError, match="PAYLOAD") as fault:
        broken()
    assert problem_of(fault.value, "the-id").status == 500
    (record,) = caplog.records
    assert record.getMessage().startswith("ValueError while answering request the-id\n")
    assert "in broken" in record.getMessage()
    assert "PAYLOAD" not in record.getMessage()
