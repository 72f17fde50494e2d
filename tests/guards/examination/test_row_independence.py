"""A model whose rows affect each other, or that keeps a state or draws numbers, is refused with the cause."""

import time
from collections.abc import Callable
from typing import Any

import faulty_models
import pytest
import torch
from torch import Tensor, nn

from guards import InputSchema, Mistake, TorchModel
from guards.examination import examine
from guards.model.program import unflatten
from guards.notices import Notices

ROWS = torch.randn(200, faulty_models.INPUTS, generator=torch.Generator().manual_seed(0))
SCHEMA = InputSchema(kind="tensor", shape=(faulty_models.INPUTS,))


def examined(net: nn.Module, *, outputs: int = 3, rows: Tensor = ROWS, largest: int = 64, **options: Any) -> Notices:
    notices = Notices()
    model = TorchModel(net, example=torch.rand(4, faulty_models.INPUTS), outputs=outputs, notices=notices, **options)
    examine(
        model,
        rows,
        schema=SCHEMA,
        classification=outputs > 1,
        declared="auto",
        largest=largest,
        notices=notices,
    )
    return notices


@pytest.mark.parametrize("name", faulty_models.MIXING)
def test_rows_that_are_mixed(name: str) -> None:
    """A model in which rows depend on their neighbours is refused, with the layer or operation that mixes them."""
    build, cause = faulty_models.MIXING[name]
    with pytest.raises(Mistake, match=rf"a row's answer depends on the rows beside it: .* differs by .*{cause}"):
        examined(build())


@pytest.mark.parametrize("name", faulty_models.CHANGING)
def test_answers_that_change(name: str) -> None:
    """A model that answers otherwise in the next call is refused, with what is drawn or kept."""
    build, cause = faulty_models.CHANGING[name]
    with pytest.raises(Mistake, match=cause):
        examined(build())


@pytest.mark.parametrize("name", faulty_models.SOUND)
def test_a_sound_model_is_taken_without_a_word(name: str) -> None:
    """Batch norm, dropout, recurrent and attention layers are taken as they should be, and large numbers, too."""
    notices = examined(faulty_models.SOUND[name](), largest=256)
    assert notices.notes == notices.warnings == []


@pytest.mark.parametrize("outputs", [3, 2, 1])
def test_a_squeeze_that_loses_the_row(outputs: int) -> None:
    """A squeeze() that drops the axis of a single row is found before a client sends one row."""
    with pytest.raises(Mistake, match=r"it does not take one row alone .*write squeeze\(-1\)"):
        examined(faulty_models.Squeezed(1 if outputs == 2 else outputs), outputs=outputs)


def test_a_hidden_state_for_one_batch_size() -> None:
    """A first hidden state for batches of four is refused, though four rows were taken at first."""
    with pytest.raises(Mistake, match="a hidden state is kept from another batch, or made for a fixed number of rows"):
        examined(faulty_models.FixedHidden())


class Sizes(faulty_models.Net):
    """Fails for batches of the sizes that it is given."""

    def __init__(self, fails: Callable[[int], bool]) -> None:
        super().__init__()
        self.fails = fails

    def forward(self, x: Tensor) -> Tensor:
        if self.fails(len(x)):
            raise ValueError("no such batch")
        return super().forward(x)


@pytest.mark.parametrize(
    ("fails", "rows"),
    [(lambda n: n == 2, 2), (lambda n: n == 64, 64), (lambda n: n == 100, 100), (lambda n: n == 128, 128)],
)
def test_a_batch_that_is_not_taken(fails: Callable[[int], bool], rows: int) -> None:
    """Every size that a server runs is tried, powers of two and the largest; the error names the size and line."""
    with pytest.raises(
        Mistake, match=rf"\({rows}, 6\): ValueError: no such batch, in .*test_row_indep.* forward; .*not {rows}"
    ):
        examined(Sizes(fails), largest=128 if rows == 128 else 100)


def test_a_batch_beyond_the_memory() -> None:
    """If memory does not hold the largest batch, the error names the key that bounds the batch."""

    class Large(faulty_models.Net):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 256:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
            return super().forward(x)

    with pytest.raises(
        Mistake, match=r"server.max_batch_rows: the memory does not hold a batch of 512 rows: lower this limit"
    ):
        examined(Large(), largest=512)


def test_features_that_are_mixed() -> None:
    """Features that depend on the neighbours are refused, even if the answers do not."""

    class Aside(faulty_models.Net):
        def __init__(self) -> None:
            super().__init__()
            self.tapped = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            self.tapped(x - x.mean(0))
            return super().forward(x)

    with pytest.raises(
        Mistake, match=r"a row's features \('tapped'\) depend on the rows beside it: .*mean\(\) runs over"
    ):
        examined(Aside(), feature_layer="tapped")
    assert examined(Aside()).notes == []


def test_values_of_any_scale() -> None:
    """A regression's values are judged by their own scale: a mean of the batch is found among values of millions."""
    assert examined(faulty_models.Ends(lambda y: 1e6 * y, 1), outputs=1).notes == []
    with pytest.raises(Mistake, match=r"differs by .*% of the largest in the value"):
        examined(faulty_models.Ends(lambda y: 1e6 * (y + 0.01 * y.mean(0)), 1), outputs=1)


def test_rounding_is_no_fault() -> None:
    """Numbers beyond float32's range differ between batch sizes: there is a note, and no refusal."""

    class Cancels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.up, self.down = nn.Linear(6, 500), nn.Linear(500, 1), nn.Linear(500, 1)
            with torch.no_grad():
                self.down.weight.copy_(self.up.weight * (1 + 1e-4))

        def forward(self, x: Tensor) -> Tensor:
            hidden = 1e4 * self.body(x)
            return self.up(hidden) - self.down(hidden)

    notices = examined(Cancels(), outputs=1)
    assert notices.warnings == []
    assert len(notices.notes) == 1
    assert notices.notes[0].startswith("model: rounding in float32 changes an answer by up to")


def test_gradients_that_change_the_answer() -> None:
    """A model that answers otherwise with gradients on, as explanations need them, is warned of."""

    class Asks(faulty_models.Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * (1 + torch.is_grad_enabled())

    assert "explanations would explain another function" in examined(Asks()).warnings[0]


def test_a_model_without_gradients() -> None:
    """A model that computes without gradients is taken, and a note says which explanations remain."""

    class Off(faulty_models.Net):
        @torch.no_grad()
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    assert "no gradient of its answers reaches the rows" in examined(Off()).notes[0]


@pytest.mark.parametrize(
    ("build", "cause"),
    [
        (
            lambda: faulty_models.Layered(nn.BatchNorm1d(8)),
            "the program was exported in training mode: call model.eval",
        ),
        (lambda: faulty_models.Layered(nn.Dropout()), "the program was exported in training mode, with its dropout"),
        (
            lambda: faulty_models.Layered(nn.Sequential(nn.BatchNorm1d(8), nn.Dropout())),
            "the program was exported in training mode: call model.eval",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_program_of_a_training_module(build: Callable[[], nn.Module], cause: str) -> None:
    """A program that was exported in training mode is refused with how to export it."""
    dims = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(build().train(), (torch.rand(4, faulty_models.INPUTS),), dynamic_shapes=dims)
    net, last_linear = unflatten(program)
    with pytest.raises(Mistake, match=cause):
        examined(net, last_linear=last_linear)


def test_the_global_random_state_is_left_alone() -> None:
    """An examination draws no number of the caller's."""
    model = TorchModel(faulty_models.CHANGING["noise"][0](), example=ROWS[:4], outputs=3)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    options = {"classification": True, "declared": "auto", "largest": 64, "notices": Notices()}
    with pytest.raises(Mistake, match="draws random numbers"):
        examine(model, ROWS, schema=SCHEMA, **options)
    assert torch.equal(torch.rand(3), expected)


def test_few_rows() -> None:
    """One or two reference rows are enough to examine a model."""
    for rows in (1, 2, 3):
        assert examined(faulty_models.Net(), rows=ROWS[:rows]).notes == []
        with pytest.raises(Mistake, match="no batch_first=True"):
            examined(faulty_models.MIXING["LSTM"][0](), rows=ROWS[:3])


def test_it_is_quick() -> None:
    """A small model is examined in less than a second of CPU, with no more than 40 passes."""
    net, calls = faulty_models.Net(), []
    net.register_forward_pre_hook(lambda _module, args: calls.append(len(args[0])))
    examined(net)
    calls.clear()
    started = time.process_time()
    examined(net)
    assert time.process_time() - started < 1
    assert len(calls) <= 40


class SlightlyMixed(faulty_models.Net):
    """Adds a little of the batch's mean, and runs in float32 alone."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise TypeError("float32 alone")
        return super().forward(x) + 1e-3 * x.mean(0)[:3]


def test_a_deviation_that_may_be_no_rounding() -> None:
    """A small deviation of a model that does not run in float64 is taken, and the note does not call it rounding."""
    (note,) = examined(SlightlyMixed()).notes
    assert note.startswith("model: something changes an answer by up to")
    assert "does forward stop at a tolerance, or compute over the rows?" in note
