"""How good explanations are: completeness, deletion, insertion, infidelity, sensitivity, randomisation, and time.

Every method on the three examples and on a small network for Fashion-MNIST. Infidelity and maximum sensitivity are
Quantus' own figures (extra `bench`), for images alone, which is what it takes; the rest is measured here.
"""

import math
import time
import warnings
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from rich.console import Console
from scipy.stats import spearmanr
from torch import Tensor, nn

from benchmarks.explanation.cases import Case, make_cases
from benchmarks.harness.report import print_document, print_table
from guards.config.plugins import registered
from guards.explainers.base import Explainer, NotExplainableError
from guards.explainers.explained_function import Subject

RANDOM_ORDERS = 10


def main(*, quick: bool) -> None:
    """Measure, print a table and the JSON document."""
    torch.set_num_threads(1)
    rows, console = (4 if quick else 100), Console(stderr=True)
    cases = make_cases(rows, console, quick=quick)
    methods = list(registered("explainers"))
    measured: dict[str, dict[str, Any]] = {}
    for case in cases:
        measured[case.name] = {}
        for method in methods:
            measured[case.name][method] = _measure(case, method, quick=quick)
            console.print(f"{case.name} {method}", highlight=False)
        print_table(case.name, {method: _row(figures) for method, figures in measured[case.name].items()})
    print_document("explanation", quick=quick, rows=rows, cases=measured)


def _measure(case: Case, method: str, *, quick: bool) -> dict[str, Any]:
    """Give one method's figures on one case: of the rows that it does not refuse."""
    explainer, unlike = _explainer(method, case.subject), _explainer(method, case.random)
    answered: list[int] = []
    values, delta, seconds, correlations = [], [], [], []
    for place, (row, target) in enumerate(zip(torch.split(case.x, 1), torch.split(case.target, 1), strict=True)):
        try:
            started = time.perf_counter()
            found = explainer.explain(row, target)
            seconds.append(time.perf_counter() - started)
        except NotExplainableError:
            continue
        answered.append(place)
        values.append(found.values)
        change = (found.output_value - found.baseline_value).abs().item()
        delta.append(found.convergence_delta.abs().item() / change if change else math.nan)
        with suppress(NotExplainableError):
            one, other = found.values.flatten().numpy(), unlike.explain(row, target).values.flatten().numpy()
            if one.std() > 0 and other.std() > 0:
                correlations.append(spearmanr(one, other).statistic)
    figures: dict[str, Any] = {"refused": 1 - len(answered) / len(case.x)}
    if not answered:
        return figures
    figures["milliseconds"] = 1e3 * float(np.median(seconds))
    if not math.isnan(delta[0]):
        figures["completeness_p50"] = float(np.nanmedian(delta))
        figures["completeness_p95"] = float(np.nanquantile(delta, 0.95))
    attributions = torch.cat(values)
    rest = Case(case.name, case.subject, case.random, case.x[answered])
    figures |= _curves(rest, attributions)
    if correlations:
        figures["randomised_rank_correlation"] = float(np.mean(correlations))
    if case.subject.schema.kind == "image":
        figures |= _quantus(rest, explainer, attributions, quick=quick)
    return figures


def _curves(case: Case, attributions: Tensor) -> dict[str, float]:
    """Give the areas under deletion and insertion, of the change of output, and how often they beat random orders.

    Elements go from the row to the baseline (deletion), or come from there (insertion), those first that most moved
    the output its way; all channels of a pixel are one element.
    """
    generator = torch.Generator().manual_seed(0)
    deletion, insertion, better_deletion, better_insertion = [], [], [], []
    for row, target, values in zip(torch.split(case.x, 1), torch.split(case.target, 1), attributions, strict=True):
        ends = case.subject.evaluate(torch.cat([row, case.subject.baselines]), target.expand(2))
        change = float(ends[0] - ends[1])
        if abs(change) < 1e-6:  # noqa: PLR2004 - nothing to delete
            continue
        scores = values.sum(0).flatten() if case.subject.schema.kind == "image" else values.flatten()
        order = (scores * math.copysign(1, change)).argsort(descending=True, stable=True)
        drawn = [torch.randperm(len(order), generator=generator) for _ in range(RANDOM_ORDERS)]
        ours, *others = (_areas(case, row, target, each) for each in [order, *drawn])
        deletion.append(ours[0])
        insertion.append(ours[1])
        better_deletion.append(ours[0] < np.mean([other[0] for other in others]))
        better_insertion.append(ours[1] > np.mean([other[1] for other in others]))
    return {
        "deletion": float(np.median(deletion)), "insertion": float(np.median(insertion)),
        "deletion_better_than_random": float(np.mean(better_deletion)),
        "insertion_better_than_random": float(np.mean(better_insertion)),
    }  # fmt: skip


def _areas(case: Case, row: Tensor, target: Tensor, order: Tensor) -> tuple[float, float]:
    baseline = case.subject.baselines
    steps = torch.linspace(0, len(order), min(len(order), 32) + 1).round().long()
    rank = order.argsort()
    gone = rank[None] < steps[:, None]
    shape = (1, *row.shape[2:]) if case.subject.schema.kind == "image" else row.shape[1:]
    gone = gone.view(-1, *shape)
    targets = target.expand(len(gone))
    deleted = case.subject.evaluate(torch.where(gone, baseline, row), targets)
    inserted = case.subject.evaluate(torch.where(gone, row, baseline), targets)
    change = deleted[0] - deleted[-1]
    low = deleted[-1]
    return tuple(float(torch.trapezoid((each - low) / change, dx=1 / (len(gone) - 1))) for each in (deleted, inserted))  # type: ignore[return-value]


def _quantus(case: Case, explainer: Explainer, attributions: Tensor, *, quick: bool) -> dict[str, float]:
    """Measure with Quantus, if it is installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import quantus  # noqa: PLC0415 - an extra
    except ImportError:
        return {}
    few = min(len(case.x), 4 if quick else 16)
    x, y, a = case.x[:few].numpy(), case.target[:few].numpy(), attributions[:few].numpy()
    net = Logits(case.subject).eval()

    def explain(*, inputs: Any, targets: Any, **_: Any) -> Any:  # noqa: ANN401 - Quantus' own
        rows = torch.as_tensor(np.asarray(inputs), dtype=torch.float32).reshape(-1, *case.x.shape[1:])
        return explainer.explain(rows, torch.as_tensor(np.asarray(targets))).values.numpy()

    arguments = {"model": net, "x_batch": x, "y_batch": y, "a_batch": a, "device": "cpu"}
    patch = 2 if case.x.shape[-1] < 16 else 4  # noqa: PLR2004
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.random.seed(0)  # noqa: NPY002 - Quantus draws from it
        infidelity = quantus.Infidelity(perturb_patch_sizes=[patch], n_perturb_samples=10, disable_warnings=True)
        sensitivity = quantus.MaxSensitivity(nr_samples=5, lower_bound=0.02, disable_warnings=True)
        figures = {"infidelity": float(np.median(infidelity(**arguments)))}
        with suppress(NotExplainableError):  # one of the rows near these is refused
            figures["max_sensitivity"] = float(np.median(sensitivity(**arguments, explain_func=explain)))
        return figures


class Logits(nn.Module):
    """The model as Quantus calls it."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.subject = subject

    def forward(self, x: Tensor) -> Tensor:
        """Give the logits."""
        return self.subject.model.logits(x)


def _explainer(method: str, subject: Subject) -> Explainer:
    kind: Any = registered("explainers")[method]
    made: Explainer = kind(kind.Params.model_validate({"method": method}), subject)
    return made


COLUMNS = {
    "refused": "refused", "completeness_p50": "completeness p50", "completeness_p95": "p95", "deletion": "deletion",
    "deletion_better_than_random": "better than random", "insertion": "insertion",
    "insertion_better_than_random": "better", "infidelity": "infidelity", "max_sensitivity": "max sensitivity",
    "randomised_rank_correlation": "randomised", "milliseconds": "ms a row",
}  # fmt: skip


def _row(figures: dict[str, Any]) -> dict[str, Any]:
    return {title: figures.get(key) for key, title in COLUMNS.items()}
