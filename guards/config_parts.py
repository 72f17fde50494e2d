"""Makes the guards and monitors of a config before anything is fitted, to find mistakes early."""

from typing import cast

from guards.bundle import context_of
from guards.config import Config
from guards.detector import Detector
from guards.monitor import Monitor
from guards.registry import registered
from guards.schema import InputSchema
from guards.types import Mistake

__all__ = ["check_parts"]


def check_parts(config: Config, schema: InputSchema, classes: tuple[str, ...]) -> None:
    """Make every guard and every monitor without fitting one.

    Raises:
        Mistake: one sentence for each part of the config that cannot be fitted.
    """
    mistakes = []
    context = context_of(config, schema, classes)
    for index, params in enumerate(context.monitors):
        try:
            cast("type[Monitor]", registered("monitors")[params.kind])(params, context)
        except ValueError as unfit:
            mistakes.append(f"monitors.{index}: {unfit}")
    for index, spec in enumerate(config.guards):
        try:
            cast("type[Detector]", registered("detectors")[spec.detector.model_dump()["kind"]])(spec.detector)
        except ValueError as unfit:
            mistakes.append(f"guards.{index}.detector: {unfit}")
    if mistakes:
        raise Mistake(*mistakes)
