"""What is searched of a detector's parameters: the types and bounds that it declares."""

from typing import Annotated, Literal

import optuna
import pytest
from pydantic import Field

from guards.cli.tuning.search_space import Range, Searched, searched_fields, suggested, written
from guards.config.plugins import registered
from guards.detectors.base import Params


class Made(Params):
    """Parameters of every type."""

    kind: Literal["made"] = "made"
    flag: bool = False
    either: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = "auto"
    maybe: int | None = Field(default=None, ge=1, le=1000)
    count: int = Field(default=20, ge=1)
    rate: float = Field(default=0.5, gt=0, lt=1)
    unbounded: float = 4.0
    zero: float = 0.0
    only: Literal["one"] = "one"
    names: tuple[str, ...] = ()
    text: str = "t"


def test_every_type_has_its_values() -> None:
    """Booleans, literals and numbers are searched; other types, and types with a single value, are not."""
    assert searched_fields(Made) == [
        Searched("flag", (True, False), None),
        Searched("either", ("auto",), Range(0, 1, whole=False, log=False)),
        Searched("maybe", (None,), Range(1, 1000, whole=True, log=True)),
        Searched("count", (), Range(2, 200, whole=True, log=True)),
        Searched("rate", (), Range(pytest.approx(1e-6), pytest.approx(1 - 1e-6), whole=False, log=True)),
        Searched("unbounded", (), Range(pytest.approx(0.4), 40.0, whole=False, log=True)),
    ]


def test_suggestions_are_valid_and_start_where_asked() -> None:
    """Whatever is suggested is valid, and a search starts from given values."""
    fields, found = searched_fields(Made), []
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    start = Made(flag=True, either=0.25, maybe=7, count=3, rate=0.1, unbounded=1.5).model_dump()
    study.enqueue_trial(written("made", fields, start))

    def objective(trial: optuna.Trial) -> float:
        found.append(suggested(trial, "made", fields))
        return 0.0

    study.optimize(objective, n_trials=40)
    assert found[0] == {name: start[name] for name in found[0]}
    for values in found:
        Made.model_validate(values)
    assert {values["either"] == "auto" for values in found} == {True, False}
    assert {values["maybe"] is None for values in found} == {True, False}


def test_a_value_out_of_range_is_left_to_the_search() -> None:
    """A config's value beyond what is searched does not end the search."""
    assert "made.count" not in written("made", searched_fields(Made), Made(count=100_000).model_dump())


@pytest.mark.parametrize("kind", sorted(registered("detectors")))
def test_registered_detectors_can_be_searched(kind: str) -> None:
    """The defaults of each registered detector lie within what is searched."""
    params = registered("detectors")[kind].Params
    if any(field.is_required() for field in params.model_fields.values()):
        pytest.skip("the parameters have no defaults")
    fields = searched_fields(params)
    chosen = written(kind, fields, params().model_dump())
    for field in fields:
        assert f"{kind}.{field.name}" in chosen or f"{kind}.{field.name} is" in chosen
