"""A bundle of a model that takes sequences of at least one token each: random numbers are no rows of its own."""

from pathlib import Path

import strange_nets
import toys

from guards.cli.configs import load_config
from guards.fitting import fit
from guards.notices import Notices
from guards.preparation import Prepared, prepare


def write_bundle(folder: Path) -> Prepared:
    """Write config, rows and the fitted ``bundle``, and give what it was fitted from."""
    section = {"builder": "strange_nets:Packed", "classes": list(toys.CLASSES), "device": "cpu"}
    config = load_config(toys.write(folder, "tensor", model=section))
    strange_nets.tokens(folder)
    made = prepare(config, folder, Notices())
    found = fit(
        config,
        schema=made.schema,
        classes=made.classes,
        model=made.model,
        train=made.train,
        heldout=made.heldout,
    )
    found.bundle.save(folder / "bundle")
    return made
