"""What comes before fitting: read the files, build the model, and examine what was understood of both."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch.export import ExportedProgram

from guards.config import Config
from guards.data.calibration_rows import examine_calibration
from guards.data.reference import ReferenceFile, read_reference, read_rows
from guards.loading import load_program, make_model, read_weights
from guards.model import TorchModel
from guards.notices import Notices
from guards.schema import InputSchema
from guards.types import Mistakes, Rows

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A config's model and rows, as they were understood; ``reference`` is the file that said so."""

    config: Config
    reference: ReferenceFile
    schema: InputSchema
    classes: tuple[str, ...]
    model: TorchModel
    program: ExportedProgram | None
    train: Rows
    heldout: Rows


def prepare(config: Config, folder: Path, notices: Notices, step: Callable[[], None] = lambda: None) -> Prepared:
    """Read the reference and build the model; ``folder`` is the config's own, and ``step`` is called three times.

    Raises:
        Mistake: something in the config or a file is wrong.
    """
    together, program, weights = Mistakes(), None, None
    with together:
        reference = read_reference(config, folder, notices)
    step()
    with together:
        if config.model.program is not None:
            program = load_program(folder / config.model.program)
        elif config.model.weights is not None:
            weights = read_weights(folder / config.model.weights)
    together.refuse()
    classes = reference.classes
    model = make_model(
        config,
        reference.schema,
        outputs=None if classes is None else len(classes) or 1,
        folder=folder,
        weights=weights,
        program=program,
    )
    classes = tuple(map(str, range(model.outputs))) if classes is None else classes
    step()
    train, heldout = read_rows(reference, config, folder, classes, notices)
    with together:
        examine_calibration(config, folder, train, heldout, classes, notices)
    together.refuse()
    step()
    return Prepared(config, reference, reference.schema, classes, model, program, train, heldout)
