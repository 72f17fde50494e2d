"""Which detectors, monitors and explainers there are: the built-in ones, and those of installed packages."""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Literal, cast, get_args

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from guards.detector import Detector, Params
from guards.detectors.confidence import Confidence
from guards.detectors.mahalanobis import Mahalanobis
from guards.detectors.ranges import Ranges
from guards.explainer import Explainer
from guards.explainers.deep_lift import DeepLift
from guards.explainers.feature_ablation import FeatureAblation
from guards.explainers.gradient_shap import GradientShap
from guards.explainers.integrated_gradients import IntegratedGradients
from guards.explainers.kernel_shap import KernelShap
from guards.explainers.neighbours import Neighbours
from guards.explainers.occlusion import Occlusion
from guards.explainers.saliency import Saliency
from guards.explainers.shapley import Shapley
from guards.monitor import Monitor
from guards.monitors.accuracy import Accuracy
from guards.monitors.alibi_kinds import ALIBI
from guards.monitors.bins import Bins
from guards.monitors.groups import Groups
from guards.monitors.sequential import Sequential

__all__ = ["OneOf", "broken_plugins", "registered"]

Group = Literal["detectors", "monitors", "explainers"]
Plugin = type[Detector] | type[Monitor] | type[Explainer]

# Listed and not only entry points: a bento carries sources without the metadata that entry points live in.
BUILT_IN: dict[Group, tuple[Plugin, ...]] = {
    "detectors": (Ranges, Mahalanobis, Confidence),
    "monitors": (Groups, Bins, Sequential, Accuracy, *ALIBI),
    "explainers": (
        *(IntegratedGradients, Saliency, DeepLift, GradientShap, Occlusion, FeatureAblation, KernelShap, Shapley),
        Neighbours,
    ),
}
TAG: dict[Group, str] = {"detectors": "kind", "monitors": "kind", "explainers": "method"}


@cache
def _discover(group: Group) -> tuple[dict[str, Plugin], dict[str, str]]:
    found = {_tag_of(plugin, group): plugin for plugin in BUILT_IN[group]}
    broken: dict[str, str] = {}
    for entry in entry_points(group=f"guardhouse.{group}"):
        try:
            plugin = cast("Plugin", entry.load())
            if entry.name in found:
                raise ValueError("a built-in one has that name")  # noqa: TRY301
            if _tag_of(plugin, group) != entry.name:
                raise ValueError(f"its {TAG[group]} is {_tag_of(plugin, group)!r}")  # noqa: TRY301
            found[entry.name] = plugin
        except Exception as failure:  # noqa: BLE001 - a broken plugin must not take down those that work
            broken[entry.name] = f"{entry.value}: {type(failure).__name__}: {failure}"
    return found, broken


def registered(group: Group) -> dict[str, Plugin]:
    """Give the classes of a group by the name that configs use."""
    return _discover(group)[0]


def broken_plugins(group: Group) -> dict[str, str]:
    """Give the entry points that could not be loaded, and why."""
    return _discover(group)[1]


def _tag_of(plugin: Plugin, group: Group) -> str:
    return str(get_args(plugin.Params.model_fields[TAG[group]].annotation)[0])


@dataclass(frozen=True)
class OneOf:
    """A pydantic type: the parameters of any one registered class, told apart by their tag."""

    group: Group

    def __get_pydantic_core_schema__(self, source: type[Params], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Build the tagged union of everything that is registered now."""
        choices: dict[Any, CoreSchema] = {
            name: handler.generate_schema(plugin.Params) for name, plugin in registered(self.group).items()
        }
        return core_schema.tagged_union_schema(choices, discriminator=TAG[self.group])
