"""The rules that every explainer must keep, one check in each method."""

from collections.abc import Sized
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from guards.detectors.base import Params
from guards.explainers.base import Attribution, Explainer, NotExplainableError
from guards.testing.comparison import equal, require_close, seed_everything
from guards.testing.example import Kind, Task, check_constructor, check_params, require
from guards.testing.explained_model import ROWS, Explained, explained

__all__ = ["ExplainerChecks"]

BOUNDARIES = ((0, 1, 2, ROWS), (0, ROWS - 1, ROWS))
LACKING = 0.2
"""How far contributions may be from adding up, as a share of the mean change from the baseline: sampling only comes
near. An explainer that loses half of the change is caught."""
ROUNDING = 1e-4


class DeadlineError(Exception):
    """The deadline that a check lets pass."""


@dataclass(frozen=True)
class ExplainerChecks:
    """The checks of one explainer on one kind of input; every public method is a check."""

    _explainer: type[Explainer]
    _params: Params
    _kind: Kind
    _task: Task

    def constructor_takes_params_and_subject(self) -> None:
        """The constructor takes the parameters and the subject, in this order, and needs nothing else."""
        check_constructor(self._explainer, ("params", "subject"))

    def params_are_closed(self) -> None:
        """The parameters refuse an unknown key, and are the same after a round trip through JSON."""
        check_params(self._params)

    def refusal_is_kept(self) -> None:
        """A kind of input that ``refusal`` refuses with a sentence is refused by ``explain`` with a sentence, too."""
        made = self._explained()
        refusal = self._explainer.refusal(made.subject.schema)
        if refusal is None:
            return
        require(isinstance(refusal, str) and bool(refusal), "refusal must be None or a sentence")
        try:
            self._explain(made)
        except NotExplainableError as refused:
            require(bool(str(refused)), "the NotExplainableError needs a message")
        else:
            require(condition=False, sentence="refusal refuses the schema, but explain explains its rows")

    def attribution_has_the_shape_of_the_rows(self) -> None:
        """``values`` are (n, ...) float32, the other parts (n,) float32, down to one row; none needs a gradient."""
        made = self._explained()
        for count in (ROWS, 1):
            found = self._explain(made, count)
            for name, tensor in _parts(found).items():
                shape = tuple(made.x[:count].shape) if name == "values" else (count,)
                sound = tuple(tensor.shape) == shape and tensor.dtype == torch.float32
                said = f"{tuple(tensor.shape)} {tensor.dtype}"
                require(sound, f"{name} is {said} for {count} rows, expected {shape} torch.float32")
                require(not tensor.requires_grad, f"{name} still needs a gradient; detach it")

    def contributions_are_finite(self) -> None:
        """Every contribution is a finite number, also of missing and unseen values; some contribution is not zero."""
        values = self._explain(self._explained()).values
        require(bool(values.isfinite().all()), "a contribution is not finite")
        require(bool(values.any()), "every contribution is zero, but the output changes from row to row")

    def outputs_are_the_models(self) -> None:
        """``output_value`` is the subject's number at the row, ``baseline_value`` its mean over the baselines."""
        made = self._explained()
        found, subject = self._explain(made), made.subject
        with torch.no_grad():
            at_row = subject.evaluate(subject.prepare(made.x), made.target)
            at_baselines = [subject.evaluate(subject.baselines, each.expand(2)).mean() for each in made.target]
        require_close(at_row, found.output_value, "output_value is not the explained number at the row")
        sentence = "baseline_value is not the mean of the explained number at the baselines"
        require_close(torch.stack(at_baselines), found.baseline_value, sentence)

    def contributions_add_up_if_complete(self) -> None:
        """``convergence_delta`` is what contributions lack to the change: little if ``complete``, and NaN if not."""
        found = self._explain(self._explained())
        if not self._explainer.complete:
            sentence = "convergence_delta must be NaN, because contributions are not complete"
            require(bool(found.convergence_delta.isnan().all()), sentence)
            return
        change = found.output_value.double() - found.baseline_value.double()
        lacking = found.values.double().flatten(1).sum(1) - change
        scale = float(change.abs().mean())
        honest = bool(((found.convergence_delta - lacking).abs() <= ROUNDING * (1 + scale)).all())
        require(honest, "convergence_delta is not the sum of the contributions less the change from the baseline")
        worst = float(lacking.abs().max())
        sentence = (
            f"contributions miss the change from the baseline by {worst:.3g}, more than {LACKING:g} of {scale:.3g}"
        )
        require(worst <= LACKING * scale, f"{sentence}; set complete to False if they are not meant to add up")

    def rows_are_explained_alone(self) -> None:
        """A row's explanation depends neither on the other rows nor on the row's place."""
        made = self._explained()
        explainer = self._explainer(self._params, made.subject)
        whole = explainer.explain(made.x, made.target)
        for cuts in BOUNDARIES:
            pieces = [explainer.explain(made.x[a:b], made.target[a:b]) for a, b in pairwise(cuts)]
            for name, tensor in _parts(whole).items():
                joined = torch.cat([_parts(piece)[name] for piece in pieces])
                require_close(tensor, joined, "a row's explanation depends on the rows that it comes with")

    def explanation_is_deterministic(self) -> None:
        """The same row gets bitwise the same explanation, whatever the random state, also from a new explainer."""
        made = self._explained()
        seed_everything(1)
        explainer = self._explainer(self._params, made.subject)
        first = explainer.explain(made.x, made.target)
        seed_everything(2)
        again = (explainer.explain(made.x, made.target), self._explain(made))
        same = all(_same(first, other) for other in again)
        require(same, "the same rows have different explanations; draw random numbers from seed_of(row)")

    def explaining_teaches_nothing(self) -> None:
        """An explainer holds no state: the explanations of other rows do not change a row's explanation."""
        made = self._explained()
        explainer = self._explainer(self._params, made.subject)
        explainer.explain(made.x.flip(0), made.target)
        taught = explainer.explain(made.x[:1], made.target[:1])
        same = _same(self._explain(made, 1), taught)
        require(same, "an explainer that has explained other rows explains a row differently")

    def model_is_left_alone(self) -> None:
        """The model keeps its tensors, gradients, modes and hooks, so that it answers as before."""
        made = self._explained()
        model = made.subject.model
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        modes = _modes(model)
        with torch.enable_grad():
            self._explain(made)
            still_on = torch.is_grad_enabled()
        require(still_on, "explain leaves gradients switched off for its thread")
        same = all(equal(state[name], tensor) for name, tensor in model.state_dict().items())
        require(same, "explain changes the model's tensors")
        left = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
        require(not left, f"explain leaves a gradient in the model's parameters {left}")
        require(_modes(model) == modes, "explain leaves another mode, a requires_grad or a hook in the model")

    def rows_are_left_alone(self) -> None:
        """Explaining changes neither the rows nor the targets nor the baselines."""
        made = self._explained()
        given = (made.x, made.target, made.subject.baselines)
        before = [tensor.clone() for tensor in given]
        self._explain(made)
        require(all(map(equal, before, given)), "explain writes into the rows, the targets or the baselines")

    def rows_of_inference_mode_are_explained(self) -> None:
        """Rows that were made in inference mode, as a server's rows are, get the same explanation."""
        made = self._explained()
        with torch.inference_mode():
            x = made.x.clone()
        found = self._explainer(self._params, made.subject).explain(x, made.target)
        require(_same(self._explain(made), found), "rows made in inference mode have another explanation")

    def deadline_ends_an_explanation(self) -> None:
        """What the subject's ``checkpoint`` raises, such as a deadline, ends the explanation and is not swallowed."""
        made = self._explained()

        def late() -> None:
            raise DeadlineError

        made.subject.checkpoint = late
        try:
            self._explain(made)
        except DeadlineError:
            return
        require(condition=False, sentence="explain goes on although the subject's checkpoint raised an exception")

    def _explained(self) -> Explained:
        return explained(self._kind, self._task)

    def _explain(self, made: Explained, count: int = ROWS) -> Attribution:
        return self._explainer(self._params, made.subject).explain(made.x[:count], made.target[:count])


def _parts(found: Attribution) -> dict[str, Tensor]:
    return {
        "values": found.values,
        "baseline_value": found.baseline_value,
        "output_value": found.output_value,
        "convergence_delta": found.convergence_delta,
    }


def _same(a: Attribution, b: Attribution) -> bool:
    return all(map(equal, _parts(a).values(), _parts(b).values()))


def _modes(model: torch.nn.Module) -> list[tuple[object, ...]]:
    """Give what an explanation might leave behind in each module and parameter of a model."""
    modules = [(name, module.training, *map(len, _hooks(module))) for name, module in model.named_modules()]
    return [*modules, *((name, parameter.requires_grad) for name, parameter in model.named_parameters())]


def _hooks(module: torch.nn.Module) -> tuple[Sized, ...]:
    """Give the module's hooks by kind; PyTorch has no public name for them."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return tuple(getattr(module, kind) for kind in kinds)
