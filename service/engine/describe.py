"""What the fronts know of the model, read from the bundle's manifest and the config: no tensor is loaded."""

from collections.abc import Mapping, Sequence
from typing import Any

from guards.bundle.bundle import Bundle
from guards.config.config import Config
from guards.explanations.explain import methods
from guards.input.schema import InputSchema
from service.engine.about import about
from service.engine.deployment import Deployment, groups_of_requests
from service.messages.served_model import ServedExplain, ServedExplainer, ServedGuard, ServedModel

__all__ = ["describe", "described", "served_model"]


def describe(deployment: Deployment, known_rows: Sequence[Any] = ()) -> ServedModel:
    """Describe the model that the engine is about to serve; ``known_rows`` are rows that the console may show."""
    manifest, config = deployment.manifest, deployment.config
    return served_model(
        config,
        manifest.row_schema,
        manifest.classes,
        causes=manifest.cause_names,
        bundle=manifest.id,
        known_rows=known_rows,
    )


def described(bundle: Bundle) -> ServedModel:
    """Describe a bundle that was loaded or fitted."""
    return served_model(bundle.config, bundle.schema, bundle.classes, causes=bundle.cause_names, bundle=bundle.id)


def served_model(
    config: Config,
    schema: InputSchema,
    classes: Sequence[str],
    *,
    causes: Mapping[str, Sequence[str]],
    bundle: str,
    known_rows: Sequence[Any] = (),
) -> ServedModel:
    """Describe a model; ``causes`` are the names of each guard's causes, ``bundle`` is the bundle's id."""
    return ServedModel(
        name=config.name,
        version=config.version,
        bundle=bundle,
        platform="pytorch_module" if config.model.program is None else "pytorch_export",
        rows=schema,
        classes=tuple(classes),
        shadow=config.mode == "shadow",
        guards=tuple(
            ServedGuard(
                name=guard.name,
                visible=guard.visible,
                acts_on_error=bool(guard.error_action),
                optional=guard.optional,
                causes=tuple(causes.get(guard.name, ())),
            )
            for guard in config.guards
        )
        + tuple(
            ServedGuard(name=guard.name, visible=guard.visible, acts_on_error=False, remembers=True)
            for guard in config.memory_guards
        ),
        groups=tuple(groups_of_requests(config)),
        monitors=tuple(params.name for params in config.all_monitors),
        stores_rows=config.store.enabled,
        stores_inputs=config.store.inputs,
        server=config.server,
        explain=_explain(config, schema),
        about=about(config, known_rows),
    )


def _explain(config: Config, rows: InputSchema) -> ServedExplain:
    section = config.explain
    return ServedExplain(
        method=section.method,
        allowed=tuple(section.allowed),
        explainers=tuple(ServedExplainer.model_validate(each) for each in methods(config, rows)),
        max_rows=section.max_rows,
    )
