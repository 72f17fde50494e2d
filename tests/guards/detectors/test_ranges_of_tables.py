"""What ranges finds in a table beyond the bounds of its columns."""

import math

import pytest
import torch
from quick_findings import same_in_inference_mode
from torch import Tensor

from guards import Batch, InputSchema, Mistake, Reference
from guards.bundle.fitted_state import named_state, restored
from guards.calibration.p_values import Calibration
from guards.detectors.ranges import Ranges, RangesParams
from guards.input.column import Column

NAN = math.nan
COLUMNS = (
    Column(name="height", kind="numeric"),
    Column(name="weight", kind="numeric"),
    Column(name="title", kind="categorical", categories=("lady", "lord", "none")),
    Column(name="sex", kind="categorical", categories=("female", "male")),
    Column(name="pension", kind="numeric"),
)
SCHEMA = InputSchema(kind="tabular", shape=(5,), columns=COLUMNS)


def people(n: int, seed: int) -> Tensor:
    """Heights and weights that go together, titles that go with the sex, and a pension that the old have."""
    generator = torch.Generator().manual_seed(seed)
    sex = torch.randint(2, (n,), generator=generator)
    height = 165 + 12 * sex + 6 * torch.randn(n, generator=generator)
    weight = 0.9 * (height - 100) + 4 * torch.randn(n, generator=generator)
    titled = torch.rand(n, generator=generator) < 0.3
    title = torch.where(titled, sex, 2)
    pension = torch.where(torch.rand(n, generator=generator) < 0.2, 1000.0, NAN)
    weight = torch.where(torch.rand(n, generator=generator) < 0.1, NAN, weight)
    return torch.stack([height, weight, title.float(), sex.float(), pension], dim=1)


def fitted(**params: object) -> Ranges:
    chosen = RangesParams.model_validate(params)
    return Ranges(chosen).fit(Reference(Batch(people(4000, 0)), None, SCHEMA))


def p_values(detector: Ranges, rows: list[list[float]]) -> list[float]:
    calibration = Calibration.from_scores(detector.score(Batch(people(2000, 1))))
    return calibration.p_value(detector.score(Batch(torch.tensor(rows)))).tolist()


ORDINARY = [170.0, 63.0, 2.0, 0.0, NAN]
LADY = [165.0, 58.0, 0.0, 0.0, NAN]


def test_odd_combinations_of_ordinary_values_are_strange() -> None:
    """A light tall man and a male lady are rare, though each of the values is ordinary; their neighbours are not."""
    odd = [[188.0, 50.0, 2.0, 1.0, NAN], [177.0, 69.0, 0.0, 1.0, NAN]]
    strange, male_lady, ordinary, lady = p_values(fitted(), [*odd, ORDINARY, LADY])
    assert strange < 0.005
    assert male_lady < 0.005
    assert ordinary > 0.05
    assert lady > 0.05


def test_without_combinations_only_faults_are_strange() -> None:
    """`combinations: false` leaves bounds, familiar values and missing values, and every sound row scores 0."""
    detector = fitted(combinations=False)
    rows = torch.tensor(
        [[188.0, 50.0, 2.0, 1.0, 1000.0], [188.0, 50.0, 2.0, 1.0, NAN], [300.0, 50.0, -1.0, 1.0, 1000.0]]
    )
    sound, missing, faulty = detector.score(Batch(rows)).tolist()
    assert sound == 0
    assert missing == pytest.approx(0.22, abs=0.05)
    assert faulty > 2 * math.log(4001)


def test_missing_values_are_judged_together() -> None:
    """A pattern of missing values that the reference never has is strange, and is a cause."""
    detector = fitted()
    never = [170.0, 63.0, NAN, 0.0, NAN]
    assert p_values(detector, [never])[0] < 0.002
    causes = detector.causes(Batch(torch.tensor([never, ORDINARY])))
    assert causes is not None
    marked = causes[:, detector.cause_names().index("an unusual pattern of missing values")]
    assert marked.tolist() == [True, False]


def test_causes_name_odd_columns_units_and_swaps() -> None:
    """A height in inches, and height and weight swapped, are named; an ordinary row has its missing value alone."""
    detector = fitted()
    rows = [[170 / 2.54, 63.0, 2.0, 0.0, NAN], [62.0, 171.0, 2.0, 0.0, NAN], ORDINARY, [177.0, 69.0, 0.0, 1.0, NAN]]
    marks = detector.causes(Batch(torch.tensor(rows)))
    assert marks is not None
    names = detector.cause_names()
    assert marks.shape == (4, len(names))
    inches, swapped, ordinary, lady = (
        {name for name, one in zip(names, row, strict=True) if one} for row in marks.tolist()
    )
    assert {"height", "height: looks like inches, not centimetres"} <= inches
    assert {"height and weight look swapped"} <= swapped
    assert ordinary == {"pension"}
    assert {"title", "sex"} & lady


def test_a_faulty_value_makes_no_other_value_odd() -> None:
    """The weight of a man of three metres is no cause: only his height is, and what the height looks like."""
    detector = fitted()
    marks = detector.causes(Batch(torch.tensor([[300.0, 63.0, 2.0, 0.0, 1000.0]])))
    assert marks is not None
    causes = [name for name, one in zip(detector.cause_names(), marks[0].tolist(), strict=True) if one]
    assert causes[0] == "height"
    assert all(name.startswith("height: ") for name in causes[1:])


def test_a_missing_value_is_a_cause_only_if_it_explains_something() -> None:
    """A weight that is often missing is no cause beside a strange height, and the only cause of an ordinary row."""
    ranges = fitted()
    names = ranges.cause_names()
    rows = torch.tensor([[300.0, NAN, 2.0, 1.0, NAN], [171.0, NAN, 2.0, 0.0, NAN]])
    found = ranges.causes(Batch(rows))
    assert found is not None
    strange, ordinary = ({name for name, one in zip(names, row, strict=True) if one} for row in found.tolist())
    assert "height" in strange
    assert not strange & {"weight", "pension"}
    assert ordinary == {"weight", "pension"}


def stays(n: int, seed: int) -> Tensor:
    """The days on which patients come and go, and how often somebody visits them: whole numbers that go together."""
    generator = torch.Generator().manual_seed(seed)
    comes = torch.randint(1, 340, (n,), generator=generator).float()
    goes = comes + torch.poisson(torch.full((n,), 4.0), generator=generator)
    return torch.stack([comes, goes, torch.poisson(torch.full((n,), 2.0), generator=generator)], dim=1)


def test_odd_values_without_a_mistake_seldom_look_like_one() -> None:
    """Of sound rows one in fifty has an odd value, and a fifth of these at most look like another unit or a swap."""
    columns = tuple(Column(name=name, kind="numeric") for name in ("comes", "goes", "visits"))
    schema = InputSchema(kind="tabular", shape=(3,), columns=columns)
    ranges = Ranges(RangesParams()).fit(Reference(batch=Batch(stays(4000, 1)), y=None, schema=schema))
    found = ranges.causes(Batch(stays(4000, 2)))
    assert found is not None
    looks = torch.tensor(["look" in name for name in ranges.cause_names()])
    odd, like_a_mistake = found[:, ~looks].any(1).sum(), found[:, looks].any(1).sum()
    assert odd >= 20
    assert like_a_mistake <= odd / 5


def test_a_broken_rule_is_a_violation_and_a_cause() -> None:
    """A broken rule flags whatever the rank is, counts -log of its share in the reference, and is named."""
    detector = fitted(combinations=False, rules=["weight < height - 60 or height is missing"])
    rows = Batch(
        torch.tensor(
            [[170.0, 115.0, 2.0, 0.0, 1000.0], [170.0, 60.0, 2.0, 0.0, 1000.0], [170.0, NAN, 2.0, 0.0, 1000.0]]
        )
    )
    found = detector.examine(rows, causes=True)
    assert found.violated is not None
    assert found.violated.tolist() == [True, False, False]
    assert found.causes is not None
    assert found.causes[:, -1].tolist() == [True, False, False]
    assert detector.cause_names()[-1] == "rule weight < height - 60 or height is missing"
    without = fitted(combinations=False).score(rows)
    assert (found.score - without).tolist() == pytest.approx([math.log(4002), 0, 0], rel=1e-4)


def test_the_state_of_an_earlier_version_is_refused() -> None:
    """Buffers of a version that knew bounds alone are not read as if the combinations had been left out."""
    state = named_state("detector.quality", fitted(combinations=False))
    kept = {name: tensor for name, tensor in state.items() if name.count(".") == 2}
    with pytest.raises(Mistake, match=r"the bundle was fitted with another version of Ranges .* fit the bundle anew"):
        restored(Ranges(RangesParams()), kept, "detector.quality")
    assert torch.equal(restored(Ranges(RangesParams()), state, "detector.quality").low, state["detector.quality.low"])


def test_a_table_of_few_rows_learns_no_combinations() -> None:
    """By default fewer than a hundred rows teach no combination; asked for, combinations of so few rows are refused."""
    few = Reference(Batch(people(99, 0)), None, SCHEMA)
    assert not Ranges(RangesParams()).fit(few).combinations.fitted
    with pytest.raises(ValueError, match="at least 100 reference rows, and there are 99"):
        Ranges(RangesParams(combinations=True)).fit(few)


@pytest.mark.parametrize("params", [{"rules": ["a < 1"]}, {"combinations": True}])
def test_rules_and_combinations_need_a_table(params: dict[str, object]) -> None:
    """For an image or a tensor both are refused with a sentence."""
    schema = InputSchema(kind="tensor", shape=(4,))
    with pytest.raises(ValueError, match="for a table, and the input is of kind tensor: leave both out"):
        Ranges(RangesParams.model_validate(params)).fit(Reference(Batch(torch.rand(200, 4)), None, schema))


def test_mistakes_in_rules_are_found_before_fitting() -> None:
    """A rule that cannot be read is refused by the constructor, and a rule that is listed twice by the parameters."""
    with pytest.raises(ValueError, match="character 5: '=' has no meaning"):
        Ranges(RangesParams(rules=("age = 3",)))
    with pytest.raises(ValueError, match="a rule is listed twice"):
        RangesParams(rules=("age < 3", "age  <  3"))


@pytest.mark.parametrize("params", [{}, {"combinations": False}, {"rules": ["weight < height - 60"]}])
def test_sound_rows_of_a_table_are_found_as_faulty_ones_are(params: dict[str, object]) -> None:
    """The quick way for sound rows in inference mode gives the same bits of score, violations and causes."""
    detector = fitted(**params)
    rows = people(60, 2)
    rows[10:20, 0] *= 2.54
    rows[20:30, 4] = 1000.5
    rows[30:40, 2] = -1.0
    rows[40:50, 4] = 1001.0
    for row in [*torch.split(rows, 1), rows, rows[:10]]:
        same_in_inference_mode(detector, row)
