"""The sections of a config: every key, its default, its bound and its meaning."""

from typing import Annotated, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from guards.columns import Mark, NamedLabel
from guards.detector import Params
from guards.model import Precision
from guards.model_outputs import Declared
from guards.registry import OneOf
from guards.section import Section
from guards.types import Action

__all__ = ["CorsConfig", "GuardConfig", "ModelConfig", "ReferenceConfig", "ServerConfig", "StoreConfig"]


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
    classes: tuple[NamedLabel, ...] | None = Field(
        default=None, description="labels in logit order; default: those of the reference, sorted"
    )
    output: Declared = Field(
        default="auto", description="what the model returns for each class; auto: found on reference rows, and printed"
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
        if self.task == "regression" and self.output != "auto":
            raise ValueError("a regression returns values: leave `output` out")
        if self.classes is not None and (len(self.classes) < 2 or len(set(self.classes)) < len(self.classes)):  # noqa: PLR2004
            raise ValueError("`classes` needs at least two different labels")
        return self


class ReferenceConfig(Section):
    """Where the reference rows are; paths are relative to the config."""

    path: str = Field(
        description="rows the model was trained on: .npz, .csv, .tsv (also .gz, .bz2, .xz, .zst, .zip), .parquet, a "
        "folder of .parquet, or .feather"
    )
    calibration: str | None = Field(
        default=None, description="rows the model was not trained on; default: split off `path`, with a warning"
    )
    label: str = Field(default="y", description="the label's column in a table, or its array in an .npz")
    calibration_fraction: float = Field(default=0.5, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)
    missing: tuple[Mark, ...] = Field(
        default=(), description="values that mean missing in a table, beside the empty field of a CSV"
    )


class GuardConfig(Section):
    """A detector, and what it may do."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    detector: Annotated[SerializeAsAny[Params], OneOf("detectors")]
    action: Literal["flag", "abstain", "reject"] = "flag"
    share: float = Field(default=1.0, gt=0, description="weight of this guard in the budget")
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


class CorsConfig(Section):
    """Which pages in browsers may ask the server: by default none of another origin."""

    origins: tuple[Annotated[str, Field(pattern=r"^(\*|[a-z][a-z0-9+.-]*://[A-Za-z0-9.\[\]:_-]+)$")], ...] = Field(
        min_length=1, max_length=1000, description='such as "https://app.example"; "*": any'
    )
    credentials: bool = Field(default=False, description="true: pages may send cookies and logins of the browser")
    headers: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")], ...] = Field(
        default=(), max_length=100, description="headers that a page may send beside those that the server reads"
    )
    max_age_seconds: int = Field(default=600, ge=0, le=86400, description="how long a browser may keep the permission")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.credentials and "*" in self.origins:
            raise ValueError("credentials for every origin would let any page act as its visitor: name the origins")
        return self


class ServerConfig(Section):
    """Bounds of the server."""

    max_batch_rows: int = Field(default=64, ge=1, le=65536)
    max_queue_rows: int = Field(default=1024, ge=1)
    max_rows_per_request: int = Field(default=1024, ge=1)
    max_body_bytes: int = Field(default=16 * 1024 * 1024, ge=1024)
    timeout_seconds: float = Field(default=30, gt=0, le=55, description="BentoML gives up on any request at 60")
    keep_alive_seconds: float = Field(
        default=75,
        gt=0,
        le=3600,
        description="how long a connection without a request stays open; longer than the load balancer keeps its own",
    )
    grpc_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="where the Open Inference Protocol is spoken over gRPC; default: nowhere",
    )
    cors: CorsConfig | None = Field(default=None, description="pages of other origins that may ask; default: none")

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
    max_bytes: int = Field(
        default=2 * 1024**3,
        ge=32 * 1024**2,
        description="what the store may take on the disk; the oldest predictions and decisions are deleted for it",
    )
    inputs: bool = Field(default=False, description="keep the rows themselves, too")
    queue_rows: int = Field(
        default=65536, ge=1, description="rows that may wait to be written; the rest is dropped, and counted"
    )
