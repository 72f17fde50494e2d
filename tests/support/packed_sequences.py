"""Fits a bundle of a model whose sequences need at least one token, so that it does not take random numbers."""

from pathlib import Path

import faulty_models
import tiny_models

from guards.bundle.fit_rows import fit_rows
from guards.bundle.preparation import Prepared, prepare
from guards.config.load import load_config
from guards.notices import Notices


def write_bundle(folder: Path) -> Prepared:
    """Write the config, the rows and the fitted ``bundle``, and give what the bundle was fitted from."""
    section = {"builder": "faulty_models:Packed", "classes": list(tiny_models.CLASSES), "device": "cpu"}
    config = load_config(tiny_models.write(folder, "tensor", model=section))
    faulty_models.tokens(folder)
    made = prepare(config, folder, Notices())
    found = fit_rows(
        config,
        schema=made.schema,
        classes=made.classes,
        model=made.model,
        train=made.train,
        heldout=made.heldout,
    )
    found.bundle.save(folder / "bundle")
    return made
