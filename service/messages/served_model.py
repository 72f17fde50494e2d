"""What a front knows about the model that the engine serves: names, labels, limits, and the schema of a row."""

from collections.abc import Mapping
from functools import cached_property
from math import prod
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from guards.config.server import ServerConfig
from guards.input.schema import InputSchema
from service.messages.slots import Layout

STORED_ROW, STORED_VALUE = 256, 4
"""The bytes of a stored row's answer, groups and index, and of each of its values."""
__all__ = ["ServedExplain", "ServedExplainer", "ServedGuard", "ServedModel"]


class ServedGuard(BaseModel):
    """One guard: ``acts_on_error`` if a row on which the guard crashes is not allowed; ``causes`` are their names."""

    model_config = ConfigDict(frozen=True)

    name: str
    visible: bool
    acts_on_error: bool
    optional: bool = False
    causes: tuple[str, ...] = ()
    remembers: bool = False
    """Whether it is a guard with memory: no explanation explains its score, because a row alone has none."""


class ServedExplainer(BaseModel):
    """One method that a request may choose and that can explain the model's rows.

    ``parameters`` has the value and the description of each parameter, by name.
    """

    model_config = ConfigDict(frozen=True)

    method: str
    default: bool
    parameters: Mapping[str, Mapping[str, Any]]


class ServedExplain(BaseModel):
    """What the config says about explanations.

    ``allowed`` lists all allowed methods, including methods that cannot explain this model. ``method`` is the method of
    a request that names none. ``max_rows`` is the most rows of one request.
    """

    model_config = ConfigDict(frozen=True)

    method: str
    allowed: tuple[str, ...]
    explainers: tuple[ServedExplainer, ...]
    max_rows: int


class ServedModel(BaseModel):
    """One bundle and its config, without tensors.

    The engine sends the description to every front before it loads the model. So routes, limits and documents are there
    while the model is still loading. ``groups`` are the attributes whose values come with a request, by the names that
    the request gives them. ``monitors`` are the monitors' names.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    bundle: str
    platform: Literal["pytorch_export", "pytorch_module"]
    rows: InputSchema
    classes: tuple[str, ...]
    shadow: bool
    guards: tuple[ServedGuard, ...]
    groups: tuple[str, ...]
    monitors: tuple[str, ...]
    stores_rows: bool
    stores_inputs: bool
    server: ServerConfig
    explain: ServedExplain
    about: Mapping[str, Any] = {}
    """What the console shows of the model beside the other fields: plain data."""

    @cached_property
    def optional_guards(self) -> tuple[tuple[int, str], ...]:
        """The visible guards that may be left out, each with its place among all guards."""
        return tuple((place, guard.name) for place, guard in self.visible_guards if guard.optional)

    @cached_property
    def remembers(self) -> bool:
        """Whether there are guards with memory, to which the fronts say who asks."""
        return any(guard.remembers for guard in self.guards)

    @cached_property
    def visible_guards(self) -> tuple[tuple[int, ServedGuard], ...]:
        """The guards that answers may show, each with its place among all guards."""
        return tuple((place, guard) for place, guard in enumerate(self.guards) if guard.visible)

    @property
    def stored_row_bytes(self) -> int:
        """About how many bytes the store keeps of each answered row, beside its id; 0 without a store."""
        if not self.stores_rows:
            return 0
        return STORED_ROW + (STORED_VALUE * prod(self.rows.shape) if self.stores_inputs else 0)

    @property
    def layout(self) -> Layout:
        """What a slot of shared memory holds."""
        causes = {guard.name: len(guard.causes) for guard in self.guards if guard.causes}
        return Layout(self.rows.shape, len(self.guards), len(self.classes), causes)
