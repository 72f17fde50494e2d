"""The search: Optuna's trials, each of which chooses a detector, and is stopped early if it does worse than others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import optuna
from optuna.trial import Trial

from guards.cli.tuning.candidates import Candidate
from guards.cli.tuning.feature_layers import DEFAULT
from guards.cli.tuning.latency import interleaved
from guards.cli.tuning.search_space import suggested, written
from guards.cli.tuning.workbench import Choice, Found, Workbench
from guards.config.plugins import registered

__all__ = ["Search", "Tried"]

RUNGS = (0.25, 0.5, 1.0)
"""The parts of the reference rows and of the suspect rows on which a trial is measured, one after the other."""
FEWEST = 100
"""A rung with fewer reference rows than this, or fewer suspect rows than a fifth of it, is left out."""
STARTING = 10
"""A trial is not compared with others before so many trials are done."""
DIGITS = 3
State = Literal["complete", "pruned", "unsuited"]


@dataclass(frozen=True, slots=True)
class Tried:
    """A trial: what it chose, what it found on the rows of the search, and how long its guards take for a row.

    ``found`` is None if the trial was stopped early or did not suit; ``why`` then says why.
    """

    number: int
    choice: Choice
    state: State
    found: Found | None
    latency_us: float | None
    why: str = ""


@dataclass(eq=False)
class Search:
    """Searches choices for one guard.

    The first trials are the config's own choice, each detector with its defaults, and the config's own detector with
    each layer's features.
    """

    bench: Workbench
    candidates: Sequence[Candidate]
    layers: Sequence[str]
    baseline: Choice
    shares: tuple[float, float]
    """The least and the largest share; two equal numbers if the share is not searched."""
    seed: int
    tried: list[Tried] = field(default_factory=list)
    _latency: dict[str, float] = field(default_factory=dict)

    @cached_property
    def baseline_us(self) -> float:
        """How many microseconds all guards take for a row now."""
        return interleaved(self.bench.timed(self.baseline))[0]

    @cached_property
    def baseline_found(self) -> Found:
        """What all guards find now."""
        return self.bench.measure(self.baseline, *self.bench.rows)

    def run(self, trials: int, advance: Callable[[], None]) -> list[Tried]:
        """Run the trials, and list them; the same seed gives the same choices."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=self.seed, n_startup_trials=STARTING),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTING),
        )
        plain = [Choice({"kind": each.kind}, DEFAULT, self.baseline.share) for each in self.candidates]
        elsewhere = [replace(self.baseline, layer=layer) for layer in self.layers]
        for choice in [self.baseline, *plain, *elsewhere]:
            study.enqueue_trial(self._written(choice), skip_if_exists=True)
        study.optimize(self._objective, n_trials=trials, callbacks=[lambda _study, _trial: advance()])
        return self.tried

    def _objective(self, trial: Trial) -> float:
        choice = self._choose(trial)
        try:
            found = self._climb(trial, choice)
        except (ValueError, RuntimeError) as unfit:
            self.tried.append(Tried(trial.number, choice, "unsuited", None, None, str(unfit)))
            raise optuna.TrialPruned from unfit
        if found is None:
            self.tried.append(Tried(trial.number, choice, "pruned", None, None, "others do better on fewer rows"))
            raise optuna.TrialPruned
        if choice.key not in self._latency:
            took, baseline = interleaved(self.bench.timed(choice), self.bench.timed(self.baseline))
            self._latency[choice.key] = self.baseline_us * took / baseline
        self.tried.append(Tried(trial.number, choice, "complete", found, self._latency[choice.key]))
        return found.objective

    def _climb(self, trial: Trial, choice: Choice) -> Found | None:
        """Measure a choice on more and more rows; None if the trial should stop."""
        reference, suspects = self.bench.rows
        found: Found | None = None
        for step, part in enumerate(RUNGS):
            rows, strange = round(reference * part), round(suspects * part)
            if part < 1 and (rows < FEWEST or strange < FEWEST / 5):
                continue
            found = self.bench.measure(choice, rows, strange)
            trial.report(found.objective, step)
            if part < 1 and trial.should_prune():
                return None
        return found

    def _choose(self, trial: Trial) -> Choice:
        kinds = [candidate.kind for candidate in self.candidates]
        kind = trial.suggest_categorical("detector", kinds)
        candidate = next(each for each in self.candidates if each.kind == kind)
        layer = DEFAULT
        if candidate.reads_features and len(self.layers) > 1:
            layer = trial.suggest_categorical("features", list(self.layers))
        kept = dict(self.baseline.parameters) if kind == self.baseline.kind else {"kind": kind}
        values = suggested(trial, kind, list(candidate.fields))
        rounded = {name: _rounded(value) if isinstance(value, float) else value for name, value in values.items()}
        share = self.baseline.share
        if self.shares[0] < self.shares[1]:
            share = _rounded(trial.suggest_float("share", *self.shares, log=True))
        return Choice({**kept, **rounded}, layer, share)

    def _written(self, choice: Choice) -> dict[str, Any]:
        candidate = next((each for each in self.candidates if each.kind == choice.kind), None)
        if candidate is None:  # the config's detector does not suit, which fit would say, too
            return {}
        params = _defaults(choice)
        chosen: dict[str, Any] = {"detector": choice.kind, **written(choice.kind, list(candidate.fields), params)}
        if candidate.reads_features and len(self.layers) > 1:
            chosen["features"] = choice.layer
        if self.shares[0] < self.shares[1]:
            chosen["share"] = choice.share
        return chosen


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _defaults(choice: Choice) -> dict[str, Any]:
    """Give all parameters of a choice, the defaults of those that it leaves out included."""
    params = registered("detectors")[choice.kind].Params.model_validate(dict(choice.parameters))
    return params.model_dump(mode="json")
