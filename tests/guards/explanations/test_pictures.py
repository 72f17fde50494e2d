"""The layout of a picture: its edge cuts off no text, and no label lies on another label."""

import itertools
import warnings

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text

from guards.explanations.explain import Explanation
from guards.explanations.pictures import drawn
from guards.input.column import Column
from guards.input.schema import InputSchema

SCALES = (0.0, 3e-7, 0.013, 1.0, 12345.678, 4e8)
SHAPES = ((1, 1, 64), (1, 64, 1), (1, 2, 64), (1, 1, 1), (1, 28, 28), (3, 64, 16), (1, 16, 64))


def explained(shape: tuple[int, ...], scale: float, label: str = "ankle boot") -> Explanation:
    generator = torch.Generator().manual_seed(0)
    x, values = torch.rand(shape, generator=generator), torch.randn(shape, generator=generator) * scale
    return Explanation(x, label, None, "integrated_gradients", values, -12345.678 * scale, 3.2 * scale)


def texts(figure: Figure) -> list[Text]:
    """Give every text that is seen, once the figure has been laid out."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
        figure.draw_without_rendering()
    found: list[Text] = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return found


def check(figure: Figure) -> None:
    """Look at the boxes around all texts."""
    frame = figure.bbox
    shown = texts(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
        boxes = [(text.get_text(), text.get_window_extent()) for text in shown]
    assert len(boxes) > 4
    for text, box in boxes:
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1, text
        assert frame.y0 <= box.y0 < box.y1 <= frame.y1, text
    for (one, first), (other, second) in itertools.combinations(boxes, 2):
        assert not (
            min(first.x1, second.x1) - max(first.x0, second.x0) > 1
            and min(first.y1, second.y1) - max(first.y0, second.y0) > 1
        ), (one, other)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_images_of_any_shape(shape: tuple[int, int, int], scale: float) -> None:
    """Strips and squares, contributions tiny and huge: the scale's numbers are whole, and apart."""
    figure = drawn(explained(shape, scale), InputSchema(kind="image", shape=shape), title="fashion")
    check(figure)
    strips = [axes.get_window_extent() for axes in figure.axes]
    assert min(box.height for box in strips) > 0.5 * figure.dpi


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("columns", [1, 3, 40])
def test_tables_with_any_numbers(columns: int, scale: float) -> None:
    """Bars to either side, and the numbers beside them, stay clear of the columns' names."""
    names = ("WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW", "i", "年齢" * 8)
    schema = InputSchema(
        kind="tabular",
        shape=(columns,),
        columns=tuple(Column(name=f"{names[i % 3]}{i}", kind="numeric") for i in range(columns)),
    )
    for sign in (1, -1):
        answer = explained((columns,), scale * sign)
        check(drawn(answer, schema, title="loans"))


@pytest.mark.parametrize("label", ["$x_1^", "猫" * 60, "W" * 400, "a label " * 40])
def test_long_headlines_are_shortened(label: str) -> None:
    """A long label, in any script, ends in dots before the edge."""
    figure = drawn(explained((1, 8, 8), 1.0, label), InputSchema(kind="image", shape=(1, 8, 8)), title="fashion")
    check(figure)
    headline = max(texts(figure), key=lambda text: float(text.get_fontsize()))
    assert headline.get_text().endswith("...") == (len(label) > 10)
