"""Guards around a PyTorch model. Each guard returns a calibrated p-value for every row.

Each public name is imported when it is first used. So a process that needs only a part of the package, such as the
input schema, does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from guards.version import __version__

if TYPE_CHECKING:
    from guards.actions import Action
    from guards.bundle.bundle import Bundle
    from guards.bundle.fit import fit
    from guards.bundle.fit_rows import fit_rows
    from guards.calibration.budget import Budget
    from guards.calibration.p_values import Calibration
    from guards.calibration.prediction_sets import Classifier, Regressor
    from guards.config.config import Config
    from guards.detectors.base import Detector, Params
    from guards.errors import Mistake
    from guards.explainers.base import Attribution, Explainer
    from guards.input.schema import InputSchema
    from guards.model.torch_model import TorchModel
    from guards.monitors.base import Monitor, MonitorParams, Statistic
    from guards.pipeline import Guard, Pipeline
    from guards.types import Batch, Finding, ModelOutput, Reference, Result, Rows, Verdict

__all__ = [
    "Action",
    "Attribution",
    "Batch",
    "Budget",
    "Bundle",
    "Calibration",
    "Classifier",
    "Config",
    "Detector",
    "Explainer",
    "Finding",
    "Guard",
    "InputSchema",
    "Mistake",
    "ModelOutput",
    "Monitor",
    "MonitorParams",
    "Params",
    "Pipeline",
    "Reference",
    "Regressor",
    "Result",
    "Rows",
    "Statistic",
    "TorchModel",
    "Verdict",
    "__version__",
    "fit",
    "fit_rows",
]

HOMES = {
    "Action": "actions",
    "Attribution": "explainers.base",
    "Batch": "types",
    "Budget": "calibration.budget",
    "Bundle": "bundle.bundle",
    "Calibration": "calibration.p_values",
    "Classifier": "calibration.prediction_sets",
    "Config": "config.config",
    "Detector": "detectors.base",
    "Explainer": "explainers.base",
    "Finding": "types",
    "Guard": "pipeline",
    "InputSchema": "input.schema",
    "Mistake": "errors",
    "ModelOutput": "types",
    "Monitor": "monitors.base",
    "MonitorParams": "monitors.base",
    "Outcome": "types",
    "Params": "detectors.base",
    "Pipeline": "pipeline",
    "Reference": "types",
    "Regressor": "calibration.prediction_sets",
    "Result": "types",
    "Rows": "types",
    "Statistic": "monitors.base",
    "TorchModel": "model.torch_model",
    "Verdict": "types",
    "fit": "bundle.fit",
    "fit_rows": "bundle.fit_rows",
}
"""The module of each name that is imported later."""
OLD_NAMES = {"Outcome": "Result"}
"""Former names that the package still accepts."""


if not TYPE_CHECKING:  # a type checker reads the imports above, and must reject every other name

    def __getattr__(name: str) -> object:
        """Import a public name of the package when it is first used.

        Raises:
            AttributeError: the package has no such name.
        """
        if name not in HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(f"{__name__}.{HOMES[name]}"), OLD_NAMES.get(name, name))
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
