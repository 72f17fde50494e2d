"""The parameters of the groups monitor, and the grouping of rows that they describe."""

from typing import Literal, Self

from pydantic import Field, model_validator

from guards.input.column import Label, NamedLabel
from guards.monitors.base import Context, MonitorParams
from guards.monitors.clean_rows import Include
from guards.monitors.groupings import Attribute, Crossing, Grouping, Source

__all__ = ["CLASSIFICATION", "GroupsParams", "grouping_of", "refuse_shared_attribute"]

Alarmed = Literal[
    "demographic_parity_difference",
    "equal_opportunity_difference",
    "equalized_odds_difference",
    "accuracy_difference",
    "mean_error_difference",
]
CLASSIFICATION: tuple[Alarmed, ...] = ("demographic_parity_difference", "equalized_odds_difference")


class GroupsParams(MonitorParams):
    """Parameters of the groups monitor."""

    kind: Literal["groups"] = "groups"
    attribute: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$",
        description="the attribute's name, in statistics and series",
    )
    source: Source | None = Field(
        default=None,
        description="where the attribute comes from; either this or `intersect`",
    )
    intersect: tuple[str, ...] = Field(
        default=(), description="names of groups monitors; the groups are the combinations of their levels"
    )
    levels: tuple[NamedLabel, ...] = Field(
        default=(), description="the groups; any other value counts as `other`, and a missing value as `unknown`"
    )
    positive: Label | None = Field(
        default=None, description="the label for selection rate, TPR, FPR and PPV; default: each label in turn"
    )
    tolerance: float | None = Field(
        default=None,
        ge=0,
        description="the difference between groups that raises no alarm: below 1 for rates, in the target's unit for "
        "mean errors; default: no difference raises an alarm",
    )
    alarm: tuple[Alarmed, ...] | None = Field(
        default=None,
        min_length=1,
        description="the statistics that may raise the alarm; together they have an error of 5 %; default: "
        f"{', '.join(CLASSIFICATION)}; for a regression mean_error_difference",
    )
    include: Include = "all"
    minimum: int = Field(default=30, ge=1, description="the fewest answered rows that a group needs to be compared")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.source is None) == (not self.intersect):
            raise ValueError("give either `source` or `intersect`")
        if self.intersect and (self.levels or len(set(self.intersect)) < max(2, len(self.intersect))):
            raise ValueError("`intersect` names two or more different groups monitors, whose levels it takes")
        if self.source is not None and self.source.edges is not None and self.levels:
            raise ValueError("bands name their own levels: leave `levels` out")
        if self.source is not None and self.source.request is not None and not self.levels:
            raise ValueError("groups that come with the request need their `levels` declared")
        if len(set(self.levels)) < len(self.levels):
            raise ValueError("a level is listed twice")
        if self.alarm is not None and len(set(self.alarm)) < len(self.alarm):
            raise ValueError("`alarm` lists a statistic twice")
        return self


def grouping_of(params: GroupsParams, context: Context) -> Grouping:
    """Make the grouping of a groups monitor from the monitor's parameters.

    Raises:
        ValueError: a column, a level or a monitor does not exist.
    """
    if params.source is not None:
        return Attribute(params.name, params.attribute, params.source, params.levels, context.schema)
    named = {p.name: p for p in context.monitors if isinstance(p, GroupsParams) and p.source is not None}
    for name in params.intersect:
        if name not in named:
            raise ValueError(f"intersect: no groups monitor {name!r} with a source; there are {sorted(named)}")
    return Crossing(params.name, [grouping_of(named[name], context) for name in params.intersect])


def refuse_shared_attribute(params: GroupsParams, context: Context) -> None:
    """Refuse two monitors of one attribute: their series would have the same labels.

    Raises:
        ValueError: another monitor has the same attribute.
    """
    for other in context.monitors:
        if isinstance(other, GroupsParams) and other.name != params.name and other.attribute == params.attribute:
            raise ValueError(
                f"attribute: monitor {other.name!r} has the attribute {params.attribute!r}, too: rename one"
            )
