"""How far a share may be searched."""

import tiny_models

from guards.cli.tuning.share_range import share_range
from guards.config.config import parse
from guards.config.heldout_rows import guard_without_turn


def test_other_guards_keep_their_turn() -> None:
    """Within the range each guard that could flag can flag, and beyond the range one of them cannot."""
    config = parse(tiny_models.document("tensor", false_alarm_budget=0.02))
    low, high = share_range(config, 1, [320], labelled=True)
    assert low < 2.0 < high < 20.0

    def unable(share: float) -> list[int]:
        guards = [spec.model_copy(update={"share": share}) if spec.name == "ood" else spec for spec in config.guards]
        tried = config.model_copy(update={"guards": tuple(guards)})
        return [place for place in range(3) if guard_without_turn(tried, place, 320, labelled=True)]

    assert unable(2.0) == unable(low) == unable(high) == []
    assert unable(high * 1.2)


def test_many_rows_leave_the_range_whole() -> None:
    """With many calibration rows a share may change by a factor of ten; a single guard has nothing to share."""
    config = parse(tiny_models.document("tensor"))
    low, high = share_range(config, 1, [100_000, 50_000], labelled=True)
    assert (round(low, 6), round(high, 6)) == (0.2, 20.0)
    alone = config.model_copy(update={"guards": config.guards[:1]})
    assert share_range(alone, 0, [100_000], labelled=True) == (1.0, 1.0)
