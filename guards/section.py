"""What every section of the config is."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Section"]


class Section(BaseModel):
    """A closed section of the config."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
