"""One YAML file, one model: every key, its default, its bound and its meaning."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from guards.calibration import Guarantee
from guards.detector import Params
from guards.explain_section import ExplainConfig
from guards.model import Precision
from guards.monitor import MonitorParams
from guards.monitors.accuracy import AccuracyParams
from guards.registry import OneOf, broken_plugins
from guards.schema import InputSpec, Label, as_label
from guards.section import Section
from guards.streams import StreamParams
from guards.types import Action, Mistake

__all__ = [
    "Config",
    "GuardConfig",
    "ModelConfig",
    "ReferenceConfig",
    "ServerConfig",
    "StoreConfig",
    "differences",
    "parse",
]


class ModelConfig(Section):
    """The user's model."""

    builder: str | None = Field(
        default=None, pattern=r"^[\w.]+:\w+$", description="package.module:function returning a torch.nn.Module"
    )
    program: str | None = Field(default=None, description="a torch.export archive (.pt2), instead of a builder")
    weights: str | None = Field(default=None, description=".safetensors, or .pt loaded with weights_only=True")
    compile: bool = Field(default=False, description="run the model through torch.compile")
    features: str | None = Field(
        default=None,
        description="dotted name of the submodule whose output is the feature; default: what the last Linear gets",
    )
    task: Literal["classification", "regression"] = "classification"
    classes: tuple[Label, ...] | None = Field(
        default=None, description="labels in logit order; default: those of the reference, sorted"
    )
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    precision: Precision = "float32"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.builder is None) == (self.program is None):
            raise ValueError("give either `builder` or `program`")
        if self.program is not None and self.weights is not None:
            raise ValueError("a program carries its own weights: leave `weights` out")
        if self.task == "regression" and self.classes is not None:
            raise ValueError("regression has no classes: leave `classes` out")
        if self.classes is not None and (len(self.classes) < 2 or len(set(self.classes)) < len(self.classes)):  # noqa: PLR2004
            raise ValueError("`classes` needs at least two different labels")
        return self


class ReferenceConfig(Section):
    """Where the reference rows are; paths are relative to the config."""

    path: str = Field(description="rows the model was trained on: .npz, .csv, .csv.gz or .parquet")
    calibration: str | None = Field(
        default=None, description="rows the model was not trained on; default: split off `path`, with a warning"
    )
    label: str = Field(default="y", description="the label's column, in a table")
    calibration_fraction: float = Field(default=0.5, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)
    missing: tuple[str, ...] = Field(
        default=(), description="strings that mean missing in a CSV, beside the empty field"
    )


class GuardConfig(Section):
    """A detector, and what it may do."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    detector: Annotated[SerializeAsAny[Params], OneOf("detectors")]
    action: Literal["flag", "abstain", "reject"] = "flag"
    share: float = Field(default=1.0, gt=0, allow_inf_nan=False, description="weight of this guard in the budget")
    on_error: Literal["ignore", "reject"] = Field(default="ignore", description="what a crashing guard means for a row")
    visible: bool = Field(default=True, description="false: it is counted and logged, and no answer shows it")

    @property
    def flag_action(self) -> Action:
        """What a flag does."""
        return Action[self.action.upper()]

    @property
    def error_action(self) -> Action:
        """What a crash does."""
        return Action.REJECT if self.on_error == "reject" else Action.ALLOW


class ServerConfig(Section):
    """Bounds of the server."""

    max_batch_rows: int = Field(default=64, ge=1, le=65536)
    max_queue_rows: int = Field(default=1024, ge=1)
    max_rows_per_request: int = Field(default=1024, ge=1)
    max_body_bytes: int = Field(default=16 * 1024 * 1024, ge=1024)
    timeout_seconds: float = Field(default=30, gt=0, le=55, description="BentoML gives up on any request at 60")
    grpc_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="where the Open Inference Protocol is spoken over gRPC; default: nowhere",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_queue_rows < self.max_rows_per_request:
            raise ValueError("max_queue_rows is below max_rows_per_request: such a request could never be queued")
        return self


class StoreConfig(Section):
    """What is kept of answered rows, for labels that come later and for whoever asks what was decided."""

    enabled: bool = Field(default=True, description="false: nothing is kept, and feedback is not taken")
    retention_days: float = Field(
        default=90, gt=0, allow_inf_nan=False, description="how long predictions and decisions are kept"
    )
    inputs: bool = Field(default=False, description="keep the rows themselves, too")
    queue_rows: int = Field(
        default=65536, ge=1, description="rows that may wait to be written; the rest is dropped, and counted"
    )


class Config(Section):
    """Everything that a bundle is fitted from, and a server runs by."""

    name: str = Field(pattern=r"^[a-z0-9-]+$", description="the model's name in every URL")
    version: Label = Field(default="1", pattern=r"^[A-Za-z0-9._-]+$")
    model: ModelConfig
    input: InputSpec
    reference: ReferenceConfig
    mode: Literal["enforce", "shadow"] = Field(
        default="enforce", description="shadow: judge and count, never change an answer"
    )
    false_alarm_budget: float = Field(
        default=0.01, gt=0, lt=1, description="share of clean rows that all guards together may touch"
    )
    guarantee: Guarantee = Field(default="marginal", description="pac: 95 % confident that the true rate is below it")
    coverage: float = Field(default=0.9, gt=0, lt=1, description="of prediction sets and intervals")
    guards: tuple[GuardConfig, ...] = ()
    monitors: tuple[Annotated[SerializeAsAny[MonitorParams], OneOf("monitors")], ...] = ()
    explain: ExplainConfig = ExplainConfig()
    server: ServerConfig = ServerConfig()
    store: StoreConfig = StoreConfig()
    store_reference_rows: bool = Field(
        default=False, description="keep a few calibration rows in the bundle, for the self-test; default: made-up rows"
    )

    @field_validator("guards", "monitors")
    @classmethod
    def _unique(cls, value: tuple[GuardConfig | MonitorParams, ...]) -> tuple[GuardConfig | MonitorParams, ...]:
        names = [item.name for item in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the name {twice[0]!r} is used twice")
        return value

    @field_validator("monitors")
    @classmethod
    def _same_streams(cls, value: tuple[MonitorParams, ...]) -> tuple[MonitorParams, ...]:
        """Streams are counted in one set of series, whatever monitors look at them."""
        watching = [item for item in value if isinstance(item, StreamParams)]
        for item in watching[1:]:
            for key in StreamParams.model_fields.keys() - MonitorParams.model_fields.keys():
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
            raise ValueError("the name 'accuracy' is of the monitor of that kind, which is always there: rename yours")
        return value

    @property
    def all_monitors(self) -> tuple[MonitorParams, ...]:
        """The monitors that are named, and that of accuracy, which is there even where it is not."""
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

    @field_validator("version", mode="before")
    @classmethod
    def _version(cls, value: object) -> object:
        return as_label(value)


# What may change at deploy time, without a refit: keys of the flattened config.
DEPLOY_TIME = re.compile(
    r"mode|false_alarm_budget|guarantee|coverage|model\.(device|compile)|(explain|server|store)(\..*)?"
    r"|guards\.\d+\.(action|share|on_error|visible)|monitors\.\d+\.(average_run_length|tolerance)"
)


def differences(fitted: Config, deployed: Config) -> list[str]:
    """Name the keys in which a config differs from the fitted one and that only a refit may change."""
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
        Mistake: one sentence for each key that is wrong, led by its dotted place.
    """
    if not isinstance(document, Mapping):
        raise Mistake("a config is a mapping of keys, such as `name:` and `model:`")
    try:
        return Config.model_validate(document)
    except ValidationError as invalid:
        raise Mistake(*(_sentence(error) for error in invalid.errors(include_url=False))) from None


def _sentence(error: ErrorDetails) -> str:
    place = ".".join(map(str, error["loc"]))
    message = {"extra_forbidden": "unknown key", "missing": "missing"}.get(error["type"], error["msg"])
    message = message.removeprefix("Value error, ")
    if error["type"] == "union_tag_invalid":
        context = error.get("ctx", {})
        message = f"{context['tag']!r} is not known; there are {context['expected_tags']}"
        group = {"guards": "detectors", "monitors": "monitors", "explain": "explainers"}.get(str(error["loc"][0]))
        reason = broken_plugins(group).get(context["tag"]) if group else None  # type: ignore[arg-type]
        message += f" (installed, but broken: {reason})" if reason else ""
    elif error["type"] == "union_tag_not_found":
        message = "missing its `kind`" if error["loc"][0] != "explain" else "missing its `method`"
    return f"{place}: {message}" if place else message
