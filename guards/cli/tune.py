"""``guardhouse tune``: searches a better detector for one guard, and says how much better on rows it has not seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from rich.console import Console
from rich.progress import Progress

from guards.bundle.bundle import Bundle
from guards.bundle.fit_parts import untracked
from guards.bundle.fit_rows import fit_examined
from guards.bundle.preparation import Prepared, prepare
from guards.calibration.prediction_sets import Classifier
from guards.cli.check import progress_bars
from guards.cli.printed_notices import noticing
from guards.cli.tuning.candidates import candidates
from guards.cli.tuning.document import Tuned, as_trial, contender
from guards.cli.tuning.feature_layers import DEFAULT, FeatureLayers
from guards.cli.tuning.improved_config import changed_document, changed_text
from guards.cli.tuning.judged_rows import differences, judge_rows
from guards.cli.tuning.picture import draw
from guards.cli.tuning.search import Search, Tried
from guards.cli.tuning.share_range import share_range
from guards.cli.tuning.tuned_guard import kind_of, place_of
from guards.cli.tuning.tuning_rows import TuningRows
from guards.cli.tuning.workbench import Choice, Found, Part, Workbench
from guards.config.config import Config, parse
from guards.config.load import load_config, read_document
from guards.config.plugins import registered
from guards.data.row_parts import unlabelled_rows
from guards.detectors.base import Detector
from guards.notices import Notices
from guards.types import Mistake, Rows

__all__ = ["Asked", "tune"]

LIMIT_US = 60.0
"""The latency limit in microseconds a row, unless the config's own guards take longer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user asked for: which guard (None: chosen here), how many trials, the limit, the seed, the new file."""

    guard: str | None
    trials: int
    latency_us: float | None
    seed: int
    out: Path


def tune(config_path: Path, suspect_path: Path, asked: Asked, console: Console) -> Tuned:
    """Search a better detector for one guard; write a picture, and the config if it is better beyond doubt.

    Half of the calibration rows and half of the suspect rows are searched on. The figures are measured on the other
    halves. The config is written if the interval of the difference in found suspect rows lies above 0 there.

    Raises:
        Mistake: something in the config or a file is wrong, or there are too few rows.
    """
    if asked.out.resolve().parent != config_path.resolve().parent or asked.out.resolve() == config_path.resolve():
        raise Mistake(
            f"--out {asked.out}: the new config needs a name of its own in the folder of {config_path}, from which its "
            "paths start"
        )
    config, folder = load_config(config_path), config_path.resolve().parent
    text = config_path.read_text(encoding="utf-8")
    document = read_document(text)
    guard = place_of(config, asked.guard)
    with noticing(console) as notices, progress_bars(console) as progress:
        loading = progress.add_task("data", total=3)
        lean = _lean(config)
        prepared = prepare(_with_early(lean), folder, notices, lambda: progress.advance(loading))
        suspect = unlabelled_rows(suspect_path, config, prepared.schema, notices)
        rows = TuningRows.split(prepared, suspect, suspect_path, asked.seed)
        before = _fit(lean, prepared, rows.clean)
        search, left_out = _search_for(config, guard, prepared, rows, before, progress, asked.seed)
        counting = progress.add_task("trials", total=asked.trials)
        tried = search.run(asked.trials, lambda: progress.advance(counting))
    limit = max(LIMIT_US, search.baseline_us) if asked.latency_us is None else asked.latency_us
    winner = _winner(tried, search.baseline_found, limit)
    judged = judge_rows(before, rows.clean_left, rows.suspect_left)
    result: Tuned = {
        "guard": config.guards[guard].name,
        "budget": config.false_alarm_budget,
        "rows": rows.counts(len(prepared.train)),
        "latency_limit_us": limit,
        "left_out": left_out,
        "trials": [as_trial(each) for each in tried],
        "baseline": contender(search.baseline, search.baseline_found, search.baseline_us, judged.figures()),
        "winner": None,
        "difference": None,
        "improved": False,
        "config": None,
        "picture": str(asked.out.with_suffix(".png")),
    }
    if winner is not None and winner.found is not None and winner.latency_us is not None:
        changed = changed_document(document, guard, winner.choice)
        after = _refit(_lean(parse(changed)), folder, prepared, rows.clean, again=winner.choice.layer != DEFAULT)
        judged_after = judge_rows(after, rows.clean_left, rows.suspect_left)
        better, difference = judged_after.figures(), differences(judged, judged_after)
        alarms = better["false_alarm_interval"]
        kept = alarms is not None and alarms[0] <= config.false_alarm_budget
        result["winner"] = contender(winner.choice, winner.found, winner.latency_us, better)
        result["difference"], result["improved"] = difference, kept and difference["tpr_interval"][0] > 0
        if result["improved"]:
            result["config"] = str(asked.out)
            _write(asked.out, changed_text(text, changed, _header(result, config_path, suspect_path)).encode())
    title = f"{config.name}: guard {result['guard']}, {len(rows.suspect)} suspect rows searched on"
    now = search.baseline_found, search.baseline_us
    _write(Path(result["picture"]), draw(tried, now, winner, limit, title))
    return result


def _search_for(
    config: Config, guard: int, prepared: Prepared, rows: TuningRows, before: Bundle, progress: Progress, seed: int
) -> tuple[Search, dict[str, str]]:
    """Run the model once on all rows of the search; give the search, and why detectors are left out of it.

    ``config`` has all guards, whose latency counts; ``before`` has only the guards that share the budget.
    """
    layers = FeatureLayers(prepared.model, prepared.train.x)

    def part(name: str, of: Rows) -> Part:
        return Part(of, layers.outputs(of.x, lambda steps: progress.track(steps, description=name)))

    clean = part("calibration", rows.calibration)
    bench = Workbench(
        config,
        prepared,
        guard=guard,
        temperature=_temperature(before),
        train=part("reference", prepared.train),
        clean=clean,
        suspect=part("suspect", rows.suspect),
    )
    taken = [kind_of(config, index) for index in range(len(config.guards)) if index != guard]
    found, left_out = candidates(bench, clean, prepared.model.device, taken)
    spec = config.guards[guard]
    own = Choice(spec.detector.model_dump(mode="json"), DEFAULT, spec.share)
    shares = share_range(config, guard, rows.calibration_counts, labelled=prepared.heldout.y is not None)
    return Search(bench, found, layers.names, own, shares=shares, seed=seed), left_out


def _lean(config: Config) -> Config:
    """Leave out what a search does not need: monitors, guards that abstain on purpose, and the compiler.

    A compiled model would not see the hooks of the features. Prediction sets by group need a monitor, and no guard
    reads them.
    """
    guards = tuple(config.guards[place] for place in config.budgeted)
    model = config.model.model_copy(update={"compile": False})
    sets = config.prediction_sets.model_copy(update={"by": "none"})
    return config.model_copy(update={"monitors": (), "guards": guards, "model": model, "prediction_sets": sets})


def _with_early(config: Config) -> Config:
    """Add a guard that reads early features, if there is such a detector, so that the model gives early features."""
    kinds = [
        kind for kind, plugin in sorted(registered("detectors").items()) if cast("type[Detector]", plugin).reads_early
    ]
    if not kinds:
        return config
    more = parse({**config.model_dump(mode="json"), "guards": [{"name": "tuning", "detector": {"kind": kinds[0]}}]})
    return config.model_copy(update={"guards": (*config.guards, *more.guards)})


def _fit(config: Config, prepared: Prepared, clean: Rows) -> Bundle:
    fitted = fit_examined(
        config,
        schema=prepared.schema,
        classes=prepared.classes,
        model=prepared.model,
        train=prepared.train,
        heldout=clean,
        program=prepared.program,
        track=untracked,
    )
    return fitted.bundle


def _refit(config: Config, folder: Path, prepared: Prepared, clean: Rows, *, again: bool) -> Bundle:
    """Fit the winner; ``again`` says that other features need the model to be made again."""
    return _fit(config, prepare(config, folder, Notices()) if again else prepared, clean)


def _temperature(bundle: Bundle) -> float:
    predictor = bundle.pipeline().predictor
    return predictor.temperature if isinstance(predictor, Classifier) else 1.0


def _winner(tried: Sequence[Tried], baseline: Found, limit: float) -> Tried | None:
    """Choose the best trial under the latency limit, the earliest of equals; None if the config's own is as good."""
    best = None
    for each in tried:
        if each.found is not None and each.latency_us is not None and each.latency_us <= limit:
            least = baseline if best is None or best.found is None else best.found
            if each.found.objective > least.objective:
                best = each
    return best


def _header(result: Tuned, config: Path, suspect: Path) -> str:
    """Say in a comment of the new config where it comes from."""
    winner, difference = result["winner"], result["difference"]
    assert winner is not None  # noqa: S101 - a config is only written for a winner
    assert difference is not None  # noqa: S101
    now, then = result["baseline"]["detection"]["tpr"], winner["detection"]["tpr"]
    low, high = difference["tpr_interval"]
    return (
        f"guardhouse tune {config.name} --suspect {suspect.name}: guard {result['guard']} was changed.\n"
        f"All guards find {then:.1%} of the suspect rows that were not searched on, in place of {now:.1%}\n"
        f"(95 % interval of the difference: {100 * low:+.1f} to {100 * high:+.1f} percentage points)."
    )


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as failure:
        raise Mistake(f"--out {path}: cannot be written ({failure.strerror})") from None
