"""What the engine's process sets before it does anything else."""

import os
import sys
from pathlib import Path

import pytest

from service.lifecycle import engine_process
from service.lifecycle.engine_process import EngineProcess, main


def test_the_device_waits_for_no_other_thread_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of the engine that wants the interpreter gets it after a tenth of a millisecond."""
    before, seen = sys.getswitchinterval(), []

    async def run(_: EngineProcess) -> None:
        seen.append(sys.getswitchinterval())

    monkeypatch.setattr(engine_process, "run_folder", lambda: tmp_path)
    monkeypatch.setattr(EngineProcess, "__init__", lambda *_: None)
    monkeypatch.setattr(EngineProcess, "run", run)
    monkeypatch.setattr(engine_process, "configure", lambda _: None)
    monkeypatch.setattr(engine_process.memory, "keep", lambda: None)
    monkeypatch.setattr(engine_process.gc, "freeze", lambda: None)
    monkeypatch.setattr(os, "_exit", lambda _: None)
    try:
        main()
    finally:
        sys.setswitchinterval(before)
    assert seen == pytest.approx([0.0001])
