"""The conformance kit passes sound detectors and monitors, and each check catches the cheat that it is for."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pytest
import torch
from failing_checks import failing
from torch import Tensor

from guards import Batch, Detector, Finding, Monitor, MonitorParams, Params, Reference, Result, Statistic
from guards.monitors.base import Context, Series
from guards.testing import (
    detector_checks,
    detector_conformance,
    example,
    monitor_checks,
    monitor_conformance,
)
from guards.testing.example import KINDS


class HonestParams(Params):
    kind: Literal["honest"] = "honest"
    power: float = 2.0


class Honest(Detector):
    """Distance of a row to the reference's mean, missing values left out."""

    Params: ClassVar[type[Params]] = HonestParams
    mean: Tensor

    def __init__(self, params: HonestParams) -> None:
        super().__init__()
        self.params = params
        self.register_buffer("mean", torch.empty(0))

    def fit(self, reference: Reference) -> Self:
        self.mean = reference.batch.x.flatten(1).nan_to_num(0.0).mean(0)
        return self

    def score(self, batch: Batch) -> Tensor:
        flat = batch.x.flatten(1).nan_to_num(0.0)
        return (flat - self.mean).abs().pow(self.params.power).sum(1)

    def causes(self, batch: Batch) -> Tensor | None:
        return batch.x.flatten(1)[:, :2].isnan()

    def cause_names(self) -> tuple[str, ...]:
        return ("first", "second")

    def violations(self, batch: Batch) -> Tensor | None:
        return batch.x.flatten(1)[:, 0] > 100


class WantsTheSchema(Honest):
    def __init__(self, params: HonestParams, schema: object) -> None:
        super().__init__(params)
        self.schema = schema


class NotItself(Honest):
    def fit(self, reference: Reference) -> Self:
        super().fit(reference)
        return None  # type: ignore[return-value]


class Column(Honest):
    def score(self, batch: Batch) -> Tensor:
        return super().score(batch)[:, None]


class Double(Honest):
    def score(self, batch: Batch) -> Tensor:
        return super().score(batch).double()


class NoTensor(Honest):
    def score(self, batch: Batch) -> Tensor:
        return super().score(batch).numpy()  # type: ignore[return-value]


class PeeksAtTheBatch(Honest):
    def score(self, batch: Batch) -> Tensor:
        return super().score(batch) - super().score(batch).mean()


class PeeksAtItsPlace(Honest):
    def score(self, batch: Batch) -> Tensor:
        return super().score(batch) + torch.arange(len(batch))


class Mutates(Honest):
    def score(self, batch: Batch) -> Tensor:
        batch.x.nan_to_num_(0.0)
        return super().score(batch)


class MutatesFeatures(Honest):
    def score(self, batch: Batch) -> Tensor:
        if batch.output is not None:
            batch.output.features.mul_(0.5)
        return super().score(batch)


class MutatesTheReference(Honest):
    def fit(self, reference: Reference) -> Self:
        reference.batch.groups["region"].zero_()
        return super().fit(reference)


class Random(Honest):
    def score(self, batch: Batch) -> Tensor:
        return super().score(batch) + torch.rand(len(batch))


class RandomFit(Honest):
    def fit(self, reference: Reference) -> Self:
        super().fit(reference)
        self.mean = self.mean + torch.from_numpy(np.random.standard_normal(self.mean.shape)).float()  # noqa: NPY002
        return self


class PlainAttribute(Honest):
    def fit(self, reference: Reference) -> Self:
        super().fit(reference)
        self.scale = 3.0
        return self

    def score(self, batch: Batch) -> Tensor:
        return super().score(batch) * getattr(self, "scale", 1.0)


class LateBuffer(Honest):
    def fit(self, reference: Reference) -> Self:
        self.register_buffer("late", torch.ones(1))
        return super().fit(reference)


class Learns(Honest):
    def score(self, batch: Batch) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * batch.x.flatten(1).nan_to_num(0.0).mean(0)
        return super().score(batch)


class SpoiltByInfinity(Honest):
    def score(self, batch: Batch) -> Tensor:
        return super().score(batch) + batch.x.isinf().any()


class CrashesOnInfinity(Honest):
    def score(self, batch: Batch) -> Tensor:
        if batch.x.isinf().any():
            raise RuntimeError("infinite")
        return super().score(batch)


class NeedsLabels(Honest):
    def fit(self, reference: Reference) -> Self:
        assert reference.y is not None
        return super().fit(reference)


class SaysItNeedsLabels(Honest):
    def fit(self, reference: Reference) -> Self:
        if reference.y is None:
            raise ValueError("it needs labels")
        return super().fit(reference)


class ReadsTheOutput(Honest):
    def score(self, batch: Batch) -> Tensor:
        assert batch.output is not None
        return batch.output.features.norm(dim=1)


class OpenParams(HonestParams, extra="ignore"):
    pass


class Opens(Honest):
    Params: ClassVar[type[Params]] = OpenParams


class MisnamesCauses(Honest):
    def cause_names(self) -> tuple[str, ...]:
        return ("first",)


class FloatCauses(Honest):
    def causes(self, batch: Batch) -> Tensor | None:
        return super().causes(batch).float()  # type: ignore[union-attr]


class SameNames(Honest):
    def cause_names(self) -> tuple[str, ...]:
        return ("first", "first")


class WideViolations(Honest):
    def violations(self, batch: Batch) -> Tensor | None:
        return batch.x.flatten(1) > 100


class PeeksInCauses(Honest):
    def causes(self, batch: Batch) -> Tensor | None:
        flat = batch.x.flatten(1)[:, :2]
        return flat > flat.nan_to_num(0.0).mean(0)


class SmallBatchesAreStrange(Honest):
    def score(self, batch: Batch) -> Tensor:
        return super().score(batch) + (1000 if len(batch) < 9 else 0)


class ExaminesOtherwise(Honest):
    def examine(self, batch: Batch, *, causes: bool) -> Finding:
        return replace(super().examine(batch, causes=causes), violated=None)


class VolunteersCauses(Honest):
    def examine(self, batch: Batch, *, causes: bool) -> Finding:  # noqa: ARG002
        return super().examine(batch, causes=True)


class ViewsOfTheBatch(Honest):
    reads_views = True

    def views(self, x: Tensor) -> Tensor:
        return (x - x.nan_to_num(0.0).mean(0))[None]


class ViewsInAnotherOrder(Honest):
    reads_views = True

    def views(self, x: Tensor) -> Tensor:
        return x.flip(0)[None]


class ViewsBehindTheRows(Honest):
    reads_views = True

    def views(self, x: Tensor) -> Tensor:
        return torch.stack([x, x], 1)


CHEATS: dict[type[Detector], str] = {
    ViewsOfTheBatch: "views_are_made_of_each_row_alone",
    ViewsInAnotherOrder: "views_are_made_of_each_row_alone",
    ViewsBehindTheRows: "views_are_made_of_each_row_alone",
    ExaminesOtherwise: "examine_says_what_its_parts_say",
    VolunteersCauses: "examine_says_what_its_parts_say",
    WantsTheSchema: "constructor_takes_params",
    NotItself: "fit_gives_itself",
    Column: "score_is_one_float_per_row",
    Double: "score_is_one_float_per_row",
    NoTensor: "score_is_one_float_per_row",
    PeeksAtTheBatch: "rows_are_scored_alone",
    PeeksAtItsPlace: "rows_are_scored_in_any_order",
    Mutates: "nothing_is_mutated",
    MutatesFeatures: "nothing_is_mutated",
    MutatesTheReference: "nothing_is_mutated",
    Random: "score_is_deterministic",
    RandomFit: "fit_is_deterministic",
    PlainAttribute: "state_survives_a_bundle",
    LateBuffer: "state_survives_a_bundle",
    Learns: "scoring_teaches_nothing",
    SpoiltByInfinity: "strange_row_costs_itself_alone",
    CrashesOnInfinity: "strange_row_costs_itself_alone",
    NeedsLabels: "unlabelled_reference_is_fitted_or_refused",
    ReadsTheOutput: "model_output_is_declared",
    Opens: "params_are_closed",
    MisnamesCauses: "causes_have_names",
    FloatCauses: "causes_have_names",
    SameNames: "causes_have_names",
    WideViolations: "causes_have_names",
    PeeksInCauses: "rows_are_scored_alone",
    SmallBatchesAreStrange: "clean_rows_have_honest_p_values",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("detector", [Honest, SaysItNeedsLabels])
def test_honest_detector_passes(detector: type[Detector], kind: Any) -> None:
    """A detector that keeps every promise fails no check on any kind of input."""
    assert failing(detector_checks(detector, kind=kind)) == set()


@pytest.mark.parametrize(("cheat", "check"), CHEATS.items(), ids=lambda x: getattr(x, "__name__", None))
def test_cheating_detector_is_caught(cheat: type[Detector], check: str) -> None:
    """A detector that breaks one promise fails the check that holds it."""
    assert check in failing(detector_checks(cheat, kind="tabular"))


def test_every_detector_check_has_a_cheat() -> None:
    """Each check is shown to fail for some cheat; the device check needs a device."""
    assert set(CHEATS.values()) == set(detector_checks(Honest, kind="image")) - {"device_is_followed"}


@detector_conformance(Honest, HonestParams(power=1.0), kinds=("tabular", "image"))
class TestDecorated:
    """The decorator's methods are collected and pass; this class is the proof."""


def test_decorator_gives_a_method_for_each_check_and_kind() -> None:
    """The decorated class has one documented test method for each check and kind."""
    names = [f"test_{check}_{kind}" for kind in ("tabular", "image") for check in detector_checks(Honest, kind="image")]
    assert [name for name in vars(TestDecorated) if name.startswith("test_")] == names
    assert TestDecorated.test_fit_gives_itself_image.__doc__.startswith("``fit`` returns")


def test_decorated_methods_need_no_pytest() -> None:
    """A cheat's method raises AssertionError when called by any runner."""
    decorated = detector_conformance(Column, kinds=("tensor",))(type("Decorated", (), {}))
    with pytest.raises(AssertionError, match="a score of shape"):
        decorated().test_score_is_one_float_per_row_tensor()


class CounterParams(MonitorParams):
    kind: Literal["counter"] = "counter"


class Counter(Monitor):
    """Counts rows whose first value is above the reference's mean."""

    Params: ClassVar[type[MonitorParams]] = CounterParams
    mean: Tensor

    def __init__(self, params: MonitorParams, context: Context) -> None:
        super().__init__(params, context)
        self.register_buffer("mean", torch.zeros(()))
        self.rows, self.high = 0, 0

    def fit(self, reference: Reference, outcome: Result) -> Self:  # noqa: ARG002
        self.mean = _first(reference.batch).nanmean()
        return self

    def observe(self, batch: Batch, outcome: Result) -> None:  # noqa: ARG002
        self.rows += len(batch)
        self.high += int((_first(batch) > self.mean).sum())

    def report(self) -> list[Statistic]:
        return [Statistic("high", self.high / self.rows if self.rows else None, None, self.rows)]

    def series(self) -> list[Series]:
        counts = {"yes": self.high, "no": self.rows - self.high}
        return [Series("high_total", "counter", {"high": name}, float(count)) for name, count in counts.items()]


def _first(batch: Batch) -> Tensor:
    return batch.x.flatten(1)[:, 0]


class OrderedCounter(Counter):
    """Honest: says that the order of the rows matters."""

    ordered = True


class MonitorNotItself(Counter):
    def fit(self, reference: Reference, outcome: Result) -> Self:
        super().fit(reference, outcome)
        return None  # type: ignore[return-value]


class WantsAStore(Counter):
    def __init__(self, params: MonitorParams, context: Context, store: object) -> None:
        super().__init__(params, context)
        self.store = store


class Nameless(Counter):
    def __init__(self, params: MonitorParams, context: Context) -> None:
        super().__init__(params, context)
        self.name = "mine"


class CountsInFit(Counter):
    def fit(self, reference: Reference, outcome: Result) -> Self:
        self.observe(reference.batch, outcome)
        return super().fit(reference, outcome)


class CountsBatches(Counter):
    def observe(self, batch: Batch, outcome: Result) -> None:
        super().observe(batch, outcome)
        self.rows += 1


class CountsNothing(Counter):
    def observe(self, batch: Batch, outcome: Result) -> None:
        pass


class KeepsTheLast(Counter):
    def observe(self, batch: Batch, outcome: Result) -> None:
        super().observe(batch, outcome)
        self.last = float(_first(batch)[-1].nan_to_num(0.0))

    def series(self) -> list[Series]:
        return [*super().series(), Series("last", "gauge", {}, getattr(self, "last", 0.0))]


class CountsReports(Counter):
    def report(self) -> list[Statistic]:
        self.rows += 1
        return super().report()


class LabelsByValue(Counter):
    def observe(self, batch: Batch, outcome: Result) -> None:
        super().observe(batch, outcome)
        self.seen = {*getattr(self, "seen", ()), *_first(batch).tolist()}

    def series(self) -> list[Series]:
        seen = getattr(self, "seen", ())
        return [*super().series(), *(Series("seen_total", "counter", {"value": str(v)}, 1.0) for v in seen)]


class Twice(Counter):
    def series(self) -> list[Series]:
        return [*super().series(), *super().series()]


class Falls(Counter):
    def series(self) -> list[Series]:
        return [*super().series(), Series("left_total", "counter", {}, float(-self.rows))]


class Infinite(Counter):
    def observe(self, batch: Batch, outcome: Result) -> None:
        super().observe(batch, outcome)
        self.sum = getattr(self, "sum", 0.0) + float(_first(batch).sum())

    def series(self) -> list[Series]:
        return [*super().series(), Series("sum", "gauge", {}, getattr(self, "sum", 0.0))]


class CrashesOnCrash(Counter):
    def observe(self, batch: Batch, outcome: Result) -> None:
        np.histogram(outcome.verdict.p_value.numpy(), bins=[0, 0.5, 1])
        if outcome.verdict.p_value.isnan().any():
            raise ValueError("a p-value is NaN")
        super().observe(batch, outcome)


class MonitorMutates(Counter):
    def observe(self, batch: Batch, outcome: Result) -> None:
        super().observe(batch, outcome)
        outcome.verdict.action.zero_()


class MonitorPlainState(Counter):
    def fit(self, reference: Reference, outcome: Result) -> Self:
        super().fit(reference, outcome)
        self.level = float(self.mean) + 0.5
        return self

    def observe(self, batch: Batch, outcome: Result) -> None:
        self.high += int((_first(batch) > getattr(self, "level", 0.0)).sum())
        super().observe(batch, outcome)


class OpenMonitorParams(CounterParams, extra="allow"):
    pass


class AlarmsFall(Counter):
    def alarms(self) -> dict[str, int]:
        return {"row": -self.rows}


class AlarmsInFit(Counter):
    def alarms(self) -> dict[str, int]:
        return {"row": 1}


class AlarmsGrowStreams(Counter):
    def alarms(self) -> dict[str, int]:
        return {f"batch:{at}": 0 for at in range(self.rows)}


class AlarmsOfNumpy(Counter):
    def alarms(self) -> dict[str, int]:
        return {"row": np.int64(0)}  # type: ignore[dict-item]


class ReportsNan(Counter):
    def report(self) -> list[Statistic]:
        return [Statistic("high", float("nan"))]


class NoState(Counter):
    def state(self) -> Any:
        return "fine"


class Remembers(Counter):
    """An honest one."""

    def snapshot(self) -> dict[str, Any]:
        return {"counts": np.array([self.rows, self.high])}

    def restore(self, state: Any) -> None:
        if state.keys() != {"counts"}:
            raise ValueError("it is no snapshot")
        self.rows, self.high = state["counts"].tolist()


class Forgets(Remembers):
    def restore(self, state: Any) -> None:
        super().restore(state)
        self.rows = 0


class TakesAnything(Remembers):
    def restore(self, state: Any) -> None:
        super().restore({"counts": state["counts"]})


class RemembersHalf(Remembers):
    def restore(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self.rows = int(state["counts"][0])


class RemembersOnTop(Remembers):
    def restore(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self.rows += int(state["counts"][0])
        self.high += int(state["counts"][1])


class RemembersWords(Remembers):
    def snapshot(self) -> dict[str, np.ndarray[Any, Any]]:
        return super().snapshot() | {"name": np.array([self.name])}


MONITOR_CHEATS: dict[type[Monitor], str] = {
    WantsAStore: "constructor_takes_params_and_context",
    MonitorNotItself: "fit_gives_itself",
    Nameless: "name_is_the_configs",
    CountsInFit: "fit_counts_nothing",
    CountsBatches: "batches_do_not_matter",
    CountsNothing: "batches_do_not_matter",
    KeepsTheLast: "order_does_not_matter",
    CountsReports: "reading_changes_nothing",
    LabelsByValue: "series_are_fixed_at_construction",
    Twice: "series_are_fixed_at_construction",
    Falls: "series_are_fixed_at_construction",
    Infinite: "series_are_fixed_at_construction",
    RemembersHalf: "snapshots_go_on",
    RemembersOnTop: "snapshots_go_on",
    RemembersWords: "snapshots_go_on",
    CrashesOnCrash: "crashed_guards_are_counted_too",
    MonitorMutates: "nothing_is_mutated",
    MonitorPlainState: "state_survives_a_bundle",
    Forgets: "snapshots_go_on",
    TakesAnything: "snapshots_go_on",
    AlarmsFall: "alarms_are_counts",
    AlarmsInFit: "alarms_are_counts",
    AlarmsGrowStreams: "alarms_are_counts",
    AlarmsOfNumpy: "alarms_are_counts",
    ReportsNan: "reading_changes_nothing",
    NoState: "reading_changes_nothing",
}


@pytest.mark.parametrize("kind", KINDS)
def test_honest_monitor_passes(kind: Any) -> None:
    """A monitor that keeps every promise fails no check on any kind of input."""
    assert failing(monitor_checks(Counter, CounterParams(name="c"), kind=kind)) == set()
    assert failing(monitor_checks(Remembers, CounterParams(name="c"), kind=kind)) == set()


@pytest.mark.parametrize(("cheat", "check"), MONITOR_CHEATS.items(), ids=lambda x: getattr(x, "__name__", None))
def test_cheating_monitor_is_caught(cheat: type[Monitor], check: str) -> None:
    """A monitor that breaks one promise fails the check that holds it."""
    assert check in failing(monitor_checks(cheat, CounterParams(name="c"), kind="tensor"))


def test_open_monitor_parameters_are_caught() -> None:
    """Parameters that take unknown keys fail the check for them."""
    params = OpenMonitorParams(name="c")
    assert failing(monitor_checks(Counter, params, kind="tensor")) == {"params_are_closed"}


def test_every_monitor_check_has_a_cheat() -> None:
    """Each check is shown to fail for some cheat."""
    checks = set(monitor_checks(Counter, CounterParams(name="c"), kind="image"))
    assert {*MONITOR_CHEATS.values(), "params_are_closed"} == checks


def test_ordered_monitors_may_depend_on_the_order() -> None:
    """A monitor that is declared ordered is spared the check on the order of the rows, and no other."""
    spared = set(monitor_checks(Counter, CounterParams(name="c"), kind="image")) - set(
        monitor_checks(OrderedCounter, CounterParams(name="c"), kind="image")
    )
    assert spared == {"order_does_not_matter"}


@monitor_conformance(Counter, CounterParams(name="c"), kinds=("image",), task="regression")
class TestDecoratedMonitor:
    """The decorator's methods are collected and pass; this class is the proof."""


@pytest.mark.parametrize("kind", KINDS)
def test_example_rows_are_the_same_each_time(kind: Any) -> None:
    """The made-up rows are a function of their seed, and not of the random state."""
    torch.manual_seed(1)
    one = example(kind)
    torch.manual_seed(2)
    two, other = example(kind), example(kind, seed=1)
    assert torch.equal(one.rows.x.nan_to_num(7), two.rows.x.nan_to_num(7))
    assert not torch.equal(one.rows.x.nan_to_num(7), other.rows.x.nan_to_num(7))


def test_example_table_has_missing_and_unseen_values() -> None:
    """The table's held-out rows have missing numbers, missing categories and unseen ones; its reference no unseen."""
    made = example("tabular")
    x = made.rows.x
    assert x[:, :3].isnan().any()
    assert x[:, 3].isnan().any()
    assert (x[:, 3] == -1).any()
    assert not (made.reference.batch.x == -1).any()
