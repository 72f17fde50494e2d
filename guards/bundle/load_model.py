"""Makes a config's model from a builder and its weights, or from a ``torch.export`` program; never from a pickle."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.export import ExportedProgram

from guards.bundle.construction import make_detector
from guards.config.config import Config
from guards.config.plugins import registered
from guards.detectors.base import Detector
from guards.examination.embeddings import refuse_small_embeddings
from guards.input.imputation import Imputation
from guards.input.schema import InputSchema
from guards.model.builder import call_builder, runs_in_float32
from guards.model.early_features import first_layers
from guards.model.outputs import Meaning
from guards.model.program import layers_of, row_bounds, unflatten
from guards.model.torch_model import TorchModel, resolve_device
from guards.model.weights import load_weights
from guards.notices import Notices
from guards.types import Mistake

__all__ = ["make_model"]


def make_model(  # noqa: PLR0913
    config: Config,
    schema: InputSchema,
    *,
    outputs: int | None,
    folder: Path | None,
    weights: Mapping[str, Tensor] | None,
    program: ExportedProgram | None,
    device: str | None = None,
    example: Tensor | None = None,
    meaning: Meaning = "logits",
    notices: Notices | None = None,
) -> TorchModel:
    """Wrap the config's model for rows of the schema; ``meaning`` says what its outputs are.

    The module is tried on ``example`` (n, ...), or, without an example, on rows that are made up from the schema. For
    images and tensors the schema says little, so that a module may refuse such rows: a sequence of zeros has no length.

    If ``notices`` is given, as by ``fit``, every category of the schema is tried, too.

    Raises:
        Mistake: the model cannot be built, or does not take such rows.
    """
    said = notices or Notices()
    imputation = None
    if example is None:
        example = schema.example_rows(5)[:-1]  # rows without missing values: `fit` tries rows with missing values
    if schema.kind == "tabular":
        imputation = Imputation(
            fill=torch.tensor([column.fill for column in schema.columns]),
            categorical=schema.categorical,
            keep=torch.tensor([column.impute == "none" for column in schema.columns]),
            scale=torch.tensor([1.0 if column.scale is None else column.scale for column in schema.columns]),
        )
    least, most = 1, None
    if program is not None:
        net, last_linear = unflatten(program)
        least, most = row_bounds(program)
        if most is not None:
            said.note(
                f"model.program: the program takes at most {most} rows at once; "
                f"larger batches are run in pieces of {most}"
            )
    else:
        assert config.model.builder is not None  # noqa: S101 - the config has one or the other
        net, last_linear = call_builder(config.model.builder, folder, said), None
        if weights is not None:
            load_weights(net, weights, said)
        elif any(True for _ in net.parameters()):
            said.note("model.weights is not given: the model answers with the weights that its builder gave it")
        net = runs_in_float32(net, example, said)
    if imputation is not None and notices is not None:
        refuse_small_embeddings(net, schema, imputation, least_rows=least, most_rows=most, notices=notices)
    return TorchModel(
        net,
        example=example,
        outputs=outputs,
        feature_layer=config.model.features,
        last_linear=last_linear,
        early=_early_layers(config, program, said),
        imputation=imputation,
        precision=config.model.precision,
        device=resolve_device(device or config.model.device),
        compiled=config.model.compile,
        meaning=meaning,
        least_rows=least,
        most_rows=most,
        views=_views(config),
        notices=notices,
    )


def _views(config: Config) -> Callable[[Tensor], Tensor] | None:
    """Return what makes the views that a guard reads; None if no guard reads views.

    Raises:
        Mistake: two guards read views.
    """
    reading = [
        (place, detector) for place, detector in enumerate(map(make_detector, config.guards)) if detector.reads_views
    ]
    if len(reading) > 1:
        place = reading[1][0]
        raise Mistake(
            f"guards.{place}: {config.guards[reading[0][0]].name} reads views already: leave one of the two out"
        )
    return reading[0][1].views if reading else None


def _early_layers(config: Config, program: ExportedProgram | None, notices: Notices) -> Sequence[str] | bool:
    """Say which early layers to tap: none if no guard reads them, and true if they are to be found in the module."""
    detectors = registered("detectors")
    kinds = [spec.detector.model_dump()["kind"] for spec in config.guards]
    if not any(cast("type[Detector]", detectors[kind]).reads_early for kind in kinds):
        if config.model.early is not None:
            notices.note("model.early is given, and no guard reads early features")
        return False
    if config.model.early is not None:
        return config.model.early
    return True if program is None else first_layers(layers_of(program))
