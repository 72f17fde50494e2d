"""A server whose randomised prediction sets draw from the ids of rows, and with a guard that abstains on purpose."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from waiting import until

if TYPE_CHECKING:
    from gateways import Gateway

IDS = [f"order-{index}" for index in range(40)]
GUARDS = [
    {"name": "ood", "detector": {"kind": "mahalanobis"}},
    {"name": "unsure", "detector": {"kind": "confidence"}, "action": "abstain", "target_error": 0.1},
]


@pytest.fixture(scope="module")
def adaptive(bundles: Any) -> "Iterator[Gateway]":
    """Serve the classifier of a table with APS sets, which does not answer if it is unsure."""
    import example_folders
    from gateways import fit_all

    config = example_folders.write_table(
        bundles.folder / "adaptive", prediction_sets={"method": "aps"}, coverage=0.6, guards=GUARDS
    )
    fit_all({config: config.parent / "bundle"}, PYTHONPATH=bundles.python_path)
    gateway: Gateway = bundles.serve("adaptive")
    yield gateway.wait_ready()
    gateway.stop()


def test_the_id_alone_decides_the_draw(adaptive: "Gateway") -> None:
    """By v1 and by BentoML's door, alone and among other rows, a row with an id gets one set: that of the id's hash."""
    from example_folders import ALLOWED, loans

    from guards.calibration.draws import uniform_draws

    answer = adaptive.post({"instances": [ALLOWED] * len(IDS), "ids": IDS}).json()
    sets = [said["prediction_set"] for said in answer["predictions"]]
    draws = uniform_draws(IDS, answer["model"]["bundle"])
    sizes = [len(sets[row]) for row in draws.argsort()]
    assert sizes == sorted(sizes, reverse=True)  # equal rows: the larger the draw, the smaller the set
    assert sizes[0] > sizes[-1]
    for start in (3, 17):
        others = loans(5, seed=start)
        again = adaptive.predict([*others, *[ALLOWED] * 3], ids=[*"abcde", *IDS[start : start + 3]])
        assert [said["prediction_set"] for said in again[5:]] == sets[start : start + 3]
    door = adaptive.post({"instances": [ALLOWED], "ids": IDS[3:4]}, "/predict").json()["predictions"]
    assert door[0]["prediction_set"] == sets[3]


def test_rows_abstained_from_on_purpose_are_no_false_alarms(adaptive: "Gateway") -> None:
    """An unsure row gets no label; metrics count the row apart, and show the target, the bound and the share."""
    from example_folders import ALLOWED, FLAGGED

    series = "guardhouse_rows_abstained_on_purpose_total"
    before = adaptive.metrics()[series]
    sure, unsure = adaptive.predict([ALLOWED, FLAGGED])
    assert (sure["action"], unsure["action"]) == ("allow", "abstain")
    assert (unsure["reasons"], unsure["label"]) == (["unsure"], None)
    until(lambda: adaptive.metrics()[series] == before + 1)
    found = adaptive.metrics()
    assert found['guardhouse_guard_target_error_ratio{guard="unsure"}'] == 0.1
    assert 0 < found['guardhouse_guard_error_bound_ratio{guard="unsure"}'] <= 0.1
    assert 0 < found['guardhouse_guard_answered_ratio{guard="unsure"}'] < 1
