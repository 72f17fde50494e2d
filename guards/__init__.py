"""Guards around a PyTorch model: every one of them speaks calibrated p-values."""

from guards.calibration import Budget, Calibration
from guards.conformal import Classifier, Regressor
from guards.detector import Detector, Params
from guards.explainer import Attribution, Explainer
from guards.model import TorchModel
from guards.monitor import Monitor, MonitorParams, Statistic
from guards.pipeline import Guard, Pipeline
from guards.schema import InputSchema
from guards.types import Action, Batch, Finding, Mistake, ModelOutput, Outcome, Reference, Rows, Verdict

# isort: split
# The config's model is built of the plug-ins of installed packages too, and those import from here what is above.
from guards.bundle import Bundle, __version__
from guards.config import Config
from guards.fitting import fit

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
    "Outcome",
    "Params",
    "Pipeline",
    "Reference",
    "Regressor",
    "Rows",
    "Statistic",
    "TorchModel",
    "Verdict",
    "__version__",
    "fit",
]
