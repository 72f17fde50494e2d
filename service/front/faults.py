"""Turns every exception of a request into an error answer, for every transport."""

import logging
import traceback
from collections.abc import Mapping
from http import HTTPStatus

from service.front.control_channel import EngineFaultError
from service.front.protocols.problem import Problem, deadline_passed, fault_of_ours, unavailable
from service.messages.refused import ModelFault, Refused
from service.telemetry.request_record import CURRENT

__all__ = ["log_fault", "problem_of", "refusal"]

LOG = logging.getLogger("guardhouse")
FRAMES = 4
"""How many of the innermost calls of a traceback are logged."""
OTHER_STATUSES: Mapping[str, HTTPStatus] = {
    "no_store": HTTPStatus.NOT_FOUND,
    "no_reset": HTTPStatus.UNPROCESSABLE_ENTITY,
    "explain_rate": HTTPStatus.TOO_MANY_REQUESTS,
    "quota": HTTPStatus.TOO_MANY_REQUESTS,
}
"""The HTTP status of a refusal, by its reason; the status of every other reason is 503."""


def problem_of(fault: Exception, request_id: str) -> Problem:
    """Turn an exception that ended a request into a problem. Faults of the server are logged here and nowhere else.

    A problem forgets where it was raised. Otherwise it would hold the frames that hold the body and the problem itself:
    a circle, which keeps large bodies in memory until the garbage collector runs.
    """
    if isinstance(fault, Problem):
        fault.__traceback__ = fault.__context__ = fault.__cause__ = None
        return fault
    if isinstance(fault, Refused):
        return refusal(fault)
    if isinstance(fault, TimeoutError):
        return deadline_passed()
    log_fault(fault, request_id)
    return fault_of_ours()


def refusal(refused: Refused) -> Problem:
    """Turn a refusal of the engine into a problem that says when to send the request again.

    A server without a store will not have a store later, and a monitor that cannot be reset will not either. So these
    answers name no time, and are not counted as shed.
    """
    status = OTHER_STATUSES.get(refused.reason)
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY):
        return Problem(status, refused.detail)
    problem = unavailable(refused.detail, reason=refused.reason, retry_after=refused.retry_after)
    if status is not None:
        problem.status = status
    return problem


def log_fault(fault: BaseException, request_id: str) -> None:
    """Log where an exception was raised, without the exception's message: the message may quote the payload.

    The line is the request's only line in the log. If the engine raised the exception, the engine's log says where.
    """
    cause = fault.__cause__ or fault
    if isinstance(cause, ModelFault | EngineFaultError):
        kind, frames = cause.kind if isinstance(cause, ModelFault) else str(cause), ""
    else:
        kind, frames = type(cause).__name__, "\n" + "".join(traceback.format_tb(cause.__traceback__)[-FRAMES:])
    exchange = CURRENT.get()
    fields = {} if exchange is None else exchange.fields(int(HTTPStatus.INTERNAL_SERVER_ERROR))
    LOG.error("%s while answering request %s%s", kind, request_id, frames, extra={"fields": fields})
    if exchange is not None:
        exchange.told = True
