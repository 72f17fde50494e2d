"""The rules that every guard with memory must keep, one check in each method."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from guards.memory.base import WIDEST, MemoryGuard, MemoryGuardParams, Trace
from guards.memory.watch import Judged, Watch
from guards.testing.comparison import equal, require_close, seed_everything
from guards.testing.example import (
    ROWS,
    STRANGE,
    Example,
    Kind,
    Task,
    check_constructor,
    check_params,
    example,
    reloaded,
    require,
    take,
    tensors_of,
    with_strange_row,
)
from guards.types import Batch

__all__ = ["MemoryGuardChecks"]

BOUNDARIES = ((0, 1, 2, 9, ROWS), (0, 64, 128, 192, ROWS))
ATTACK, FEW = 120, 60
"""How many copies of one row an attack asks, and how many rows the checks of order and of repeats ask."""
NOISE = 1e-3
ONE = "one"


@dataclass(frozen=True)
class MemoryGuardChecks:
    """The checks of one guard with memory on one kind of input; every public method is a check."""

    _guard: type[MemoryGuard]
    _params: MemoryGuardParams
    _kind: Kind
    _task: Task
    _fits: list[MemoryGuard] = field(default_factory=list, compare=False)

    def constructor_takes_params(self) -> None:
        """The constructor takes the parameters, and needs nothing else."""
        check_constructor(self._guard, ("params",))

    def fit_and_calibrate_give_the_guard(self) -> None:
        """``fit`` and ``calibrate`` return the guard on which they were called."""
        guard, made = self._guard(self._params), self._example()
        with torch.no_grad():
            require(guard.fit(made.reference) is guard, "fit must return self")
            require(guard.calibrate(made.calibration) is guard, "calibrate must return self")

    def fit_is_deterministic(self) -> None:
        """The same rows and parameters give the same guard, whatever the random state."""
        guard, rows = self._fitted()
        seed_everything(2)
        made = self._example()
        with torch.no_grad():
            again = self._guard(self._params).fit(made.reference).calibrate(made.calibration)
        require_close(_codes(guard, rows), _codes(again, rows), "two fits on one reference give different codes")
        first, second = (_asked(each, rows, [ONE] * ROWS)[-1].evidence for each in (guard, again))
        _require_same(first, second, "two calibrations on the same rows give different evidence")

    def codes_are_small(self) -> None:
        """A code is ``width`` float32 numbers, at most 14, for any number of rows, down to one row."""
        guard, rows = self._fitted()
        require(1 <= guard.width <= WIDEST, f"a code has {guard.width} numbers; it may have 1 to {WIDEST}")
        for count in (len(rows), 2, 1):
            codes = _codes(guard, rows[:count])
            require(codes.shape == (count, guard.width), f"codes of shape {tuple(codes.shape)} for {count} rows")
            require(codes.dtype == torch.float32, f"codes of {codes.dtype}, expected torch.float32")

    def codes_are_finite(self) -> None:
        """NaN, infinity or a huge number in a row gives a finite code, and does not change the codes of other rows."""
        guard, rows = self._fitted()
        others = torch.arange(len(rows)) != 3  # noqa: PLR2004 - any row
        before = _codes(guard, rows)[others]
        for value in STRANGE:
            codes = _codes(guard, with_strange_row(rows, 3, value))
            require(bool(codes.isfinite().all()), f"{value} in a row gives a code that is not finite")
            require_close(before, codes[others], f"{value} in one row changes another row's code")

    def a_code_depends_on_its_row_alone(self) -> None:
        """A row's code depends neither on how the batch is cut, nor on its place, nor on the random state."""
        guard, rows = self._fitted()
        seed_everything(1)
        whole = _codes(guard, rows)
        seed_everything(2)
        require(equal(whole, _codes(guard, rows)), "the same rows have different codes the second time")
        for cuts in BOUNDARIES:
            pieces = [_codes(guard, rows[a:b]) for a, b in pairwise(cuts)]
            require_close(whole, torch.cat(pieces), "a row's code depends on the batch it comes in")
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
        require_close(whole[order], _codes(guard, take(rows, order)), "a row's code depends on its place")

    def model_output_is_declared(self) -> None:
        """A guard without ``needs_output`` gives the same codes before the model has run."""
        if not self._guard.needs_output:
            guard, rows = self._fitted()
            early = replace(rows, output=None, groups={})
            require(equal(_codes(guard, rows), _codes(guard, early)), "the code depends on the model's output")

    def nothing_is_mutated(self) -> None:
        """Neither fitting nor calibrating nor judging changes its arguments, or the guard's buffers."""
        made = self._example()
        before = [tensor.clone() for tensor in tensors_of(made)]
        with torch.no_grad():
            guard = self._guard(self._params).fit(made.reference).calibrate(made.calibration)
        state = {name: tensor.clone() for name, tensor in guard.state_dict().items()}
        _asked(guard, made.rows, [ONE] * ROWS)
        require(all(map(equal, before, tensors_of(made))), "the guard writes into the rows that it is given")
        same = all(equal(tensor, state[name]) for name, tensor in guard.state_dict().items())
        require(same, "judging rows changes the guard's buffers")

    def a_step_remembers_nothing(self) -> None:
        """Weighing the same query twice gives the same score and state, and leaves the trace as it was."""
        guard, rows = self._fitted()
        codes = _codes(guard, rows).numpy()
        trace = Trace(codes[:FEW], tuple(range(FEW)), np.zeros(guard.state_size))
        before = trace.codes.copy(), trace.state.copy()
        first = guard.step(codes[FEW], trace)
        guard.step(codes[FEW + 1], trace)
        second = guard.step(codes[FEW], trace)
        require(first.score == second.score, "a query has another score the second time: step remembers")
        require(np.array_equal(first.state, second.state), "a query gives another state the second time")
        require(first.state.shape == (guard.state_size,), f"a state of shape {first.state.shape}")
        kept = np.array_equal(before[0], trace.codes) and np.array_equal(before[1], trace.state)
        require(kept, "step writes into the trace; it must make a new state")

    def rows_that_are_asked_in_parts_are_judged_alike(self) -> None:
        """The evidence against a client does not depend on how its queries are cut into batches."""
        guard, rows = self._fitted()
        whole = _evidence(_asked(guard, rows, [ONE] * ROWS))
        for cuts in BOUNDARIES:
            pieces = _evidence(_asked(guard, rows, [ONE] * ROWS, cuts))
            _require_same(whole, pieces, "the evidence depends on how the rows are cut into batches")

    def exact_repeats_change_nothing(self) -> None:
        """A client that sends each row again, as after a lost answer, has the same evidence as one that does not."""
        guard, rows = self._fitted()
        once = _evidence(_asked(guard, rows[:FEW], [ONE] * FEW))
        twice = take(rows, torch.arange(FEW).repeat_interleave(2))
        again = _evidence(_asked(guard, twice, [ONE] * 2 * FEW))
        _require_same(once, again[1::2], "an exact repeat of a row changes the evidence against its client")

    def other_clients_change_nothing(self) -> None:
        """The evidence against a client does not depend on other clients, nor on their order."""
        guard, rows = self._fitted()
        alone = _evidence(_asked(guard, rows[:FEW], [ONE] * FEW))
        mixed = take(rows, torch.arange(FEW).repeat_interleave(2))
        for names in ([ONE, "other"] * FEW, [name for i in range(FEW) for name in (ONE, f"other {-i}")]):
            among = _evidence(_asked(guard, mixed, names))
            _require_same(alone, among[::2], "the evidence against a client depends on what other clients ask")

    def a_new_client_is_no_suspect(self) -> None:
        """There is no evidence against a client that has asked nothing, and none that counts after a first query."""
        guard, rows = self._fitted()
        nothing = guard.evidence(np.zeros(guard.state_size))
        require(0 <= nothing < self._params.average_run_length, f"evidence of {nothing} before the first query")
        flagged = _asked(guard, rows, [str(row) for row in range(ROWS)])[-1].flagged
        require(not flagged.any(), f"{int(flagged.sum())} of {ROWS} clients are flagged at their first query")

    def clean_rows_are_not_flagged(self) -> None:
        """A client that asks clean rows, which are unlike, is not flagged."""
        guard, rows = self._fitted()
        flagged = _asked(guard, rows, [ONE] * ROWS)[-1].flagged
        require(not flagged.any(), f"{int(flagged.sum())} of {ROWS} clean rows are flagged")

    def nearly_the_same_row_is_evidence(self) -> None:
        """A client that asks nearly the same row again and again is flagged.

        Clients that each ask nearly this row once are flagged if the guard compares clients, and only then.
        """
        guard, rows = self._fitted()
        attack = self._attack(rows)
        judged = _asked(guard, attack, [ONE] * ATTACK)[-1]
        require(bool(judged.flagged[-1]), f"{ATTACK} queries about nearly the same row are no evidence")
        require(bool(np.isfinite(judged.evidence).all()), "the evidence becomes infinite")
        spread = _asked(guard, attack, [str(row) for row in range(ATTACK)])[-1]
        if guard.crowd_size:
            require(bool(spread.flagged[-1]), f"{ATTACK} clients that each ask nearly the same row are no evidence")
        else:
            require(not spread.flagged.any(), "clients that each ask one row are flagged")

    def evidence_fades(self) -> None:
        """After an attack, clean rows that are unlike lower the evidence against the client."""
        guard, rows = self._fitted()
        both = Batch(torch.cat([self._attack(rows).x, rows.x]), output=None)
        if guard.needs_output:
            return
        evidence = _asked(guard, both, [ONE] * (ATTACK + ROWS))[-1].evidence
        require(evidence[-1] < evidence[ATTACK - 1], "the evidence never falls, whatever the client asks afterwards")

    def state_survives_a_bundle(self) -> None:
        """A new guard with the buffers of a fitted guard gives bitwise the same codes and evidence."""
        guard, rows = self._fitted()
        restored = reloaded(self._guard(self._params), guard)
        known = restored.state_dict().keys() == guard.state_dict().keys()
        require(known, "fit makes buffers that a new instance lacks; register all buffers in the constructor")
        require(equal(_codes(guard, rows), _codes(restored, rows)), "a guard restored from its buffers has other codes")
        attack = self._attack(rows)
        first, second = (_asked(each, attack, [ONE] * ATTACK)[-1].evidence for each in (guard, restored))
        require(np.array_equal(first, second), "a guard restored from its buffers gives other evidence")

    def params_are_closed(self) -> None:
        """The parameters refuse an unknown key, and are the same after a round trip through JSON."""
        check_params(self._params)

    def _example(self) -> Example:
        return example(self._kind, self._task)

    def _fitted(self) -> tuple[MemoryGuard, Batch]:
        """Give a guard that is fitted once for all checks that do not fit it themselves, and the rows."""
        made = self._example()
        if not self._fits:
            with torch.no_grad():
                self._fits.append(self._guard(self._params).fit(made.reference).calibrate(made.calibration))
        return self._fits[0], made.rows

    def _attack(self, rows: Batch) -> Batch:
        """Make copies of one row, with a little noise in each number; a category stays."""
        copies = take(rows, torch.zeros(ATTACK, dtype=torch.int64))
        noise = NOISE * torch.randn(copies.x.shape, generator=torch.Generator().manual_seed(0))
        if self._kind == "tabular":
            noise[:, 3] = 0.0
        return replace(copies, x=copies.x + noise)


@torch.inference_mode()
def _codes(guard: MemoryGuard, rows: Batch) -> Tensor:
    return guard.encode(rows).clone()


@torch.inference_mode()
def _asked(guard: MemoryGuard, rows: Batch, clients: Sequence[str], cuts: Sequence[int] | None = None) -> list[Judged]:
    """Judge rows in batches, each batch twice, and remember each batch once its answers are out."""
    watch, found = Watch([guard]), []
    for start, stop in pairwise(cuts or (0, len(rows))):
        watch.judge(rows[start:stop], clients[start:stop])
        judgement = watch.judge(rows[start:stop], clients[start:stop])
        watch.remember(judgement, 0, stop - start)
        found.append(judgement.guards[0])
    return found


def _evidence(judged: Sequence[Judged]) -> npt.NDArray[np.float64]:
    return np.concatenate([each.evidence for each in judged])


def _require_same(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], sentence: str) -> None:
    """Require equal evidence, but for a query whose code differs by rounding and so falls on the other side of a step.

    Raises:
        AssertionError: more than one evidence in a hundred differs; the message is the ``sentence``.
    """
    require(a.shape == b.shape and bool(np.isfinite(a).all() and np.isfinite(b).all()), "the guard crashes on a row")
    require(bool(np.isclose(a, b, rtol=1e-3).mean() >= 0.99), sentence)  # noqa: PLR2004 - as the docstring says
