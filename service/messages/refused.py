"""Why a request is not answered: the engine or the front refuses the request, or the model failed on it."""

from typing import Literal

__all__ = ["LOST", "STARTING", "ModelFault", "Reason", "Refused"]

LOST = "the process that predicts has ended and is started again; send the request again in a few seconds"
STARTING = "the model is still loading"

Reason = Literal[
    "queue_full",
    "deadline",
    "overload",
    "loading",
    "draining",
    "explain_queue_full",
    "feedback_queue_full",
    "store_down",
    "explain_rate",
    "quota",
    "engine_lost",
    "memory",
    "connections",
    "no_store",
    "no_reset",
]


class Refused(Exception):  # noqa: N818 - a refusal is not an error of the engine
    """A request is not taken now: ``reason`` says why, ``retry_after`` after how many seconds to try again.

    The engine does not know HTTP or gRPC. The front turns the reason into a status code.
    """

    def __init__(self, reason: Reason, detail: str, *, retry_after: float = 1.0) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.retry_after = reason, detail, retry_after


class ModelFault(Exception):  # noqa: N818 - the interface's name for it
    """The user's model raised an exception on the rows of a request; ``kind`` is the name of the exception's class.

    The message of the exception is not sent to the front, because the message may quote the rows.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(f"the model raised {kind}")
        self.kind = kind
