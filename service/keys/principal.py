"""A principal: a named caller, and what it may do."""

from dataclasses import dataclass
from typing import Literal, get_args

from service.quotas.quota import Quotas

__all__ = ["SCOPES", "Principal", "Scope"]

Scope = Literal["predict", "detail", "explain", "feedback", "monitors", "metrics", "console", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True, slots=True)
class Principal:
    """A named caller. Ids, feedback and explanations belong to the principal that sent or asked for them."""

    name: str
    scopes: frozenset[Scope]
    quotas: Quotas | None = None
    """What the principal may use; None if it may use everything."""
