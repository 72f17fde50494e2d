"""What comes before fitting: read the files, build the model, and examine what was understood of both."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch.export import ExportedProgram

from guards.config import Config
from guards.data.reference import read_reference, read_rows
from guards.examination import examine, refuse_missing
from guards.loading import make_model
from guards.model import TorchModel
from guards.notices import Notices
from guards.program import load_program
from guards.schema import InputSchema
from guards.types import Rows
from guards.weights import read_weights

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A config's model and rows, as they were understood."""

    config: Config
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
    reference = read_reference(config, folder, notices)
    step()
    classes = reference.classes
    program = load_program(folder / config.model.program) if config.model.program is not None else None
    model = make_model(
        config,
        reference.schema,
        outputs=None if classes is None else len(classes) or 1,
        folder=folder,
        weights=read_weights(folder / config.model.weights, notices) if config.model.weights is not None else None,
        program=program,
        notices=notices,
    )
    classes = tuple(map(str, range(model.outputs))) if classes is None else classes
    step()
    train, heldout = read_rows(reference, config, folder, classes, notices)
    refuse_missing(model, reference.schema)
    examine(
        model,
        train.x,
        schema=reference.schema,
        classification=config.model.task == "classification",
        declared=config.model.output,
        largest=config.server.max_batch_rows,
        notices=notices,
    )
    step()
    return Prepared(config, reference.schema, classes, model, program, train, heldout)
