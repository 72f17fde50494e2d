"""The top level of the config, which describes one model in one YAML file, and the check of a whole document."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_validator

from guards.calibration.budget import Guarantee
from guards.config.base import Section
from guards.config.explain import ExplainConfig
from guards.config.plugins import OneOf
from guards.config.refusals import refusal
from guards.config.sections import GuardConfig, ModelConfig, PredictionSetsConfig, ReferenceConfig
from guards.config.server import ServerConfig
from guards.config.store import StoreConfig
from guards.input.column import Label, as_label
from guards.input.schema import InputSpec
from guards.memory.base import MemoryGuardParams
from guards.monitors.accuracy import AccuracyParams
from guards.monitors.base import MonitorParams
from guards.monitors.groups.params import GroupsParams
from guards.monitors.streams import StreamParams
from guards.types import Mistake

__all__ = ["Config", "differences", "parse"]


Named = GuardConfig | MemoryGuardParams | MonitorParams


class Config(Section):
    """The config of one model: what a bundle is fitted from, and how a server runs it."""

    name: str = Field(pattern=r"^[a-z0-9-]+$", description="the model's name in every URL")
    version: Label = Field(
        default="1", pattern=r"^[A-Za-z0-9._-]+$", description="the model's version, in answers and in the URLs of v2"
    )
    model: ModelConfig
    input: InputSpec
    reference: ReferenceConfig
    mode: Literal["enforce", "shadow"] = Field(
        default="enforce",
        description="enforce: guards act on rows; shadow: guards judge and are counted, and no answer changes",
    )
    false_alarm_budget: float = Field(
        default=0.01, gt=0, lt=1, description="share of clean rows that all guards together may touch"
    )
    guarantee: Guarantee = Field(
        default="marginal", description="marginal: the budget holds on average; pac: it holds with 95 % confidence"
    )
    coverage: float = Field(
        default=0.9, gt=0, lt=1, description="how often a prediction set or interval holds the true label or value"
    )
    prediction_sets: PredictionSetsConfig = PredictionSetsConfig()
    guards: tuple[GuardConfig, ...] = Field(default=(), description="what judges each row")
    memory_guards: tuple[Annotated[SerializeAsAny[MemoryGuardParams], OneOf("memory_guards")], ...] = Field(
        default=(), description="what judges each row by the rows that its client asked before"
    )
    monitors: tuple[Annotated[SerializeAsAny[MonitorParams], OneOf("monitors")], ...] = Field(
        default=(), description="what watches the stream of answered rows"
    )
    explain: ExplainConfig = ExplainConfig()
    server: ServerConfig = ServerConfig()
    store: StoreConfig = StoreConfig()
    store_reference_rows: bool = Field(
        default=False,
        description="true: the bundle may hold reference rows: a few for the self-test, which otherwise runs on "
        "made-up rows, and those that monitors and explanations need",
    )

    @field_validator("guards", "memory_guards", "monitors")
    @classmethod
    def _unique(cls, value: tuple[Named, ...]) -> tuple[Named, ...]:
        names = [item.name for item in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the name {twice[0]!r} is used twice")
        return value

    @field_validator("monitors")
    @classmethod
    def _same_streams(cls, value: tuple[MonitorParams, ...]) -> tuple[MonitorParams, ...]:
        """Refuse monitors of streams whose parameters differ: all of them share one set of counted series."""
        watching = [item for item in value if isinstance(item, StreamParams)]
        for item in watching[1:]:
            for key in StreamParams.model_fields.keys() - MonitorParams.model_fields.keys() - {"exclude"}:
                ours, first = getattr(item, key), getattr(watching[0], key)
                if ours != first:
                    raise ValueError(
                        f"{item.name!r} has {key}: {ours} and {watching[0].name!r} has {first}: "
                        "give all monitors of streams the same"
                    )
        return value

    @field_validator("monitors")
    @classmethod
    def _accuracy(cls, value: tuple[MonitorParams, ...]) -> tuple[MonitorParams, ...]:
        taken = any(item.name == "accuracy" and not isinstance(item, AccuracyParams) for item in value)
        if taken and not any(isinstance(item, AccuracyParams) for item in value):
            raise ValueError(
                "the name 'accuracy' is reserved for the accuracy monitor, which every config has: rename yours"
            )
        return value

    @property
    def judges(self) -> "tuple[GuardConfig | MemoryGuardParams, ...]":
        """All guards, in the order of an answer's columns: those that judge a row alone, then those with memory."""
        return (*self.guards, *self.memory_guards)

    @property
    def budgeted(self) -> tuple[int, ...]:
        """The places of the guards that share the budget; guards with a `target_error` abstain on purpose."""
        return tuple(place for place, guard in enumerate(self.guards) if guard.target_error is None)

    @property
    def on_purpose(self) -> tuple[int, ...]:
        """The places of the guards with a `target_error`."""
        return tuple(place for place, guard in enumerate(self.guards) if guard.target_error is not None)

    @property
    def all_monitors(self) -> tuple[MonitorParams, ...]:
        """All configured monitors, plus the accuracy monitor, which is added if the config does not name one."""
        if any(isinstance(item, AccuracyParams) for item in self.monitors):
            return self.monitors
        return (*self.monitors, AccuracyParams(name="accuracy"))

    @model_validator(mode="after")
    def _rows_are_stored(self) -> Self:
        keeping = [monitor.name for monitor in self.monitors if monitor.keeps_reference_rows]
        if keeping and not self.store_reference_rows:
            raise ValueError(
                f"the monitor {keeping[0]!r} keeps rows of the reference in the bundle: allow it with "
                "`store_reference_rows: true`, or compare features or logits"
            )
        return self

    @model_validator(mode="after")
    def _rows_to_show(self) -> Self:
        if self.explain.needs_rows and not self.store_reference_rows:
            raise ValueError(f"explain.{self.explain.needs_rows} needs `store_reference_rows: true`")
        return self

    @model_validator(mode="after")
    def _guards_have_names_of_their_own(self) -> Self:
        names = {guard.name for guard in self.guards}
        for place, guard in enumerate(self.memory_guards):
            if guard.name in names:
                raise ValueError(f"memory_guards.{place}.name: a guard has the name {guard.name!r}: choose another")
            if guard.on_evidence == "blur" and self.model.task == "regression":
                raise ValueError(f"memory_guards.{place}.on_evidence: a regression has no probabilities to blur")
        return self

    @model_validator(mode="after")
    def _errors_are_of_labels(self) -> Self:
        if self.model.task == "regression":
            for place, guard in enumerate(self.guards):
                if guard.target_error is not None:
                    raise ValueError(
                        f"guards.{place}.target_error: a regression has no wrong labels: leave target_error out"
                    )
        return self

    @model_validator(mode="after")
    def _sets_suit_the_task(self) -> Self:
        sets, task = self.prediction_sets, self.model.task
        allowed = SET_METHODS[task]
        if sets.method is not None and sets.method not in allowed:
            raise ValueError(
                f"prediction_sets.method: {sets.method} is no method of a {task}: use {' or '.join(allowed)}"
            )
        if sets.by == "class" and task == "regression":
            raise ValueError("prediction_sets.by: a regression has no classes: use an attribute of a groups monitor")
        attributes = [params.attribute for params in self.monitors if isinstance(params, GroupsParams)]
        if sets.by not in {"none", "class", *attributes}:
            raise ValueError(
                f"prediction_sets.by: no groups monitor has the attribute {sets.by!r}: add a groups monitor, or use "
                f"{' or '.join(['none', *(['class'] if task == 'classification' else []), *attributes])}"
            )
        return self

    @field_validator("version", mode="before")
    @classmethod
    def _version(cls, value: object) -> object:
        return as_label(value)


SET_METHODS: Mapping[str, tuple[str, ...]] = {
    "classification": ("least", "aps", "raps"), "regression": ("absolute", "normalised"),
}  # fmt: skip
# The keys of the flattened config that may change at deploy time, without a refit.
DEPLOY_TIME = re.compile(
    r"mode|false_alarm_budget|guarantee|coverage|model\.(device|compile)|(explain|server|store)(\..*)?"
    r"|guards\.\d+\.(action|share|on_error|visible|optional)"
    r"|memory_guards\.\d+\.(action|visible|on_evidence|average_run_length)"
    r"|monitors\.\d+\.(average_run_length|margin|tolerance|principals(\.\d+)?|principal_share)"
)


def differences(fitted: Config, deployed: Config) -> list[str]:
    """Name the keys that differ from the fitted config and that only a refit may change."""
    before, after = _flat(fitted.model_dump(mode="json")), _flat(deployed.model_dump(mode="json"))
    return sorted(
        key
        for key in before.keys() | after.keys()
        if before.get(key) != after.get(key) and not DEPLOY_TIME.fullmatch(key)
    )


def _flat(value: Any, key: str = "") -> dict[str, object]:  # noqa: ANN401 - JSON
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {key: value}
    flat: dict[str, object] = {}
    for name, inner in items:
        flat |= _flat(inner, f"{key}.{name}" if key else str(name))
    return flat


def parse(document: object) -> Config:
    """Validate a parsed YAML document.

    Raises:
        Mistake: keys are wrong; it has one sentence for each of them, which begins with the dotted name of the key.
    """
    if not isinstance(document, Mapping):
        raise Mistake("a config is a mapping of keys, such as `name:` and `model:`")
    try:
        return Config.model_validate(document)
    except ValidationError as invalid:
        raise Mistake(*(refusal(error) for error in invalid.errors(include_url=False))) from None
