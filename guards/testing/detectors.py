"""The rules that every detector must keep, one check in each method."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from guards.calibration.p_values import Calibration
from guards.detectors.base import Detector, Params
from guards.testing.comparison import equal, require_close, seed_everything
from guards.testing.example import (
    ROWS,
    STRANGE,
    Example,
    Kind,
    Task,
    check_constructor,
    check_params,
    example,
    reloaded,
    require,
    take,
    tensors_of,
    with_strange_row,
)
from guards.types import Batch, ModelOutput

__all__ = ["DetectorChecks"]

BOUNDARIES = ((0, 1, 2, 9, ROWS), (0, 64, 128, 192, ROWS))
LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
STANDARD_DEVIATIONS = 5.0


@dataclass(frozen=True)
class DetectorChecks:
    """The checks of one detector on one kind of input; every public method is a check."""

    _detector: type[Detector]
    _params: Params
    _kind: Kind
    _task: Task

    def constructor_takes_params(self) -> None:
        """The constructor takes the parameters, and needs nothing else."""
        check_constructor(self._detector, ("params",))

    def fit_gives_itself(self) -> None:
        """``fit`` returns the detector on which it was called."""
        detector = self._detector(self._params)
        with torch.no_grad():
            require(detector.fit(self._example().reference) is detector, "fit must return self")

    def score_is_one_float_per_row(self) -> None:
        """A score is (n,) float32 for any number n of rows, down to one row."""
        detector, rows = self._fitted()
        for count in (len(rows), 2, 1):
            score = _score(detector, rows[:count])
            require(isinstance(score, Tensor), f"a score of type {type(score).__name__}, expected a tensor")
            require(score.shape == (count,), f"a score of shape {tuple(score.shape)} for {count} rows")
            require(score.dtype == torch.float32, f"a score of {score.dtype}, expected torch.float32")

    def score_is_deterministic(self) -> None:
        """The same rows get bitwise the same scores, whatever the random state."""
        detector, rows = self._fitted()
        seed_everything(1)
        first = _score(detector, rows)
        seed_everything(2)
        require(equal(first, _score(detector, rows)), "the same rows scored twice have different scores")

    def fit_is_deterministic(self) -> None:
        """The same reference and parameters give the same detector, whatever the random state."""
        seed_everything(1)
        detector, rows = self._fitted()
        seed_everything(2)
        again, _ = self._fitted()
        require_close(_score(detector, rows), _score(again, rows), "two fits on one reference give different scores")

    def rows_are_scored_alone(self) -> None:
        """A row's score does not depend on how the batch is cut, down to one row."""
        detector, rows = self._fitted()
        for answer in _answers(detector):
            whole = answer(rows)
            for cuts in BOUNDARIES:
                pieces = [answer(rows[a:b]) for a, b in pairwise(cuts)]
                require_close(whole, torch.cat(pieces), "a row's score depends on the batch it comes in")

    def rows_are_scored_in_any_order(self) -> None:
        """A row's score does not depend on its place in the batch, or on the other rows."""
        detector, rows = self._fitted()
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
        for answer in _answers(detector):
            require_close(answer(rows)[order], answer(take(rows, order)), "a row's score depends on its place")

    def strange_row_costs_itself_alone(self) -> None:
        """NaN, infinity or a huge number in one row does not change the scores of other rows."""
        detector, rows = self._fitted()
        others = torch.arange(len(rows)) != 3  # noqa: PLR2004 - any row
        for value in STRANGE:
            strange = with_strange_row(rows, 3, value)
            for answer in _answers(detector):
                before, after = answer(rows)[others], answer(strange)[others]
                require_close(before, after, f"{value} in one row changes another row's score")

    def nothing_is_mutated(self) -> None:
        """Neither fitting nor scoring changes its arguments."""
        made = self._example()
        before = [tensor.clone() for tensor in tensors_of(made)]
        with torch.no_grad():
            detector = self._detector(self._params).fit(made.reference)
        require(all(map(equal, before, tensors_of(made))), "fit writes into the reference")
        for answer in _answers(detector):
            answer(made.rows)
        require(all(map(equal, before, tensors_of(made))), "score, causes or violations write into the batch")

    def scoring_teaches_nothing(self) -> None:
        """A detector learns from the reference alone: scoring rows does not change later scores."""
        detector, rows = self._fitted()
        state = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
        first = _score(detector, rows)
        for value in STRANGE:
            _score(detector, with_strange_row(rows, 0, value))
        same = all(equal(tensor, state[name]) for name, tensor in detector.state_dict().items())
        require(same, "scoring changes the detector's state")
        require(equal(first, _score(detector, rows)), "scoring other rows changes the scores of rows")

    def state_survives_a_bundle(self) -> None:
        """A new detector with the buffers of a fitted detector gives bitwise the same scores."""
        detector, rows = self._fitted()
        restored = reloaded(self._detector(self._params), detector)
        known = restored.state_dict().keys() == detector.state_dict().keys()
        require(known, "fit makes buffers that a new instance lacks; register all buffers in the constructor")
        for before, after in zip(_answers(detector), _answers(restored), strict=True):
            same = equal(before(rows), after(rows))
            require(same, "a detector restored from its buffers gives other scores; keep fitted state in buffers")

    def unlabelled_reference_is_fitted_or_refused(self) -> None:
        """Without labels ``fit`` works, or raises a ValueError that says why not."""
        reference = replace(self._example().reference, y=None)
        try:
            with torch.no_grad():
                self._detector(self._params).fit(reference)
        except ValueError as refused:
            require(bool(str(refused)), "the ValueError needs a message")

    def model_output_is_declared(self) -> None:
        """A detector without ``needs_output`` gives the same scores before the model has run."""
        if not self._detector.needs_output:
            detector, rows = self._fitted()
            early = replace(rows, output=None, groups={})
            require(equal(_score(detector, rows), _score(detector, early)), "the score depends on the model's output")

    def views_are_made_of_each_row_alone(self) -> None:
        """Views are (v, n, ...) float32 like the rows, and a row's views depend on this row alone."""
        if not self._detector.reads_views:
            return
        x = self._example().rows.x
        views = self._detector(self._params).views(x)
        shape = tuple(views.shape[1:])
        require(shape == tuple(x.shape) and views.dtype == x.dtype, f"views (v, n, ...) of {shape} and {views.dtype}")
        require(equal(views, self._detector(self._params).views(x)), "the same rows have other views the second time")
        for cuts in BOUNDARIES:
            pieces = [self._detector(self._params).views(x[a:b]) for a, b in pairwise(cuts)]
            require(equal(views, torch.cat(pieces, 1)), "a row's views depend on the batch it comes in")
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        again = self._detector(self._params).views(x[order])
        require(equal(views[:, order], again), "a row's views depend on its place")

    def params_are_closed(self) -> None:
        """The parameters refuse an unknown key, and are the same after a round trip through JSON."""
        check_params(self._params)

    def causes_have_names(self) -> None:
        """Causes are None, or (n, c) bool with c different names; violations are None, or (n,) bool."""
        detector, rows = self._fitted()
        causes, violations, names = detector.causes(rows), detector.violations(rows), detector.cause_names()
        require(len(set(names)) == len(names), "two causes have the same name")
        shape = None if causes is None else (tuple(causes.shape), causes.dtype)
        require(shape in (None, ((len(rows), len(names)), torch.bool)), f"causes are {shape}, with {len(names)} names")
        shape = None if violations is None else (tuple(violations.shape), violations.dtype)
        require(shape in (None, ((len(rows),), torch.bool)), f"violations are {shape}")

    def examine_says_what_its_parts_say(self) -> None:
        """``examine`` finds what ``score``, ``violations`` and ``causes`` find; ``causes=False`` leaves causes out."""
        detector, rows = self._fitted()
        with torch.inference_mode():
            full, brief = detector.examine(rows, causes=True), detector.examine(rows, causes=False)
            parts = (detector.score(rows), detector.violations(rows), detector.causes(rows))
        require(brief.causes is None, "examine gives causes although causes=False")
        agreed = zip((full.score, full.violated, full.causes, brief.score), (*parts, parts[0]), strict=True)
        same = all(a is b if a is None or b is None else equal(a, b) for a, b in agreed)
        require(same, "examine gives another score, violations or causes than the methods of that name")

    def clean_rows_have_honest_p_values(self) -> None:
        """After calibration on clean rows, the p-values of other clean rows are no smaller than uniform p-values."""
        detector, rows = self._fitted()
        calibration = Calibration.from_scores(_score(detector, self._example().calibration))
        p_value = torch.cat([calibration.p_value(_score(detector, rows[i : i + 1])) for i in range(len(rows))])
        n, m = len(calibration), len(rows)
        for level in LEVELS:
            rate = int(level * (n + 1)) / (n + 1)
            spread = (m * rate * (1 - rate) * (n + 1 + m) / (n + 2)) ** 0.5  # of the beta-binomial law
            hits = int((p_value <= level).sum())
            honest = hits <= m * rate + STANDARD_DEVIATIONS * spread
            require(honest, f"{hits} of {m} clean rows have p <= {level:g}, but {m * rate:.1f} are expected")

    def device_is_followed(self) -> None:
        """After a move to a CUDA device the detector scores rows on that device alike; no check without a device."""
        if torch.cuda.is_available():
            detector, rows = self._fitted()
            assert rows.output is not None  # noqa: S101
            output = ModelOutput(*(tensor.cuda() for tensor in tensors_of(rows.output)))
            moved = Batch(rows.x.cuda(), {name: codes.cuda() for name, codes in rows.groups.items()}, output)
            here, there = _score(detector, rows), _score(detector.cuda(), moved)
            require(there.is_cuda, "a score left the device of its rows")
            require_close(here, there.cpu(), "another device gives other scores")

    def _example(self) -> Example:
        return example(self._kind, self._task)

    def _fitted(self) -> tuple[Detector, Batch]:
        made = self._example()
        with torch.no_grad():
            return self._detector(self._params).fit(made.reference), made.rows


@torch.inference_mode()
def _score(detector: Detector, rows: Batch) -> Tensor:
    return detector.score(rows)


def _answers(detector: Detector) -> list[Callable[[Batch], Tensor]]:
    """Give everything that a detector computes for rows, as functions that return a tensor."""

    @torch.inference_mode()
    def causes(rows: Batch) -> Tensor:
        found = detector.causes(rows)
        return torch.zeros(len(rows)) if found is None else found.float()

    @torch.inference_mode()
    def violations(rows: Batch) -> Tensor:
        found = detector.violations(rows)
        return torch.zeros(len(rows)) if found is None else found.float()

    return [lambda rows: _score(detector, rows), causes, violations]
