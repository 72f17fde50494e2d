"""Models whose outputs are no logits, although they are taken for logits."""

import numpy as np
import pytest
import torch
from newcomers import Newcomer, mlp, numbers, train_input

TABLE = numbers("length", "mass", "age")
CLASSES = ("ant", "bee", "cat")
DECIDED = r"argmax|round|threshold|decision|class ind|indices|integer|int64|two (different )?values|only 0|probabilit"
OUTPUT = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(3, 8), nn.Linear(8, {outputs})

    def forward(self, x):
        out = self.head(torch.tanh(self.body(x)))
        return {output}


def build():
    return Net()
"""


def write(newcomer: Newcomer, output: str, *, outputs: int = 3) -> None:
    """Write a table and a net whose labels are by ``out``, and which returns ``output``."""
    net = newcomer.build(OUTPUT.format(outputs=outputs, output="out"), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=CLASSES if outputs == 3 else ("no", "yes"))
    newcomer.code(OUTPUT.format(outputs=outputs, output=output))
    newcomer.config(model={"weights": newcomer.weights(net)})


def test_softmax_at_the_end_is_found(newcomer: Newcomer) -> None:
    """Probabilities are no logits (a second softmax flattens them): they are found and reported."""
    write(newcomer, "torch.softmax(out, 1)")
    newcomer.expect(read=True, said="probabilit", warned="probabilit", refused="probabilit")


def test_log_softmax_at_the_end_is_found(newcomer: Newcomer) -> None:
    """Log-probabilities of a net for NLLLoss are found and reported, or are the same as logits."""
    write(newcomer, "torch.log_softmax(out, 1)")
    newcomer.expect(read=True, said="log.?probabilit", warned="log.?probabilit", refused="log.?probabilit")


def test_sigmoid_at_the_end_is_found(newcomer: Newcomer) -> None:
    """One probability from BCELoss would be above half at every row as a logit: it is found and reported."""
    write(newcomer, "torch.sigmoid(out)", outputs=1)
    newcomer.expect(read=True, said="probabilit", warned="probabilit|sigmoid", refused="probabilit|sigmoid")


def test_declared_probabilities_are_read(newcomer: Newcomer) -> None:
    """`model.output: probabilities` is taken at its word."""
    write(newcomer, "torch.sigmoid(out)[:, 0]", outputs=1)
    path = newcomer.folder / "gateway.yaml"
    path.write_text(path.read_text().replace("  device: cpu", "  device: cpu\n  output: probabilities"))
    newcomer.expect(read=True)


def test_declared_probabilities_that_are_logits_are_refused(newcomer: Newcomer) -> None:
    """`model.output: probabilities` of a model that gives logits is a contradiction, and named."""
    write(newcomer, "out")
    path = newcomer.folder / "gateway.yaml"
    path.write_text(path.read_text().replace("  device: cpu", "  device: cpu\n  output: probabilities"))
    newcomer.expect(refused=r"model\.output.*(negative|sum|logit|between|\[0, 1\]|probabilit)", warned=r"model\.output")


@pytest.mark.parametrize("output", ["(out, x)", "{'logits': out, 'hidden': x}"], ids=["tuple", "dict"])
def test_several_outputs_are_refused(newcomer: Newcomer, output: str) -> None:
    """A tuple (auxiliary head) or a dict (as language models give) is refused with what must be returned."""
    write(newcomer, output)
    newcomer.expect(read=True, refused=r"(tuple|dict).*(tensor|logits)")


def test_argmax_at_the_end_is_found(newcomer: Newcomer) -> None:
    """A model that returns the class index and no scores is refused with what must be returned."""
    write(newcomer, "out.argmax(1)")
    newcomer.expect(refused=r"argmax|class ind|indices|integer|int64|logits")


def test_argmax_of_two_classes_is_found(newcomer: Newcomer) -> None:
    """0 or 1 in place of one logit would look like a binary model that is never sure: it is found and reported."""
    write(newcomer, "out.argmax(1)", outputs=2)
    newcomer.expect(read=True, said=DECIDED, refused=DECIDED, warned=DECIDED)


def test_threshold_at_the_end_is_found(newcomer: Newcomer) -> None:
    """(p > 0.5).float() is no logit: it is found and reported, if only as a probability."""
    write(newcomer, "(torch.sigmoid(out) > 0.5).float()", outputs=1)
    newcomer.expect(read=True, said=DECIDED, refused=DECIDED, warned=DECIDED)


def test_regression_of_a_scaled_target_is_warned_of(newcomer: Newcomer) -> None:
    """A model of the standardised target is far worse than the mean of the raw one: R2 and the scale are named."""
    net = newcomer.build(mlp(3, 1), train_input(TABLE))
    newcomer.tables(lambda x: net(x) * 40 + 300, TABLE, classes=None)
    newcomer.config(model={"weights": newcomer.weights(net), "task": "regression"})
    newcomer.expect(warned=r"R2|R²|mean|scale", refused=r"R2|R²|mean|scale")


def test_regression_of_the_logarithm_is_warned_of(newcomer: Newcomer) -> None:
    """A model of log(price) beside prices is far worse than their mean, and a notice says so."""
    net = newcomer.build(mlp(3, 1), train_input(TABLE))
    newcomer.tables(lambda x: torch.exp(net(x) / 4 + 5), TABLE, classes=None)
    newcomer.config(model={"weights": newcomer.weights(net), "task": "regression"})
    newcomer.expect(warned=r"R2|R²|mean|scale", refused=r"R2|R²|mean|scale")


def test_more_outputs_than_labels_are_refused(newcomer: Newcomer) -> None:
    """A model of four classes beside a reference that shows three of them asks for `model.classes`."""
    net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=CLASSES)
    wide = newcomer.build(mlp(3, 4))
    newcomer.config(model={"weights": newcomer.weights(wide)})
    newcomer.expect(refused=r"classes")


def test_labels_in_order_of_appearance_are_warned_of(newcomer: Newcomer) -> None:
    """A model trained on pandas.factorize codes does not have its labels sorted: below the majority, and named."""
    net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=("cat", "ant", "bee"))
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(warned=r"(order|classes)", refused=r"(order|classes)")


def test_labels_of_a_folder_in_wrong_order_are_warned_of(newcomer: Newcomer) -> None:
    """Two labels that are swapped turn .94 into .06: below the majority, and named."""
    net = newcomer.build(mlp(3, 2), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=("yes", "no"))
    newcomer.config(model={"weights": newcomer.weights(net), "classes": ["no", "yes"]})
    newcomer.expect(warned=r"(order|classes)", refused=r"(order|classes)")


def test_forgotten_weights_are_warned_of(newcomer: Newcomer) -> None:
    """A builder without its weights is untrained: it is no better than the majority, and a notice says so."""
    net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=CLASSES)
    random = "import torch\n" + mlp(3, 3).replace("    return", "    torch.manual_seed(3)\n    return")
    newcomer.code(random)
    newcomer.config()
    newcomer.expect(warned=r"weights|accuracy|majority|most frequent", refused=r"weights|accuracy|majority")


def test_answers_that_are_nan_are_refused(newcomer: Newcomer) -> None:
    """A logarithm of negative numbers makes half of the answers NaN: found at fit, and named."""
    write(newcomer, "torch.log(out)")
    newcomer.expect(refused=r"nan|not finite|no number", warned=r"nan|not finite|no number")


def test_precision_that_overflows_is_found(newcomer: Newcomer) -> None:
    """Activations beyond 65504 are infinite in float16: the declared precision is tried, and named."""
    source = OUTPUT.format(outputs=3, output="(out - 1e5 * self.head.bias) / 1e4").replace(
        "torch.tanh(self.body(x))", "1e5 * torch.tanh(self.body(x))"
    )
    net = newcomer.build(source)
    with torch.no_grad():
        net.head.bias.zero_()
    newcomer.tables(net, TABLE, classes=CLASSES)
    newcomer.config(model={"weights": newcomer.weights(net), "precision": "float16"})
    newcomer.expect(refused=r"float16|precision", warned=r"float16|precision")


def test_missing_values_that_the_model_cannot_take_are_refused(newcomer: Newcomer) -> None:
    """`impute: none` on a model that turns NaN into NaN answers is refused, and the column or `impute` is named."""
    net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(
        net,
        TABLE,
        classes=CLASSES,
        dress=lambda frame: frame.assign(mass=frame["mass"].mask(np.arange(len(frame)) % 10 == 0)),
    )
    columns = [{"name": name, "kind": "numeric", "impute": "none"} for name in ("length", "mass", "age")]
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"columns": columns})
    newcomer.expect(refused=r"impute|mass|missing")
