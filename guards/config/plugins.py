"""The registry of plug-ins: detectors, guards with memory, monitors and explainers, built-in or of other packages.

All are constructed in one way: the parameters first, then one context object if the kind of plug-in has one, and
nothing else. Everything that a user may set is declared in the plug-in's parameters.

- ``Detector(params)``: a detector has no context. It learns everything from the reference, in ``fit``.
- ``MemoryGuard(params)``: as a detector.
- ``Monitor(params, context)``: ``context`` is a :class:`guards.monitors.base.Context`.
- ``Explainer(params, subject)``: ``subject`` is a :class:`guards.explainers.explained_function.Subject`.

A constructor raises ValueError if the parameters do not fit the context. The checks of :mod:`guards.testing` hold
plug-ins to this.
"""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Literal, cast, get_args

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from guards.config.neighbours import NEIGHBOURS
from guards.detectors.base import Detector, Params
from guards.detectors.confidence import Confidence
from guards.detectors.energy import Energy
from guards.detectors.fdbd import Fdbd
from guards.detectors.gaussian import Gaussian
from guards.detectors.gen import Gen
from guards.detectors.image_quality import ImageQuality
from guards.detectors.knn import Knn
from guards.detectors.mahalanobis import Mahalanobis
from guards.detectors.ranges import Ranges
from guards.detectors.squeeze import Squeeze
from guards.explainers.base import Explainer
from guards.explainers.deep_lift import DeepLift
from guards.explainers.feature_ablation import FeatureAblation
from guards.explainers.gradient_shap import GradientShap
from guards.explainers.integrated_gradients import IntegratedGradients
from guards.explainers.kernel_shap import KernelShap
from guards.explainers.occlusion import Occlusion
from guards.explainers.saliency import Saliency
from guards.explainers.shapley import Shapley
from guards.memory.base import MemoryGuard
from guards.memory.query_similarity import QuerySimilarity
from guards.monitors.accuracy import Accuracy
from guards.monitors.alibi.window_tests import ALIBI
from guards.monitors.base import Monitor
from guards.monitors.bins import Bins
from guards.monitors.groups.monitor import Groups
from guards.monitors.sequential import Sequential
from guards.monitors.suitability.monitor import Suitability

__all__ = ["Group", "OneOf", "broken_plugins", "registered"]

Group = Literal["detectors", "memory_guards", "monitors", "explainers"]
Plugin = type[Detector] | type[MemoryGuard] | type[Monitor] | type[Explainer]

# The built-in classes are listed here, since a bento has the sources without the metadata that names entry points.
BUILT_IN: dict[Group, tuple[Plugin, ...]] = {
    "detectors": (Ranges, ImageQuality, Gaussian, Mahalanobis, Knn, Energy, Fdbd, Gen, Confidence, Squeeze),
    "memory_guards": (QuerySimilarity,),
    "monitors": (Groups, Bins, Sequential, Accuracy, Suitability, *ALIBI),
    "explainers": (
        *(IntegratedGradients, Saliency, DeepLift, GradientShap, Occlusion, FeatureAblation, KernelShap, Shapley),
    ),
}
TAG: dict[Group, str] = {"detectors": "kind", "memory_guards": "kind", "monitors": "kind", "explainers": "method"}
RESERVED: dict[Group, tuple[str, ...]] = {
    "detectors": (), "memory_guards": (), "monitors": (), "explainers": (NEIGHBOURS,),
}  # fmt: skip
"""Names that mean something else in a config, so that no plug-in may have them."""


@cache
def _discover(group: Group) -> tuple[dict[str, Plugin], dict[str, str]]:
    found = {_tag_of(plugin, group): plugin for plugin in BUILT_IN[group]}
    broken: dict[str, str] = {}
    for entry in entry_points(group=f"guardhouse.{group}"):
        try:
            plugin = cast("Plugin", entry.load())
            if entry.name in found:
                raise ValueError("a built-in one has that name")  # noqa: TRY301
            if entry.name in RESERVED[group]:
                raise ValueError("an option of the config has that name")  # noqa: TRY301
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
    """Give the reason why an entry point could not be loaded, by the entry point's name."""
    return _discover(group)[1]


def _tag_of(plugin: Plugin, group: Group) -> str:
    return _tag_in(plugin.Params, group)


def _tag_in(params: type[Params], group: Group) -> str:
    return str(get_args(params.model_fields[TAG[group]].annotation)[0])


@dataclass(frozen=True)
class OneOf:
    """A pydantic type: the parameters of one of the registered classes, or one of ``others``; the tag decides which."""

    group: Group
    others: tuple[type[Params], ...] = ()

    def __get_pydantic_core_schema__(self, source: type[Params], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Build the tagged union of all classes that are registered now."""
        choices: dict[Any, CoreSchema] = {
            name: handler.generate_schema(plugin.Params) for name, plugin in registered(self.group).items()
        }
        choices |= {_tag_in(params, self.group): handler.generate_schema(params) for params in self.others}
        return core_schema.tagged_union_schema(choices, discriminator=TAG[self.group])
