"""The sections ``model``, ``reference``, ``guards`` and ``store`` of a config, with every key and its bounds."""

from typing import Annotated, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from guards.config.base import Section
from guards.config.plugins import OneOf
from guards.detectors.base import Params
from guards.input.column import Mark, NamedLabel
from guards.model.outputs import Declared
from guards.model.torch_model import Precision
from guards.types import Action

__all__ = ["GuardConfig", "ModelConfig", "PredictionSetsConfig", "ReferenceConfig"]


class ModelConfig(Section):
    """The user's model."""

    builder: str | None = Field(
        default=None, pattern=r"^[\w.]+:\w+$", description="package.module:function returning a torch.nn.Module"
    )
    program: str | None = Field(
        default=None, description="path of a torch.export archive (.pt2), which replaces the builder"
    )
    weights: str | None = Field(
        default=None, description="path of the weights: .safetensors, or .pt, which is loaded with weights_only=True"
    )
    compile: bool = Field(default=False, description="true: the model runs through torch.compile")
    features: str | None = Field(
        default=None,
        description="dotted name of the submodule whose output is the feature vector; default: the input of the last "
        "Linear",
    )
    early: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="dotted names of the submodules whose pooled outputs are the early features, which some guards "
        "read; default: the first two convolutions, or the first Linear if the model has no convolution",
    )
    task: Literal["classification", "regression"] = Field(
        default="classification", description="whether the model predicts a label or a number"
    )
    classes: tuple[NamedLabel, ...] | None = Field(
        default=None, description="labels in the order of the logits; default: the labels of the reference, sorted"
    )
    output: Declared = Field(
        default="auto",
        description="what the model returns for each class; auto: fit finds out on reference rows, and prints it",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="where the model runs; auto: cuda if there is a GPU",
    )
    precision: Precision = Field(default="float32", description="the type of number in which the model computes")

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
        description="file of rows that the model was trained on: .npz, .csv, .tsv (also .gz, .bz2, .xz, .zst, .zip), "
        ".parquet, a folder of .parquet, or .feather"
    )
    calibration: str | None = Field(
        default=None,
        description="file of rows that the model was not trained on; default: some rows of `path`, with a warning",
    )
    label: str = Field(default="y", description="the column of a table, or the array of an .npz, that holds the label")
    calibration_fraction: float = Field(
        default=0.5, gt=0, lt=1, description="without `calibration`: the share of `path` that becomes calibration rows"
    )
    seed: int = Field(default=0, ge=0, description="seed of the random choices that fit makes")
    missing: tuple[Mark, ...] = Field(
        default=(), description="values of a table that mean missing, in addition to the empty field of a CSV"
    )


class PredictionSetsConfig(Section):
    """How prediction sets, or the intervals of a regression, are made."""

    method: Literal["least", "aps", "raps", "absolute", "normalised"] | None = Field(
        default=None,
        description="classification: least (smallest sets on average), aps or raps (sets that grow with the row's "
        "difficulty, randomised by the row's id); regression: absolute (one width) or normalised (a width for each "
        "row); default: least, absolute",
    )
    by: str = Field(
        default="none",
        pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$",
        description="what is covered apart, at the same rate: none, class (each label), or the attribute of a groups "
        "monitor (each of its levels)",
    )


class GuardConfig(Section):
    """A guard: a detector, and what happens to a row that the detector finds strange."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="the guard's name in answers, metrics and logs")
    detector: Annotated[SerializeAsAny[Params], OneOf("detectors")] = Field(description="what scores each row")
    action: Literal["flag", "abstain", "reject"] = Field(
        default="flag",
        description="what a flagged row gets: flag: an answer with the reason; abstain, reject: no label",
    )
    share: float = Field(
        default=1.0, gt=0, description="the guard's part of the budget, relative to the shares of the other guards"
    )
    on_error: Literal["ignore", "reject"] = Field(
        default="ignore", description="what a row gets if the guard crashes on it; ignore: an answer without this guard"
    )
    visible: bool = Field(default=True, description="false: the guard is counted and logged, and no answer shows it")
    optional: bool = Field(
        default=False,
        description="true: while more rows wait than fit into a batch, rows are answered without this guard; they are "
        "counted, and their answers say so",
    )
    target_error: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="the guard abstains on the rows with the highest scores, so that with 95 % confidence at most this "
        "share of the answered rows has a wrong label; such a guard is not in the budget",
    )

    @model_validator(mode="after")
    def _abstains_on_purpose(self) -> Self:
        if self.target_error is not None and self.action != "abstain":
            raise ValueError(f"target_error: the guard abstains: write `action: abstain`, and not {self.action}")
        if self.optional and (self.on_error == "reject" or self.target_error is not None):
            key = "on_error: reject" if self.on_error == "reject" else "target_error"
            raise ValueError(f"optional: a guard with `{key}` cannot be left out: leave `optional` out")
        if self.target_error is not None and self.share != 1:
            raise ValueError("target_error: the guard has no share of the budget: leave `share` out")
        return self

    @property
    def flag_action(self) -> Action:
        """What a flag does."""
        return Action[self.action.upper()]

    @property
    def error_action(self) -> Action:
        """What a crash does."""
        return Action.REJECT if self.on_error == "reject" else Action.ALLOW
