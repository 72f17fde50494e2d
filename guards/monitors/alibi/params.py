"""The parameters of alibi-detect's tests in a config."""

import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from guards.monitors.alibi.interpreter import alibi_python
from guards.monitors.base import MonitorParams
from guards.monitors.clean_rows import Include
from guards.monitors.excluded_streams import EXCLUDE

__all__ = [
    "AlibiParams",
    "Chi2Params",
    "ClassifierParams",
    "ContextMmdParams",
    "CvmParams",
    "KsParams",
    "LsddParams",
    "MmdParams",
    "On",
    "SpotTheDiffParams",
    "TabularParams",
    "WindowParams",
]

On = Annotated[
    Literal["features", "logits", "inputs"],
    Field(description="what is compared; inputs: the bundle then holds reference rows, and needs store_reference_rows"),
]
MOST_PERMUTATIONS = 10_000
HIGHEST_LEVEL = 0.5


class AlibiParams(MonitorParams):
    """The parameters that all tests have."""

    on: str
    reference_rows: int = Field(
        default=500,
        ge=50,
        le=10_000,
        description="how many calibration rows are drawn to compare with",
    )
    hold: int = Field(default=3, ge=1, description="how many windows without drift end an alarm")
    seed: int = Field(default=0, ge=0, description="seed of everything that the test draws")
    exclude: tuple[str, ...] = EXCLUDE
    include: Include = "all"
    compares: ClassVar[Literal["rows", "numbers", "categories", "columns"]] = "rows"
    """Whether whole rows are compared, or single columns: numeric columns, categorical columns, or both."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that are passed to the test."""
        return {}

    @property
    def keeps_reference_rows(self) -> bool:
        """Whether inputs are compared: these are rows, and features or logits are not."""
        return self.on == "inputs"

    @model_validator(mode="after")
    def _can_run(self) -> Self:
        alibi_python()
        return self


class WindowParams(AlibiParams):
    """A test of the last ``window`` rows at every ``every``-th row."""

    window: int = Field(default=500, ge=20, le=10_000, description="rows of one test")
    every: int | None = Field(default=None, ge=1, description="rows from one test to the next; default: window")
    average_run_length: int = Field(
        default=100_000,
        ge=1,
        description="rows from one false alarm to the next; the level of a test is every / average_run_length",
    )

    @property
    def stride(self) -> int:
        """The number of rows from a test to the next."""
        return self.every or self.window

    @property
    def level(self) -> float:
        """The level of one test: the chance of a false alarm within h rows is at most h / average_run_length."""
        return self.stride / self.average_run_length

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.level > HIGHEST_LEVEL:
            raise ValueError(
                f"average_run_length: {self.average_run_length} rows are too few for a test every {self.stride} rows: "
                f"at least {math.ceil(self.stride / HIGHEST_LEVEL)}"
            )
        return self


class _PermutationParams(WindowParams):
    on: On = "features"
    permutations: int | None = Field(
        default=None,
        ge=19,
        le=MOST_PERMUTATIONS,
        description="permutations of one test; default: twice as many as the level of a test needs",
    )

    @property
    def settings(self) -> dict[str, Any]:
        """The number of permutations: a p-value is a multiple of 1 / (1 + permutations)."""
        return {"permutations": self.permutations or math.ceil(2 / self.level) - 1}

    @model_validator(mode="after")
    def _enough(self) -> Self:
        drawn = self.settings["permutations"]
        if 1 / (1 + drawn) > self.level:
            raise ValueError(
                f"permutations: {drawn} cannot give a p-value of {self.level:g}, the level of a test; "
                f"at least {math.ceil(1 / self.level) - 1}"
            )
        if drawn > MOST_PERMUTATIONS:
            raise ValueError(
                f"average_run_length: a level of {self.level:g} would take {drawn} permutations a window; "
                "raise `every`, or lower average_run_length"
            )
        return self


class _TrainedParams(WindowParams):
    on: On = "features"
    train_size: float = Field(
        default=0.5,
        gt=0.1,
        lt=0.9,
        description="share of the rows that the classifier is trained on; the rest is for the test",
    )
    epochs: int = Field(default=10, ge=1, le=1000, description="epochs of the classifier's training")
    learning_rate: float = Field(default=0.005, gt=0, le=1, description="step size of the classifier's training")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the classifier and of its training."""
        return self.model_dump(include={"train_size", "epochs", "learning_rate", "hidden", "l1"})


class MmdParams(_PermutationParams):
    """Maximum mean discrepancy."""

    kind: Literal["alibi_mmd"] = "alibi_mmd"


class LsddParams(_PermutationParams):
    """Least-squares density difference."""

    kind: Literal["alibi_lsdd"] = "alibi_lsdd"


class ContextColumn(BaseModel):
    """A column of the input as context."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    column: str = Field(description="the column's name")


class ContextMmdParams(_PermutationParams):
    """Maximum mean discrepancy given a context, whose own drift is no alarm."""

    kind: Literal["alibi_context_mmd"] = "alibi_context_mmd"
    context: Literal["prediction"] | ContextColumn = Field(
        default="prediction",
        description="prediction: the predicted probabilities, or the predicted value; or an input column",
    )
    reference_rows: int = Field(
        default=300,
        ge=50,
        le=2000,
        description="how many calibration rows are drawn to compare with; time grows with the cube of the number",
    )
    window: int = Field(default=250, ge=20, le=2000, description="rows of one test")

    @property
    def keeps_reference_rows(self) -> bool:
        """Whether inputs are compared, or a column is the context: both are parts of rows."""
        return self.on == "inputs" or self.context != "prediction"


class ClassifierParams(_TrainedParams):
    """A classifier that tries to tell the window from the reference."""

    kind: Literal["alibi_classifier"] = "alibi_classifier"
    hidden: int = Field(default=32, ge=1, le=1024, description="units of the classifier's hidden layer")


class SpotTheDiffParams(_TrainedParams):
    """A classifier with one test location, which says where the difference lies."""

    kind: Literal["alibi_spot_the_diff"] = "alibi_spot_the_diff"
    learning_rate: float = Field(default=0.05, gt=0, le=1, description="step size of the classifier's training")
    l1: float = Field(
        default=0.01,
        ge=0,
        description="L1 penalty: a larger number keeps the difference to fewer columns",
    )


class KsParams(WindowParams):
    """Kolmogorov-Smirnov by column, Bonferroni-corrected."""

    kind: Literal["alibi_ks"] = "alibi_ks"
    on: On = "features"
    compares: ClassVar[Literal["rows", "numbers", "categories", "columns"]] = "numbers"


class CvmParams(WindowParams):
    """Cramer-von Mises by column, Bonferroni-corrected."""

    kind: Literal["alibi_cvm"] = "alibi_cvm"
    on: On = "features"
    compares: ClassVar[Literal["rows", "numbers", "categories", "columns"]] = "numbers"


class TabularParams(WindowParams):
    """Kolmogorov-Smirnov for numbers, chi-squared for categories and for what is missing, Bonferroni-corrected."""

    kind: Literal["alibi_tabular"] = "alibi_tabular"
    on: Literal["inputs"] = Field(default="inputs", description="what is compared")
    compares: ClassVar[Literal["rows", "numbers", "categories", "columns"]] = "columns"


class Chi2Params(WindowParams):
    """Chi-squared test of the predicted class, or of the categorical columns."""

    kind: Literal["alibi_chi2"] = "alibi_chi2"
    on: Literal["prediction", "inputs"] = Field(
        default="prediction", description="what is compared: the predicted class, or the categorical columns"
    )
    compares: ClassVar[Literal["rows", "numbers", "categories", "columns"]] = "categories"
