"""The runtime: what a server does before it says that it is ready."""

from pathlib import Path

import strange_nets
import toys

from guards.cli.configs import load_config
from guards.fitting import fit
from guards.notices import Notices
from guards.preparation import prepare
from service.metrics import Metrics
from service.runtime import Runtime, load


def test_a_model_of_sequences_is_warmed_up(tmp_path: Path) -> None:
    """A server is warmed up with rows that the model takes: one that needs a token gets one."""
    section = {"builder": "strange_nets:Packed", "classes": list(toys.CLASSES), "device": "cpu"}
    config = load_config(toys.write(tmp_path, "tensor", model=section))
    strange_nets.tokens(tmp_path)
    made = prepare(config, tmp_path, Notices())
    found = fit(
        config,
        schema=made.schema,
        classes=made.classes,
        model=made.model,
        train=made.train,
        heldout=made.heldout,
    )
    found.bundle.save(tmp_path / "bundle")
    runtime = Runtime(load(tmp_path / "bundle", None, None), Metrics({}, ["integrated_gradients"]))
    assert runtime.batch_rows >= 1
    runtime.monitoring.close()
