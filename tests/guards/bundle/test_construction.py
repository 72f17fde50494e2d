"""Mistakes in the parts of a config are found before anything is fitted."""

from typing import Any

import pytest
import tiny_models

from guards.bundle.construction import check_parts
from guards.config.config import parse
from guards.types import Mistake


def config(kind: str, detector: dict[str, Any]) -> Any:
    return parse(tiny_models.document(kind, guards=[{"name": "quality", "detector": detector}]))


@pytest.mark.parametrize(
    ("kind", "detector", "problem"),
    [
        ("tabular", {"kind": "ranges", "rules": ["length < weight"]}, "there is no column 'weight'"),
        ("tabular", {"kind": "ranges", "rules": ["length = mass"]}, "two values are compared with `==`"),
        ("image", {"kind": "ranges", "rules": ["length < mass"]}, "for a table, and the input is of kind image"),
        ("tabular", {"kind": "image_quality"}, "image_quality judges images, and the input is of kind tabular"),
    ],
)
def test_a_detector_that_does_not_fit_the_input_is_refused(kind: str, detector: dict[str, Any], problem: str) -> None:
    """The mistake names the guard's place in the config, and the way out, without any reference row."""
    with pytest.raises(Mistake) as refused:
        check_parts(config(kind, detector), tiny_models.schema(kind), tiny_models.CLASSES)
    (sentence,) = refused.value.sentences
    assert sentence.startswith("guards.0.detector: ")
    assert problem in sentence
