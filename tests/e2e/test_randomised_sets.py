"""Randomised prediction sets: the same row with the same id gets the same set, by every door and beside any rows."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gateways import Gateway

IDS = [f"order-{index}" for index in range(40)]


@pytest.fixture(scope="module")
def adaptive(bundles: Any) -> "Iterator[Gateway]":
    """Serve the classifier of a table with APS sets."""
    import example_folders
    from gateways import fit_all

    config = example_folders.write_table(bundles.folder / "adaptive", prediction_sets={"method": "aps"}, coverage=0.6)
    fit_all({config: config.parent / "bundle"}, PYTHONPATH=bundles.python_path)
    gateway: Gateway = bundles.serve("adaptive")
    yield gateway.wait_ready()
    gateway.stop()


def test_the_id_alone_decides_the_draw(adaptive: "Gateway") -> None:
    """By v1 and by BentoML's door, alone and among other rows, a row with an id gets one set: that of the id's hash."""
    from example_folders import FLAGGED, loans

    from guards.calibration.draws import uniform_draws

    answer = adaptive.post({"instances": [FLAGGED] * len(IDS), "ids": IDS}).json()
    sets = [said["prediction_set"] for said in answer["predictions"]]
    draws = uniform_draws(IDS, answer["model"]["bundle"])
    sizes = [len(sets[row]) for row in draws.argsort()]
    assert sizes == sorted(sizes, reverse=True)  # equal rows: the larger the draw, the smaller the set
    assert sizes[0] > sizes[-1]
    for start in (3, 17):
        others = loans(5, seed=start)
        again = adaptive.predict([*others, *[FLAGGED] * 3], ids=[*"abcde", *IDS[start : start + 3]])
        assert [said["prediction_set"] for said in again[5:]] == sets[start : start + 3]
    door = adaptive.post({"instances": [FLAGGED], "ids": IDS[3:4]}, "/predict").json()["predictions"]
    assert door[0]["prediction_set"] == sets[3]
