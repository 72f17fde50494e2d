"""The guard of a config that is tuned."""

from typing import cast

from guards.config.config import Config
from guards.config.plugins import registered
from guards.detectors.base import Detector
from guards.sentences import as_list
from guards.types import Mistake

__all__ = ["kind_of", "place_of"]


def place_of(config: Config, name: str | None) -> int:
    """Find the guard to tune: the named guard, or else the first one in the budget that reads the model's output.

    Raises:
        Mistake: there is no such guard.
    """
    names = [spec.name for spec in config.guards]
    if not config.budgeted:
        raise Mistake(
            "guards: the config has no guard to tune; add one, such as {name: ood, detector: {kind: mahalanobis}}"
        )
    if name is None:
        reading = [index for index in config.budgeted if _detector_class(config, index).needs_output]
        return reading[0] if reading else config.budgeted[0]
    if name not in names:
        raise Mistake(f"--guard {name}: the config has no such guard; there are {as_list(names)}")
    if names.index(name) not in config.budgeted:
        raise Mistake(
            f"--guard {name}: it has a target_error and no share of the budget, at which guards are compared; "
            "name another guard"
        )
    return names.index(name)


def kind_of(config: Config, index: int) -> str:
    """Give the kind of the detector of the guard number ``index``."""
    return str(config.guards[index].detector.model_dump()["kind"])


def _detector_class(config: Config, index: int) -> type[Detector]:
    return cast("type[Detector]", registered("detectors")[kind_of(config, index)])
