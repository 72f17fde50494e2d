"""Models whose answer to a row depends on the rows beside it, on earlier calls, or on chance: the cause is named.

These are the most frequent reports about batching gateways. The model is right in the notebook, in which the whole test
set is one batch. Behind a server its answers are wrong, or differ at every call.
"""

import pytest
import torch
from newcomers import Newcomer, numbers, tensors, train_input

TABLE = numbers("length", "mass", "age")
SEQUENCE = tensors(6, 4)
TOGETHER = r"depend|other rows|neighbou?r|alone|beside|single row|one row|another batch|different batch"
CHANCE = r"dropout|random|chance|twice|two answers|different answers|another answer"
KEPT = r"state|between calls|twice|calls before|earlier call"

NORM = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), {norm}, nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.body(x))
{more}

def build():
    return Net()
"""
FORWARD = """
import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(3, 8), nn.Linear(8, 2)
        self.calls = 0
        self.last = None

    def forward(self, x):
{forward}


def build():
    return Net()
"""
SEQUENCES = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = {layer}
        self.head = nn.Linear({width}, 3)

    def forward(self, x):
        {forward}
        return self.head(out[:, -1])


def build():
    return Net()
"""
STATEFUL = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 8, batch_first=True)
        self.head = nn.Linear(8, 3)
        self.hidden = None

    def forward(self, x):
        if self.hidden is not None and self.hidden[0].shape[1] != len(x):
            self.hidden = None
        out, hidden = self.rnn(x, self.hidden)
        self.hidden = tuple(h.detach() for h in hidden)
        return self.head(out[:, -1])


def build():
    return Net()
"""


def table(newcomer: Newcomer, source: str) -> None:
    """Write a table and a net for it, whose labels are what the net says of a whole file as one batch."""
    net = newcomer.build(source, train_input(TABLE))
    torch.manual_seed(0)
    newcomer.tables(net, TABLE)
    newcomer.config(model={"weights": newcomer.weights(net)})


def sequences(newcomer: Newcomer, source: str) -> None:
    """Write sequences and a net for them."""
    net = newcomer.build(source, SEQUENCE(500, 1))
    newcomer.arrays(net, SEQUENCE)
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "tensor", "shape": [6, 4]})


def test_batch_norm_without_running_statistics_is_refused(newcomer: Newcomer) -> None:
    """BatchNorm with track_running_stats=False takes the mean of the batch, whatever the mode: it is named."""
    table(newcomer, NORM.format(norm="nn.BatchNorm1d(8, track_running_stats=False)", more=""))
    newcomer.expect(refused=r"batch ?norm|running.stat")


def test_batch_norm_that_stays_in_training_mode_is_refused(newcomer: Newcomer) -> None:
    """A module that overrides train() so that BatchNorm keeps training is refused, and the cause is named."""
    stays = "\n    def train(self, mode=True):\n        return super().train(True)\n"
    table(newcomer, NORM.format(norm="nn.BatchNorm1d(8)", more=stays))
    newcomer.expect(refused=r"batch ?norm|training.mode|\beval\b")


def test_batch_norm_function_in_training_mode_is_refused(newcomer: Newcomer) -> None:
    """F.batch_norm(training=True) hangs on the batch, and no module shows it: the fault is named."""
    table(
        newcomer,
        FORWARD.format(
            forward="        x = F.batch_norm(self.body(x), None, None, training=True)\n"
            "        return self.head(torch.relu(x))"
        ),
    )
    newcomer.expect(refused=TOGETHER)


def test_dropout_that_is_always_on_is_refused(newcomer: Newcomer) -> None:
    """F.dropout(x, 0.5) is on in eval mode, too: the answers to one row differ, and the refusal says so."""
    table(
        newcomer,
        FORWARD.format(forward="        x = F.dropout(torch.relu(self.body(x)), 0.5)\n        return self.head(x)"),
    )
    newcomer.expect(refused=CHANCE)


def test_sampling_of_a_latent_is_refused(newcomer: Newcomer) -> None:
    """A variational net that samples in eval mode answers differently at every call, and the refusal says so."""
    table(
        newcomer,
        FORWARD.format(
            forward="        x = torch.tanh(self.body(x))\n        return self.head(x + torch.randn_like(x))"
        ),
    )
    newcomer.expect(refused=CHANCE)


def test_scaling_by_the_batch_is_refused(newcomer: Newcomer) -> None:
    """A forward that standardises its batch gives one row alone NaN: found at fit, and not at the first request."""
    table(
        newcomer,
        FORWARD.format(
            forward="        x = (x - x.mean(0)) / x.std(0)\n        return self.head(torch.tanh(self.body(x)))"
        ),
    )
    newcomer.expect(refused=TOGETHER)


def test_subtracting_the_maximum_of_the_batch_is_refused(newcomer: Newcomer) -> None:
    """A gate by x.max() instead of x.max(dim=1) lets one extreme row change the others, and the refusal says so."""
    table(
        newcomer,
        FORWARD.format(forward="        x = self.body(x)\n        return self.head(torch.tanh(x - x.max()))"),
    )
    newcomer.expect(refused=TOGETHER)


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_recurrent_net_without_batch_first_is_refused(newcomer: Newcomer, kind: str) -> None:
    """Rows that an LSTM reads as time steps change the rows after them: `batch_first` is named."""
    sequences(newcomer, SEQUENCES.format(layer=f"nn.{kind}(4, 8)", width=8, forward="out, _ = self.mix(x)"))
    newcomer.expect(refused="batch_first")


def test_gru_whose_last_state_is_of_the_wrong_axis_is_refused(newcomer: Newcomer) -> None:
    """A GRU without batch_first whose h_n has one entry a time step is refused, and `batch_first` is named."""
    source = SEQUENCES.format(layer="nn.GRU(4, 8)", width=8, forward="_, out = self.mix(x)")
    net = newcomer.build(source.replace("nn.GRU(4, 8)", "nn.GRU(4, 8, batch_first=True)").replace("[:, -1]", "[-1]"))
    newcomer.arrays(net, SEQUENCE)
    newcomer.build(source.replace("[:, -1]", "[-1]"))
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "tensor", "shape": [6, 4]})
    newcomer.expect(refused="batch_first")


def test_transformer_without_batch_first_is_refused(newcomer: Newcomer) -> None:
    """A transformer layer whose rows attend to each other is refused, and `batch_first` is named."""
    layer = "nn.TransformerEncoderLayer(4, 2, 16)"
    sequences(newcomer, SEQUENCES.format(layer=layer, width=4, forward="out = self.mix(x)"))
    newcomer.expect(refused="batch_first")


def test_attention_without_batch_first_is_refused(newcomer: Newcomer) -> None:
    """nn.MultiheadAttention whose rows attend to each other is refused, and `batch_first` is named."""
    layer = "nn.MultiheadAttention(4, 2)"
    sequences(
        newcomer, SEQUENCES.format(layer=layer, width=4, forward="out, _ = self.mix(x, x, x, need_weights=False)")
    )
    newcomer.expect(refused="batch_first")


def test_softmax_over_the_batch_is_refused(newcomer: Newcomer) -> None:
    """Attention whose softmax runs over dim=0, the rows, is refused: other rows change the answer."""
    sequences(
        newcomer,
        SEQUENCES.format(layer="nn.Linear(4, 4)", width=4, forward="out = torch.softmax(self.mix(x) * 3, dim=0) * x"),
    )
    newcomer.expect(refused=TOGETHER)


def test_state_that_is_kept_between_calls_is_refused(newcomer: Newcomer) -> None:
    """An LSTM that keeps its hidden state answers by the calls before: a state between calls is named."""
    sequences(newcomer, STATEFUL)
    newcomer.expect(refused=KEPT)


def test_running_mean_that_every_call_moves_is_refused(newcomer: Newcomer) -> None:
    """A buffer that every forward pass updates (an "online scaler") makes answers hang on the calls before."""
    table(
        newcomer,
        FORWARD.format(
            forward="        mean = x.mean(0) if self.last is None else 0.9 * self.last + 0.1 * x.mean(0)\n"
            "        self.last = mean.detach()\n"
            "        return self.head(torch.tanh(self.body(x - mean)))"
        ),
    )
    newcomer.expect(refused=f"{KEPT}|{TOGETHER}")


def test_squeeze_that_takes_the_only_row_is_refused(newcomer: Newcomer) -> None:
    """A bare squeeze() loses the axis of rows in a batch of one: found at fit, and the squeeze or one row is named."""
    table(
        newcomer,
        FORWARD.format(forward="        return self.head(torch.tanh(self.body(x.unsqueeze(1)))).squeeze()"),
    )
    newcomer.expect(read=True, refused=r"squeeze|one row|single row|batch of (one|1)")


def test_squeeze_of_one_logit_is_read_or_refused(newcomer: Newcomer) -> None:
    """One logit that is squeezed to (n,), and for one row to (), is served for one row, too, or refused."""
    net = newcomer.build(
        FORWARD.replace("nn.Linear(8, 2)", "nn.Linear(8, 1)").format(
            forward="        return self.head(torch.tanh(self.body(x))).squeeze()"
        ),
        train_input(TABLE),
    )
    newcomer.tables(net, TABLE)
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(read=True, refused=r"squeeze|one row|single row|batch of (one|1)")


def test_positions_over_the_rows_are_refused(newcomer: Newcomer) -> None:
    """Positions that are added over dim 0 make an answer hang on the row's place in the batch, up to 512 rows."""
    source = SEQUENCES.format(
        layer="nn.Linear(4, 8)", width=8, forward="out = torch.tanh(self.mix(x) + self.place[:len(x), None])"
    ).replace("        self.head", "        self.place = nn.Parameter(torch.randn(512, 8))\n        self.head", 1)
    sequences(newcomer, source)
    newcomer.expect(refused=f"{TOGETHER}|order|position|place")


def test_positions_for_few_rows_are_refused(newcomer: Newcomer) -> None:
    """A table of 50 rows that the forward needs makes a batch of 64 fail: found at fit, with that size."""
    source = SEQUENCES.format(
        layer="nn.Linear(4, 8)", width=8, forward="out = torch.tanh(self.mix(x) + 0 * self.place[:len(x), None])"
    ).replace("        self.head", "        self.place = nn.Parameter(torch.randn({rows}, 8))\n        self.head", 1)
    net = newcomer.build(source.replace("{rows}", "500"), SEQUENCE(500, 1))
    newcomer.arrays(net, SEQUENCE)
    newcomer.code(source.replace("{rows}", "50"))
    net.place = torch.nn.Parameter(net.place[:50])
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "tensor", "shape": [6, 4]})
    newcomer.expect(read=True, refused=r"batch.*(64|256)|(64|256) rows|\b50\b")


def test_batch_size_that_is_written_into_the_code_is_refused(newcomer: Newcomer) -> None:
    """A hidden state made for 64 rows takes no other batch: refused, and the sizes are in the sentence."""
    source = SEQUENCES.format(
        layer="nn.GRU(4, 8, batch_first=True)", width=8, forward="out, _ = self.mix(x, torch.zeros(1, {rows}, 8))"
    )
    net = newcomer.build(source.format(rows="len(x)") if "{rows}" in source else source, SEQUENCE(500, 1))
    newcomer.arrays(net, SEQUENCE)
    newcomer.build(source.replace("{rows}", "64"))
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "tensor", "shape": [6, 4]})
    newcomer.expect(refused=r"batch.*64|64.*(batch|rows)")


def test_view_that_mixes_rows_is_refused(newcomer: Newcomer) -> None:
    """A view after a transpose without regard to the rows mixes them: other rows change the answer."""
    sequences(
        newcomer,
        SEQUENCES.format(
            layer="nn.Linear(4, 4)",
            width=4,
            forward="out = self.mix(x.transpose(0, 1).reshape(len(x), 6, 4)).tanh()",
        ),
    )
    newcomer.expect(refused=TOGETHER)


def test_gradients_inside_forward_are_taken_or_refused(newcomer: Newcomer) -> None:
    """A forward that needs gradients (of an energy) fails if they are off: refused with that reason, or read."""
    table(
        newcomer,
        FORWARD.format(
            forward="        with torch.enable_grad():\n"
            "            x = x.detach().clone().requires_grad_(True)\n"
            "            slope, = torch.autograd.grad(torch.tanh(self.body(x)).sum(), x)\n"
            "        return self.head(torch.tanh(self.body(x.detach() + slope.detach())))"
        ),
    )
    newcomer.expect(read=True, refused=r"grad")


def test_input_that_is_changed_in_place_is_noticed_or_harmless(newcomer: Newcomer) -> None:
    """A forward that normalises its own input in place must not change what the guards see of the row."""
    source = SEQUENCES.format(layer="nn.Linear(4, 8)", width=8, forward="out = self.mix(x.sub_(3).div_(2)).tanh()")

    def far(count: int, seed: int) -> torch.Tensor:
        return SEQUENCE(count, seed) * 2 + 3

    net = newcomer.build(source, far(500, 1))
    newcomer.arrays(lambda x: net(x.clone()), far)
    newcomer.config(
        model={"weights": newcomer.weights(net)},
        input={"kind": "tensor", "shape": [6, 4]},
        guards=[{"name": "quality", "detector": {"kind": "ranges"}}],
    )
    newcomer.expect(read=True, refused=r"in.?place|changes its input", warned=r"in.?place|changes its input")
    if (newcomer.folder / "bundle").is_dir():
        document = newcomer.evaluate()[1]
        assert document["any"]["false_alarm_rate"] < 0.2, "SILENT, MISREAD: the guards saw rows that the model changed"
