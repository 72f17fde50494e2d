"""Work in a process of another interpreter: plain arrays go there and back, failures are named."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from guards.monitors.slow_work import process as work_process
from guards.monitors.slow_work.client import WorkFailedError, WorkProcess, shared
from guards.monitors.slow_work.work import Arrays, Work

CODE = """
import sys
import numpy as np

def back(task, arrays):
    return arrays

def fail(task, arrays):
    raise {"value": ValueError, "key": KeyError}[task["kind"]]("of this row")

def objects(task, arrays):
    return {"all": np.array([object()])}

def path(task, arrays):
    return {"path": np.array(sys.path)}
"""


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkProcess]:
    """Give a process of what looks like another interpreter, whose program lies in a package `guards` made up here."""
    package = tmp_path / "guards"
    folder = package / "monitors" / "slow_work"
    folder.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "made_up.py").write_text(CODE)
    monkeypatch.setattr(work_process, "__file__", shutil.copy(work_process.__file__, folder))
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    other.chmod(0o755)
    made = WorkProcess(str(other))
    yield made
    made.close()


def run(process: WorkProcess, function: str, arrays: Arrays | None = None, **task: object) -> Arrays:
    return process.run(f"guards.made_up:{function}", task, arrays or {})


def test_arrays_come_back_as_they_were(process: WorkProcess) -> None:
    """Types, shapes and bytes are kept: scalars, empty and strided arrays, text, NaN; and they may be written to."""
    arrays: Arrays = {
        "file": np.asarray(3),
        "empty": np.zeros((0, 4), np.float32),
        "strided": np.arange(12.0).reshape(3, 4).T[::2],
        "flags": np.array([True, False]),
        "text": np.array(["a", "été"]),
        "strange": np.array([np.nan, -np.inf, 5e-324]),
    }
    found = run(process, "back", arrays)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        np.testing.assert_array_equal(found[name], array, strict=True)
        assert found[name].flags.writeable


def test_a_failure_is_told_by_its_kind(process: WorkProcess) -> None:
    """An exception of the function, or a result that cannot be sent, fails one piece of work; the process goes on."""
    with pytest.raises(WorkFailedError, match=r"^of this row$") as failure:
        run(process, "fail", kind="value")
    assert failure.value.kind == "ValueError"
    with pytest.raises(WorkFailedError, match=r"^KeyError: 'of this row'$"):
        run(process, "fail", kind="key")
    with pytest.raises(WorkFailedError, match="the array 'all' holds object: work is done on plain arrays alone"):
        run(process, "objects")
    assert process.process is not None
    first = process.process.pid
    with pytest.raises(WorkFailedError, match="the array 'mine' holds object"):
        run(process, "back", {"mine": np.array([object()])})
    with pytest.raises(WorkFailedError, match="not JSON serializable"):
        run(process, "back", odd=object())
    assert run(process, "back") == {}
    assert process.process.pid == first


def test_a_process_that_ended_is_replaced(process: WorkProcess, tmp_path: Path) -> None:
    """Its work fails with the status; the next piece of work starts another process, unless that is no program."""
    run(process, "back")
    assert process.process is not None
    os.kill(process.process.pid, signal.SIGKILL)
    process.process.wait()
    with pytest.raises(WorkFailedError, match=r"the process of .*python ended \(-9\)"):
        run(process, "back")
    assert run(process, "back", {"x": np.ones(2)})["x"].tolist() == [1, 1]
    with pytest.raises(WorkFailedError, match=r"FileNotFoundError: the process of .*none ended \(None\)"):
        run(WorkProcess(str(tmp_path / "none")), "back")


def test_another_interpreter_sees_nothing_of_this_one(process: WorkProcess, tmp_path: Path) -> None:
    """The process loads the program's own `guards`, and neither its folder nor ours is on its import path."""
    path = [Path(str(folder)).resolve() for folder in run(process, "path")["path"]]
    assert tmp_path.resolve() not in path
    assert Path(__file__).parents[3] / "support" not in path


def test_work_names_the_interpreter_that_it_needs() -> None:
    """Without a name it is done here; with one, in the process that all work of that interpreter shares."""
    here = Work("slow_functions:double", {}, {"value": np.asarray(2)})
    there = Work("slow_functions:double", {}, {"value": np.asarray(3)}, sys.executable)
    assert [int(work.run()["twice"]) for work in (here, there)] == [4, 6]
    assert shared(sys.executable).process is not None
    shared(sys.executable).end()
