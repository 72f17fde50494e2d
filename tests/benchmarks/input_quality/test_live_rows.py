"""The file of live rows that the benchmark of input quality draws."""

import pytest
import torch
from torch import Tensor

from benchmarks.detection.fashion import data_folder
from benchmarks.input_quality.contamination import live_rows
from benchmarks.input_quality.table_errors import LIVE_ERRORS, Adult


@pytest.fixture(scope="module")
def adult() -> Adult:
    if not (data_folder() / "adult").is_dir():
        pytest.skip(f"no data at {data_folder()}: set GUARDHOUSE_DATA")
    return Adult.load(data_folder())


def differing(x: Tensor, clean: Tensor) -> Tensor:
    return (x.nan_to_num(-9.0) != clean.nan_to_num(-9.0)).any(1)


@pytest.mark.parametrize("share", [0.01, 0.2])
def test_the_share_is_faulty_and_the_rest_is_untouched(adult: Adult, share: float) -> None:
    """About the share of the rows differ from the clean rows; these rows, and no others, have a kind."""
    clean = adult.test[:8000]
    x, kind = live_rows(adult, clean, share, torch.Generator().manual_seed(0))
    assert torch.equal(differing(x, clean), kind >= 0)
    faulty = float((kind >= 0).double().mean())
    assert 0.7 * share < faulty < share + 3 * (share * (1 - share) / len(clean)) ** 0.5


def test_every_kind_of_error_is_drawn(adult: Adult) -> None:
    """All kinds are drawn; rows with an unseen category have the code -1, and rows with missing values have NaN."""
    x, kind = live_rows(adult, adult.test[:4000], 0.5, torch.Generator().manual_seed(0))
    kinds = tuple(LIVE_ERRORS)
    assert set(kind.tolist()) == set(range(-1, len(kinds)))
    assert (x[kind == kinds.index("unseen category")] == -1).any(1).all()
    assert x[kind == kinds.index("missing values")].isnan().any(1).all()
