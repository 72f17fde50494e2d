"""Prepares a fit: reads the files, builds the model, and examines both."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.export import ExportedProgram

from guards.bundle.construction import check_parts
from guards.bundle.load_model import make_model
from guards.bundle.self_test import KNOWN_ROWS, made_up_rows
from guards.config.config import Config
from guards.data.calibration_rows import examine_calibration
from guards.data.input_columns import Reading
from guards.data.reference import ReferenceFile, first_rows, read_reference, read_rows
from guards.examination import examine, refuse_missing
from guards.input.schema import InputSchema
from guards.model.chunked_run import run_model
from guards.model.program import load_program
from guards.model.torch_model import TorchModel
from guards.model.weights import read_weights
from guards.notices import Notices
from guards.sentences import as_list, counted
from guards.types import Mistake, Mistakes, Rows

__all__ = ["Prepared", "prepare"]

NOT_TAKEN = re.compile("model: it does not take a batch")


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A config's model and rows, read as the ``reference`` file suggests."""

    config: Config
    reference: ReferenceFile
    schema: InputSchema
    classes: tuple[str, ...]
    model: TorchModel
    program: ExportedProgram | None
    train: Rows
    heldout: Rows


def prepare(config: Config, folder: Path, notices: Notices, step: Callable[[], None] = lambda: None) -> Prepared:
    """Read the reference once, build the model, examine both, and make every guard and monitor without fitting any.

    ``folder`` is the folder that the config's paths start from. ``step`` is called three times, to show progress.

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
            weights = read_weights(folder / config.model.weights, notices)
    together.refuse()
    classes = reference.classes
    outputs = None if classes is None else len(classes) or 1

    def make(schema: InputSchema, notices: Notices) -> TorchModel:
        return make_model(
            config,
            schema,
            outputs=outputs,
            folder=folder,
            weights=weights,
            program=program,
            example=first_rows(reference, schema),
            notices=notices,
        )

    schema, model = _choose(reference.readings, make, config, notices)
    classes = tuple(map(str, range(model.outputs))) if classes is None else classes
    step()
    schema, train, heldout = read_rows(reference, config, folder, notices, schema=schema, classes=classes)
    with together:
        examine_calibration(config, folder, train, heldout, classes, notices)
    with together:
        refuse_missing(model, schema)
    together.refuse()
    examine(
        model,
        train.x,
        schema=schema,
        classification=config.model.task == "classification",
        declared=config.model.output,
        largest=config.server.max_batch_rows,
        notices=notices,
    )
    _refuse_made_up(config, schema, model, train)
    check_parts(config, schema, classes)
    step()
    return Prepared(config, reference, schema, classes, model, program, train, heldout)


def _choose(
    readings: tuple[Reading, ...],
    make: Callable[[InputSchema, Notices], TorchModel],
    config: Config,
    notices: Notices,
) -> tuple[InputSchema, TorchModel]:
    """Make the model for the reading of `input.columns` that the model takes; if there were two, note the choice.

    Raises:
        Mistake: the model takes neither reading, or takes both and the config does not tell which is meant.
    """
    taken: list[tuple[Reading, InputSchema, TorchModel]] = []
    mistakes: list[Mistake] = []
    for reading in readings:
        try:
            schema = reading.sure()
            taken.append((reading, schema, make(schema, reading.notices)))
        except Mistake as mistake:
            mistakes.append(mistake)
    if not taken:
        notices.add(readings[0].notices)
        raise _with_inputs(mistakes[0], readings[0])
    if len(taken) > 1 and len(taken[1][1].columns) == 1 and _is_one_width(*taken[0][1:]):
        del taken[1]
    if len(taken) > 1 and all(column.kind is not None for column in config.input.columns):
        every, some = (len(schema.columns) for _, schema, _ in taken)
        raise Mistake(
            f"input.columns: the list names {counted(some, 'input')}, the reference has {every}, and the model takes "
            "either: set input.rest to `drop` if the list is all that the model gets, or to `infer` if the other "
            "columns are inputs, too"
        )
    reading, schema, model = taken[0]
    notices.add(reading.notices)
    if reading is not readings[0]:
        notices.note(
            f"the model takes the {len(schema.columns)} columns that input.columns lists and not the rest of the "
            "reference, so the rest is not used; `input.rest: drop` says the same"
        )
    return schema, model


def _refuse_made_up(config: Config, schema: InputSchema, model: TorchModel, train: Rows) -> None:
    """Refuse a model that does not take the made-up rows of the self-test, if the bundle may not keep real rows."""
    if config.store_reference_rows or schema.kind == "tabular":
        return
    try:
        run_model(model, made_up_rows(train.x, schema))
    except Mistake as mistake:
        raise Mistake(
            "store_reference_rows: the self-test of a server needs rows, and the model does not take rows that are "
            f"made up of the reference's values: set it to true, and the bundle keeps {KNOWN_ROWS} calibration rows "
            f"({mistake.sentences[0]})"
        ) from mistake


def _is_one_width(schema: InputSchema, model: TorchModel) -> bool:
    """Tell whether a model takes as many columns as the schema has, and not one column more.

    Such a model may also take a single column: then torch broadcasts that column over the others, as in `x - mean`.
    """
    try:
        with torch.inference_mode():
            model.raw(torch.zeros(2, len(schema.columns) + 1, device=model.device))
    except Exception:  # noqa: BLE001 - whatever the user's module raises
        return True
    return False


def _with_inputs(mistake: Mistake, reading: Reading) -> Mistake:
    """Add the names of the columns to a model's refusal of rows: often one of them is not meant to be an input."""
    if reading.schema is None or reading.schema.kind != "tabular" or not NOT_TAKEN.match(mistake.sentences[0]):
        return mistake
    names = reading.schema.names
    left_out = f", and not the columns {as_list(reading.left_out)}" if reading.left_out else ""
    return Mistake(
        *mistake.sentences,
        f"input.columns: the model was given {len(names)} columns, {as_list(names, 50)}{left_out}: `drop: true` "
        "leaves a column out, and a column that is listed is an input",
    )
