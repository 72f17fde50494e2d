"""The checks of guards with memory pass an honest guard, and each check fails a guard that breaks its rule."""

from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from guards.memory.base import MemoryGuard, MemoryGuardParams, Step, Trace
from guards.testing import memory_guard_checks, memory_guard_conformance
from guards.types import Batch, Reference

NEAR = 0.05


class Honest(MemoryGuard):
    """Counts queries near an earlier query of the client; each counts threefold, and others count half."""

    width = 3

    class Params(MemoryGuardParams):
        kind: Literal["honest"] = "honest"

    def __init__(self, params: MemoryGuardParams) -> None:
        super().__init__(params)
        self.register_buffer("scale", torch.tensor(1.0))

    def fit(self, reference: Reference) -> Self:
        self.scale = reference.batch.x.nan_to_num(0.0).std()
        return self

    def calibrate(self, clean: Batch) -> Self:  # noqa: ARG002
        return self

    def encode(self, batch: Batch) -> Tensor:
        rows = batch.x.flatten(1).nan_to_num(0.0, 9.0, -9.0).clamp(-9, 9)
        return rows[:, [0, 1, -2]] / self.scale

    def step(self, code: npt.NDArray[np.float32], trace: Trace) -> Step:
        near = np.linalg.norm(trace.codes - code, axis=1).min(initial=np.inf) < NEAR
        return Step(float(near), np.minimum((trace.state + 1) * (3.0 if near else 0.5), 1e9))

    def evidence(self, state: npt.NDArray[np.float64]) -> float:
        return float(state[0])


class NamedByBatch(Honest):
    def encode(self, batch: Batch) -> Tensor:
        return super().encode(batch) - super().encode(batch).mean(0)


class Wide(Honest):
    width = 15

    def encode(self, batch: Batch) -> Tensor:
        return super().encode(batch).repeat(1, 5)


class Broken(Honest):
    def encode(self, batch: Batch) -> Tensor:
        return batch.x.flatten(1)[:, :3]


class Remembers(Honest):
    asked: ClassVar[list[float]] = []

    def step(self, code: npt.NDArray[np.float32], trace: Trace) -> Step:
        self.asked.append(0.0)
        step = super().step(code, trace)
        return Step(len(self.asked), step.state)


class WritesIntoTheTrace(Honest):
    def step(self, code: npt.NDArray[np.float32], trace: Trace) -> Step:
        step = super().step(code, trace)
        trace.state[:] = step.state
        return step


class CountsOthers(Honest):
    asked: ClassVar[list[float]] = []

    def step(self, code: npt.NDArray[np.float32], trace: Trace) -> Step:
        """Look at the last query of anybody."""
        self.asked.append(float(code[0]))
        step = super().step(code, trace)
        return Step(step.score, step.state + abs(self.asked[-1] - self.asked[max(0, len(self.asked) - 3)]))


class Trusting(Honest):
    def step(self, code: npt.NDArray[np.float32], trace: Trace) -> Step:
        return Step(super().step(code, trace).score, trace.state)


class Suspicious(Honest):
    def evidence(self, state: npt.NDArray[np.float64]) -> float:
        return 1e6 + float(state[0])


class Unforgiving(Honest):
    def step(self, code: npt.NDArray[np.float32], trace: Trace) -> Step:
        step = super().step(code, trace)
        return Step(step.score, np.maximum(step.state, trace.state))


class Endless(Honest):
    def step(self, code: npt.NDArray[np.float32], trace: Trace) -> Step:
        step = super().step(code, trace)
        return Step(step.score, step.state * 1e300 if step.state > 5 else step.state)


class KeepsOutsideBuffers(Honest):
    def fit(self, reference: Reference) -> Self:
        super().fit(reference)
        self.shift = 1.0
        return self

    def encode(self, batch: Batch) -> Tensor:
        return super().encode(batch) + getattr(self, "shift", 0.0)


class Random(Honest):
    def encode(self, batch: Batch) -> Tensor:
        return super().encode(batch) + torch.rand(1)


class Teaches(Honest):
    def encode(self, batch: Batch) -> Tensor:
        self.scale = self.scale * 1.1
        return super().encode(batch)


def checks(guard: type[MemoryGuard]) -> dict[str, Any]:
    return memory_guard_checks(guard, Honest.Params(name="cheat"), kind="image")


@memory_guard_conformance(Honest, Honest.Params(name="honest"))
class TestHonest:
    pass


@pytest.mark.parametrize(
    ("cheat", "broken"),
    [
        (NamedByBatch, "a_code_depends_on_its_row_alone"),
        (Wide, "codes_are_small"),
        (Broken, "codes_are_finite"),
        (Remembers, "a_step_remembers_nothing"),
        (WritesIntoTheTrace, "a_step_remembers_nothing"),
        (CountsOthers, "other_clients_change_nothing"),
        (Trusting, "nearly_the_same_row_is_evidence"),
        (Suspicious, "a_new_client_is_no_suspect"),
        (Suspicious, "clean_rows_are_not_flagged"),
        (Unforgiving, "evidence_fades"),
        (Endless, "nearly_the_same_row_is_evidence"),
        (KeepsOutsideBuffers, "state_survives_a_bundle"),
        (Random, "fit_is_deterministic"),
        (Random, "a_code_depends_on_its_row_alone"),
        (Teaches, "nothing_is_mutated"),
    ],
)
def test_a_cheat_is_found(cheat: type[MemoryGuard], broken: str) -> None:
    """A guard that breaks a rule fails the check of this rule."""
    with pytest.raises(AssertionError):
        checks(cheat)[broken]()
