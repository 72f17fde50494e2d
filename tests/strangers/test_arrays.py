"""Arrays in .npz files: scale, layout and channels of images, bytes, token ids, gaps."""

import numpy as np
import pytest
import torch
from newcomers import Newcomer, mlp, pictures, tensors
from torch import Tensor

CNN = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor({mean})[:, None, None])
        self.register_buffer("deviation", torch.tensor({deviation})[:, None, None])
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(torch.relu(self.conv((x - self.mean) / self.deviation)).mean((2, 3)))


def build():
    return Net()
"""
NONE = ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0])
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
IMAGES = pictures(3, 10, 10)
SCALE = r"scale|\b255\b|\[0, 1\]|normali|standardi"


def cnn(normal: tuple[list[float], list[float]] = NONE) -> str:
    """Write the source of a small CNN that normalises its input."""
    return CNN.format(mean=normal[0], deviation=normal[1])


def as_bytes(x: Tensor) -> np.ndarray:
    """Show images as whole numbers from 0 to 255."""
    return (x * 255).round().to(torch.uint8).numpy()


def normalised(x: Tensor) -> Tensor:
    """Normalise as the models of a well-known collection want it."""
    mean, deviation = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    return (x - mean) / deviation


def imaged(newcomer: Newcomer, source: str, dress: object, *, kind: str = "image", shape: object = (3, 10, 10)) -> None:
    """Write images with a net that sees them in [0, 1], channels first."""
    net = newcomer.build(source, IMAGES(500, 1))
    newcomer.arrays(net, IMAGES, dress=dress)
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": kind, "shape": [*shape]})


def test_images_of_bytes_are_divided(newcomer: Newcomer) -> None:
    """uint8 images become [0, 1], and a model with its normalisation inside is read rightly and silently."""
    imaged(newcomer, cnn(IMAGENET), as_bytes)
    newcomer.expect(read=True)


def test_images_of_floats_up_to_255_are_refused(newcomer: Newcomer) -> None:
    """float32 images in 0-255 are refused with their range."""
    imaged(newcomer, cnn(), lambda x: (x * 255).round().numpy())
    newcomer.expect(refused=r"255")


def test_images_of_int64_are_noticed(newcomer: Newcomer) -> None:
    """int64 images in 0-255 are divided as bytes are, or refused with their range."""
    imaged(newcomer, cnn(), lambda x: (x * 255).round().long().numpy())
    newcomer.expect(read=True, refused=r"255")


def test_images_of_doubles_are_read(newcomer: Newcomer) -> None:
    """float64 images in [0, 1] are read rightly."""
    imaged(newcomer, cnn(), lambda x: x.double().numpy())
    newcomer.expect(read=True)


def test_channels_last_are_named(newcomer: Newcomer) -> None:
    """Images (n, 10, 10, 3) beside a shape [3, 10, 10] are turned, or refused with both shapes."""
    imaged(newcomer, cnn(), lambda x: as_bytes(x).transpose(0, 2, 3, 1))
    newcomer.expect(read=True, refused=r"\[10, 10, 3\].*\[3, 10, 10\]|channels?.?(first|last)")


def test_channels_last_in_the_config_are_named(newcomer: Newcomer) -> None:
    """A shape [10, 10, 3] in the config is refused with "channels first", or taken."""
    imaged(newcomer, cnn(), lambda x: as_bytes(x).transpose(0, 2, 3, 1), shape=(10, 10, 3))
    newcomer.expect(read=True, refused=r"channels?.?(first|last)|NHWC|NCHW")


def test_channels_in_another_order_are_warned_of(newcomer: Newcomer) -> None:
    """Blue before red (BGR) shows in the accuracy alone: it is below the majority's, and a warning says so."""
    source = cnn().replace("return self.head", "x = x[:, [0, 0, 0]]\n        return self.head")
    net = newcomer.build(source, IMAGES(500, 1), seed=2)
    newcomer.arrays(net, IMAGES, dress=lambda x: as_bytes(x)[:, ::-1])
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "image", "shape": [3, 10, 10]})
    newcomer.expect(refused=r"channel|RGB|BGR|accuracy", warned=r"channel|RGB|BGR|accuracy")


def test_images_normalised_in_the_file_are_refused(newcomer: Newcomer) -> None:
    """Images that were saved behind Normalize() are not in [0, 1]: refused with their range."""
    net = newcomer.build(cnn(IMAGENET), IMAGES(500, 1))
    newcomer.arrays(net, IMAGES, dress=lambda x: normalised(x).numpy())
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "image", "shape": [3, 10, 10]})
    newcomer.expect(refused=SCALE)


def test_images_normalised_twice_are_warned_of(newcomer: Newcomer) -> None:
    """Tensors that were saved behind Normalize(), with a model that normalises again: the scale is named."""
    net = newcomer.build(cnn(IMAGENET), IMAGES(500, 1), seed=9)
    newcomer.arrays(net, IMAGES, dress=lambda x: normalised(x).numpy())
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "tensor", "shape": [3, 10, 10]})
    newcomer.expect(refused=SCALE, warned=SCALE)


def test_images_that_the_model_wants_normalised_are_warned_of(newcomer: Newcomer) -> None:
    """A model that was trained behind Normalize() gets [0, 1]: the accuracy shows it, and the scale is named."""
    net = newcomer.build(cnn(), normalised(IMAGES(500, 1)), seed=14)
    newcomer.arrays(lambda x: net(normalised(x)), IMAGES, dress=as_bytes)
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "image", "shape": [3, 10, 10]})
    newcomer.expect(refused=SCALE, warned=SCALE)


def test_images_that_the_model_wants_up_to_255_are_warned_of(newcomer: Newcomer) -> None:
    """A model that divides by 255 itself gets [0, 1]: the accuracy shows it, and the scale is named."""
    source = cnn(([120.0, 120.0, 120.0], [60.0, 60.0, 60.0]))
    net = newcomer.build(source, IMAGES(500, 1) * 255, seed=14)
    newcomer.arrays(lambda x: net(x * 255), IMAGES, dress=as_bytes)
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "image", "shape": [3, 10, 10]})
    newcomer.expect(refused=SCALE, warned=SCALE)


def test_bytes_of_tensors_are_divided_and_said(newcomer: Newcomer) -> None:
    """uint8 of kind tensor is divided by 255 at fit as in requests, with a notice."""
    imaged(newcomer, cnn(IMAGENET), as_bytes, kind="tensor")
    newcomer.expect(read=True, said=r"\b255\b")


def test_images_without_a_channel_are_refused(newcomer: Newcomer) -> None:
    """Images (n, 8, 8) beside a shape [1, 8, 8] are refused with both shapes, or read."""
    clean = pictures(1, 8, 8)
    source = mlp(64, 3).replace("Sequential(", "Sequential(nn.Flatten(), ")
    net = newcomer.build(source, clean(500, 1))
    newcomer.arrays(net, clean, dress=lambda x: as_bytes(x)[:, 0])
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "image", "shape": [1, 8, 8]})
    newcomer.expect(read=True, refused=r"\[8, 8\].*\[1, 8, 8\]")


def test_gaps_in_tensors_are_named(newcomer: Newcomer) -> None:
    """NaN in a tensor (a sensor that was off) has no imputation: the rows are named at fit."""
    clean = tensors(6)

    def dress(x: Tensor) -> np.ndarray:
        holed = x.numpy().copy()
        holed[::20, 2] = np.nan
        return holed

    net = newcomer.build(mlp(6, 3), clean(500, 1))
    newcomer.arrays(net, clean, dress=dress)
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "tensor", "shape": [6]})
    newcomer.expect(refused=r"npz.*(nan|finite|missing)", warned=r"npz.*(nan|finite|missing)")


def test_numbers_beyond_float32_are_named(newcomer: Newcomer) -> None:
    """float64 values beyond float32 (1e300) are no numbers to the model: named at fit."""
    clean = tensors(6)

    def dress(x: Tensor) -> np.ndarray:
        large = x.double().numpy().copy()
        large[7, 2] = 1e300
        return large

    net = newcomer.build(mlp(6, 3), clean(500, 1))
    newcomer.arrays(net, clean, dress=dress)
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "tensor", "shape": [6]})
    newcomer.expect(refused=r"finite|float32|large|1e\+?300|inf", warned=r"finite|float32|large|1e\+?300|inf")


TOKENS = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding({words}, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.words(x.long()).mean(1))


def build():
    return Net()
"""


def ids(count: int, seed: int) -> Tensor:
    """Make up sentences of token ids below 40."""
    return torch.randint(40, (count, 5), generator=torch.Generator().manual_seed(seed)).float()


def test_token_ids_are_read(newcomer: Newcomer) -> None:
    """int64 token ids of kind tensor reach the embedding as they are."""
    net = newcomer.build(TOKENS.format(words=50), ids(500, 1))
    newcomer.arrays(net, ids, dress=lambda x: x.long().numpy())
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "tensor", "shape": [5]})
    newcomer.expect(read=True)


def test_token_ids_of_bytes_are_not_divided_in_silence(newcomer: Newcomer) -> None:
    """uint8 token ids of kind tensor are divided by 255, with a notice, since an embedding would get zeros."""
    net = newcomer.build(TOKENS.format(words=50), ids(500, 1))
    newcomer.arrays(net, ids, dress=lambda x: x.to(torch.uint8).numpy())
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "tensor", "shape": [5]})
    newcomer.expect(refused=r"\b255\b", warned=r"\b255\b|scale|dtype|uint8")


def test_token_ids_beyond_the_embedding_are_named(newcomer: Newcomer) -> None:
    """Token ids of another tokeniser, beyond the embedding, crash the model: refused, and the embedding is named."""
    net = newcomer.build(TOKENS.format(words=40), ids(500, 1))
    newcomer.arrays(net, ids, dress=lambda x: x.long().numpy())
    small = newcomer.build(TOKENS.format(words=30))
    newcomer.config(model={"weights": newcomer.weights(small)}, input={"kind": "tensor", "shape": [5]})
    newcomer.expect(refused=r"embedding|index|\b30\b")


def test_token_ids_that_few_rows_have_are_named(newcomer: Newcomer) -> None:
    """One id in one row beyond the embedding is found at fit, without a traceback."""
    net = newcomer.build(TOKENS.format(words=40), ids(500, 1))
    newcomer.arrays(net, ids, dress=lambda x: x.long().numpy())
    path = newcomer.folder / "heldout.npz"
    arrays = dict(np.load(path))
    arrays["x"][200, 3] = 41
    np.savez(path, **arrays)
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "tensor", "shape": [5]})
    newcomer.expect(refused=r"embedding|index|\b41\b|row 200")


def test_half_precision_arrays_are_read(newcomer: Newcomer) -> None:
    """float16 arrays are their numbers."""

    def clean(count: int, seed: int) -> Tensor:
        return tensors(6)(count, seed).half().float()

    net = newcomer.build(mlp(6, 3), clean(500, 1))
    newcomer.arrays(net, clean, dress=lambda x: x.half().numpy())
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "tensor", "shape": [6]})
    newcomer.expect(read=True)


def test_truth_values_are_read(newcomer: Newcomer) -> None:
    """A bool array is zeros and ones."""

    def clean(count: int, seed: int) -> Tensor:
        return (tensors(12)(count, seed) > 0).float()

    net = newcomer.build(mlp(12, 3), clean(500, 1))
    newcomer.arrays(net, clean, dress=lambda x: (x > 0).numpy())
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "tensor", "shape": [12]})
    newcomer.expect(read=True)


def test_columns_as_an_array_are_read(newcomer: Newcomer) -> None:
    """A table as x (n, d) in an .npz, without a declared column, is read rightly and silently."""
    clean = tensors(4)
    net = newcomer.build(mlp(4, 3), clean(500, 1))
    newcomer.arrays(net, clean)
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(read=True)


def test_objects_in_an_array_are_refused(newcomer: Newcomer) -> None:
    """An object array would have to be unpickled: refused."""
    net = newcomer.build(mlp(6, 3), tensors(6)(500, 1))
    newcomer.arrays(net, tensors(6), dress=lambda x: x.numpy().astype(object))
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "tensor", "shape": [6]})
    newcomer.expect(refused=r"train\.npz.*(object|pickle)")


def test_array_of_another_name_is_refused(newcomer: Newcomer) -> None:
    """Arrays X_train and y_train are refused with the names that are there."""
    net = newcomer.build(mlp(6, 3), tensors(6)(500, 1))
    newcomer.arrays(net, tensors(6))
    path = newcomer.folder / "train.npz"
    arrays = np.load(path)
    np.savez(path, X_train=arrays["x"], y_train=arrays["y"])
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "tensor", "shape": [6]})
    newcomer.expect(refused=r"X_train")


@pytest.mark.parametrize("order", ["time first", "features first"])
def test_axes_of_sequences_are_checked(newcomer: Newcomer, order: str) -> None:
    """Sequences (n, features, time) beside a shape [time, features] are refused with both shapes."""
    clean = tensors(7, 4)
    source = mlp(28, 3).replace("Sequential(", "Sequential(nn.Flatten(), ")
    net = newcomer.build(source, clean(500, 1))
    newcomer.arrays(net, clean, dress=lambda x: (x if order == "time first" else x.transpose(1, 2)).numpy())
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"kind": "tensor", "shape": [7, 4]})
    if order == "time first":
        newcomer.expect(read=True)
    else:
        newcomer.expect(refused=r"\[4, 7\].*\[7, 4\]")
