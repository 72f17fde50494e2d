"""What guards with memory judge, what is remembered of it, and what it does to answers."""

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from guards.memory.base import MemoryGuard, MemoryGuardParams, Step, Trace
from guards.memory.history import LocalHistory
from guards.memory.watch import Judgement, Watch
from guards.types import Action, Batch, ModelOutput, Prediction, Reference, Result, Verdict

LENGTH = 100.0
"""The least average run length that a config may ask for."""
CRASHES, STEP_CRASHES = 666.0, 777.0


class Close(MemoryGuard):
    """Counts how many of a client's queries are close to an earlier one; each counts tenfold, others halve."""

    width = 1

    class Params(MemoryGuardParams):
        kind: Literal["close"] = "close"

    def fit(self, reference: Reference) -> Self:  # noqa: ARG002
        return self

    def calibrate(self, clean: Batch) -> Self:  # noqa: ARG002
        return self

    def encode(self, batch: Batch) -> Tensor:
        if (batch.x == CRASHES).any():
            raise ZeroDivisionError
        return batch.x

    def step(self, code: npt.NDArray[np.float32], trace: Trace) -> Step:
        if code[0] == STEP_CRASHES:
            raise ZeroDivisionError
        near = float(np.abs(trace.codes - code).min(initial=np.inf))
        return Step(-near, (trace.state + 1) * (10.0 if near < 0.5 else 0.5))

    def evidence(self, state: npt.NDArray[np.float64]) -> float:
        return float(state[0])


def watch(*, shadow: bool = False, **params: Any) -> Watch:
    return Watch([Close(Close.Params(name="close", average_run_length=LENGTH, **params))], shadow=shadow)


def rows(*values: float) -> Batch:
    return Batch(torch.tensor(values)[:, None])


def result(batch: Batch, *, action: Action = Action.ALLOW) -> Result:
    """Make the result of a pipeline with one guard, which allows every row."""
    n = len(batch)
    probabilities = torch.tensor([[0.71, 0.2, 0.09]]).repeat(n, 1)
    none = torch.zeros((1, n))
    actions = torch.full((n,), int(action))
    verdict = Verdict(("ood",), none, none + 0.5, none.bool(), none.bool(), actions, {})
    label = torch.zeros(n, dtype=torch.int64)
    return Result(ModelOutput(probabilities.log(), batch.x), Prediction(probabilities, label), verdict)


def ask(watched: Watch, values: Sequence[float], clients: Sequence[str]) -> Judgement:
    """Judge rows, and remember all of them."""
    judgement = watched.judge(rows(*values), clients)
    watched.remember(judgement, 0, len(values))
    return judgement


def evidence(judgement: Judgement) -> list[float]:
    found: list[float] = judgement.guards[0].evidence.tolist()
    return found


def test_a_batch_is_judged_as_its_rows_one_after_another() -> None:
    """However a client's rows are cut into batches, each row is judged by the rows before it."""
    values, clients = [0.0, 0.1, 9.0, 0.2, 50.0, 0.3], ["a", "b", "a", "a", "b", "b"]
    whole = evidence(ask(watch(), values, clients))
    for cut in range(1, len(values)):
        parts = watch()
        first = ask(parts, values[:cut], clients[:cut])
        assert [*evidence(first), *evidence(ask(parts, values[cut:], clients[cut:]))] == whole


def test_nothing_is_remembered_before_the_answer_is_out() -> None:
    """A batch that is judged again, because it is computed again, is judged as the first time."""
    watched = watch()
    assert evidence(watched.judge(rows(0.0, 0.1), "aa")) == evidence(watched.judge(rows(0.0, 0.1), "aa"))
    assert watched.entries == {"close": 0}


def test_only_rows_whose_answers_left_are_remembered() -> None:
    """Of a batch, the rows of a client that has left are forgotten."""
    watched = watch()
    judgement = watched.judge(rows(0.0, 5.0, 9.0), "aba")
    watched.remember(judgement, 0, 1)
    assert watched.entries == {"close": 1}
    assert evidence(watched.judge(rows(0.1), "a")) == [10 * (0.5 + 1)]


def test_a_repeated_row_is_no_evidence() -> None:
    """An exact repeat leaves the evidence as it is; a row that differs in the last bit does not."""
    watched = watch()
    once = evidence(ask(watched, [0.3], "a"))
    assert evidence(ask(watched, [0.3, 0.3], "aa")) == once * 2
    assert evidence(ask(watched, [float(np.nextafter(np.float32(0.3), 1))], "a")) > once
    assert watched.entries == {"close": 2}


def test_clients_are_judged_apart() -> None:
    """A client's evidence does not depend on what others ask."""
    watched = watch()
    ask(watched, [0.0], "a")
    assert evidence(watched.judge(rows(0.1, 0.1), "ba")) == [0.5, 15.0]


def test_flags_join_the_verdict_and_act() -> None:
    """While the evidence stands, rows get the guard's action, unless they got a stricter one, and its p-value."""
    watched = watch(action="abstain")
    batch = rows(0.0, 0.1, 0.2, 0.3)
    for before, after in ((Action.ALLOW, Action.ABSTAIN), (Action.REJECT, Action.REJECT)):
        found = watched.conclude(result(batch, action=before), watched.judge(batch, "aaaa")).verdict
        assert found.guards == ("ood", "close")
        assert found.flagged.tolist() == [[False] * 4, [False, False, True, True]]
        assert found.action.tolist() == [before, before, after, after]
        assert found.p_value[1].tolist() == pytest.approx([1, 1 / 15, 1 / 160, 1 / 1610])
        assert found.violated is not None
        assert found.violated.shape == (2, 4)
    assert watched.conclude(result(batch), watched.judge(batch, "abcd")).verdict.flagged.sum() == 0


def test_blur_touches_only_rows_under_evidence() -> None:
    """Of a batch, the rows of the client under evidence get coarse probabilities, and all others their own bits."""
    watched = watch(on_evidence="blur")
    ask(watched, [0.0, 0.1, 0.2], "aaa")
    batch = rows(0.3, 0.3)
    plain = result(batch)
    found = watched.conclude(plain, watched.judge(batch, "ab")).prediction
    assert found.probabilities is not None
    assert plain.prediction.probabilities is not None
    assert found.probabilities[0].tolist() == pytest.approx([0.75, 0.125, 0.125])
    assert torch.equal(found.probabilities[1], plain.prediction.probabilities[1])
    assert found.label is plain.prediction.label


def test_a_repeat_under_evidence_is_blurred_too() -> None:
    """A client under evidence cannot have the exact probabilities of a row that it asked before."""
    watched = watch(on_evidence="blur")
    ask(watched, [0.0, 0.1, 0.2], "aaa")
    batch = rows(0.0)
    found = watched.conclude(result(batch), watched.judge(batch, "a")).prediction.probabilities
    assert found is not None
    assert found[0].tolist() == pytest.approx([0.75, 0.125, 0.125])


def test_in_shadow_answers_stay_as_they_are() -> None:
    """In shadow mode the verdict shows the flags, and neither the action nor the probabilities change."""
    watched = watch(shadow=True, action="reject", on_evidence="blur")
    batch = rows(0.0, 0.1, 0.2)
    plain = result(batch)
    found = watched.conclude(plain, watched.judge(batch, "aaa"))
    assert found.verdict.flagged[1].tolist() == [False, False, True]
    assert found.verdict.action.tolist() == [Action.ALLOW] * 3
    assert found.prediction is plain.prediction


def test_a_crash_leaves_its_row_alone_unjudged_and_unremembered(caplog: pytest.LogCaptureFixture) -> None:
    """A row that crashes the guard is answered without it, with a NaN; neighbours are judged; the log has no row."""
    watched = watch(action="reject")
    ask(watched, [0.0] * 3, "abc")
    judgement = ask(watched, [0.1, CRASHES, 0.2, 0.3, STEP_CRASHES, 0.4], "abaaca")
    found = watched.conclude(result(rows(*[0.0] * 6)), judgement).verdict
    assert found.p_value[1].isnan().tolist() == [False, True, False, False, True, False]
    assert found.flagged[1].tolist() == [False, False, True, True, False, True]
    assert watched.entries == {"close": 7}
    assert caplog.messages == ["guard close crashed on 2 of 6 rows: ZeroDivisionError"]


def test_a_crash_of_the_comparison_of_clients_leaves_the_batch_unjudged(caplog: pytest.LogCaptureFixture) -> None:
    """If the guard crashes while it compares clients, no row of the batch is judged, and all rows are answered."""

    class Crowded(Close):
        crowd_size = 8

    guard = Crowded(Close.Params(name="close"))
    judgement = ask(Watch([guard]), [0.0, 1.0], "ab")
    assert np.isnan(judgement.guards[0].evidence).all()
    assert not judgement.guards[0].flagged.any()
    assert caplog.messages == ["guard close crashed on 2 of 2 rows: NotImplementedError"]


def test_the_history_is_bounded() -> None:
    """A client's window is bounded, and so are all clients together: who was silent longest is forgotten."""
    guard = Close(Close.Params(name="close", window=8))
    history = LocalHistory(guard, most=20)
    for client in "abc":
        history.write(client, np.arange(12, dtype=np.float32)[:, None], range(12), np.ones(1))
    assert history.entries == 16
    traces = history.read("abc")
    assert [len(traces[client].codes) for client in "abc"] == [0, 8, 8]
    assert traces["c"].codes[:, 0].tolist() == list(range(4, 12))
    assert traces["c"].digests == tuple(range(4, 12))
    assert traces["a"].state.tolist() == [0.0]
