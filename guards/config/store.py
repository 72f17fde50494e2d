"""The ``store`` section of a config: what the server keeps, for how long, and in how many bytes; needs no torch."""

from pydantic import Field

from guards.config.base import Section

__all__ = ["StoreConfig"]


class StoreConfig(Section):
    """What the server keeps of answered rows: for labels that come later, and as a record of decisions."""

    enabled: bool = Field(default=True, description="false: the server keeps nothing, and takes no feedback")
    retention_days: float = Field(
        default=90, gt=0, allow_inf_nan=False, description="days for which predictions and decisions are kept"
    )
    max_bytes: int = Field(
        default=2 * 1024**3,
        ge=32 * 1024**2,
        description="bytes that the store may take; if it needs more, the oldest predictions and decisions are deleted",
    )
    inputs: bool = Field(default=False, description="true: the rows themselves are kept, too")
    queue_rows: int = Field(
        default=65536, ge=1, description="answered rows that may wait to be stored; more rows are dropped and counted"
    )
