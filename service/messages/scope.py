"""The scope of a monitoring report: which rows the report covers."""

from typing import Literal, get_args

__all__ = ["SCOPES", "Scope"]

Scope = Literal["bundle", "version", "lifetime"]
"""The served bundle, every bundle of the served version, or everything that was ever served under the model's name."""
SCOPES: tuple[Scope, ...] = get_args(Scope)
