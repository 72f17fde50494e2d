"""What a principal may use, as the file of keys says it."""

from typing import Annotated, Literal

from pydantic import Field

from guards.config.base import Section
from service.quotas.buckets import Rate

__all__ = ["Kind", "Quotas"]

Kind = Literal["requests", "rows", "feedback_rows", "stored_bytes", "explain_seconds"]
"""What is counted over time, for all processes of a server, or all replicas."""
Amount = Annotated[float | None, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int | None, Field(ge=1)]
BURST_SECONDS = 2.0
"""How much of a rate a second may be used at once."""
DAY, HOUR = 86_400.0, 3600.0


class Quotas(Section):
    """The bounds of one principal; a bound that is left out does not exist."""

    requests_per_second: Amount = Field(default=None, description="requests that need a key; twice as many at once")
    rows_per_second: Amount = Field(default=None, description="rows to predict; twice as many at once")
    feedback_rows_per_day: Amount = Field(default=None, description="outcomes")
    stored_bytes_per_day: Amount = Field(default=None, description="bytes of predictions that the store keeps")
    explain_seconds_per_hour: Amount = Field(default=None, description="seconds of work on explanations")
    explanations_kept: Count = Field(default=None, description="explanations that are waiting or kept for later")
    connections: Count = Field(
        default=None, description="connections to one front; gRPC connections count while a call is under way"
    )
    body_bytes: Count = Field(default=None, description="bytes of bodies that one front receives at one time")

    def rate(self, kind: Kind) -> Rate | None:
        """Give the rate of what is counted over time; None if it is not bounded."""
        match kind:
            case "requests":
                return _each_second(self.requests_per_second)
            case "rows":
                return _each_second(self.rows_per_second)
            case "feedback_rows":
                return _in(DAY, self.feedback_rows_per_day)
            case "stored_bytes":
                return _in(DAY, self.stored_bytes_per_day)
            case "explain_seconds":
                return _in(HOUR, self.explain_seconds_per_hour)


def _each_second(amount: float | None) -> Rate | None:
    return None if amount is None else Rate(amount, max(1.0, BURST_SECONDS * amount))


def _in(seconds: float, amount: float | None) -> Rate | None:
    return None if amount is None else Rate(amount / seconds, amount)
