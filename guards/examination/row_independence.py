"""Refuses a model if a row's answer depends on other rows or on earlier calls."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from guards.examination.dependence_causes import changed_state, drawing, mixing, snapshot
from guards.examination.experiments import Answers, Deviation, Experiment, answers, deviation, experiments
from guards.examination.float64 import Float64Copy
from guards.examination.trace import Trace
from guards.model.forward_errors import forward_error
from guards.model.torch_model import TorchModel
from guards.notices import Notices
from guards.sentences import first_line
from guards.types import Mistake

__all__ = ["Independence"]

SECONDS = 5.0
"""Seconds for all batch sizes together. If they would take longer, only the smallest and the largest are tried."""
SECONDS_OF_LARGEST = 60.0
LARGEST_VALUES = 2**28
"""The most values of a batch that is tried: 1 GiB of float32."""
OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


@dataclass(slots=True, eq=False)
class Independence:
    """The experiments on a sample (n, ...) of reference rows, beside ``others`` (n, ...), and what they show."""

    model: TorchModel
    sample: Tensor
    others: Tensor
    trace: Trace
    classification: bool
    notices: Notices
    rounding: Deviation | None = field(default=None, init=False)
    in_float64: Float64Copy | None = field(default=None, init=False)

    def check(self, largest: int) -> Answers:
        """Run all experiments, with batches of up to ``largest`` rows, and give the sample's answers.

        Raises:
            Mistake: an answer changes, or the model does not take a batch.
        """
        index = torch.arange(len(self.sample))
        base = self._run(self.sample, "in a batch")
        started = time.perf_counter()
        again = self._run(self.sample, "a second time")
        seconds = (time.perf_counter() - started) / len(self.sample)
        if (differs := self._differs(base, again, index)) is not None:
            raise Mistake(self._changing(differs, "two calls with the same rows give different answers"))
        for experiment in experiments(self.sample, self.others, list(self._sizes(largest, seconds))):
            found = self._run(experiment.rows, experiment.name)
            differs = self._differs(base, found, experiment.index)
            if differs is not None and not self._is_rounding(experiment, differs):
                after = self._differs(base, self._run(self.sample, "after other batches"), index)
                # If the same batch gets other answers than before, the rows beside a row are not the cause.
                if after is not None:
                    raise Mistake(self._changing(after, "the same rows get other answers after another batch"))
                raise Mistake(self._mixing(differs, experiment, base, found))
        if (differs := self._differs(base, self._run(self.sample, "after other batches"), index)) is not None:
            raise Mistake(self._changing(differs, "the same rows get other answers after another batch"))
        self._with_gradients(base, index)
        if self.rounding is not None:
            how = f"changes an answer by up to {self.rounding} if the row is served in a batch of another size"
            if self.in_float64 is not None and self.in_float64.base is not None:
                self.notices.note(
                    f"model: rounding in float32 {how}, since the model computes with large numbers: scale its inputs "
                    "to round less"
                )
            else:
                self.notices.note(
                    f"model: something {how}: so small a change may be rounding, and the model does not run in "
                    "float64, which would show the cause; does forward stop at a tolerance, or compute over the rows?"
                )
        return base

    def _differs(self, base: Answers, found: Answers, index: Tensor) -> Deviation | None:
        return deviation(base, found, index, classification=self.classification)

    def _sizes(self, largest: int, seconds: float) -> Iterator[int]:
        """Give the batch sizes of a server (powers of two, and the largest) and of fit.

        A batch of one row is left out: another experiment runs single rows.
        """
        sizes = {2, 64, largest, 256} | {1 << power for power in range(largest.bit_length())}
        if seconds * sum(sizes) > SECONDS:
            sizes = {2, largest}
        for size in sorted(sizes - {1}):
            if size * self.sample[0].numel() <= LARGEST_VALUES and seconds * size <= SECONDS_OF_LARGEST:
                yield size
            else:
                self.notices.note(f"server.max_batch_rows: a batch of {size} rows was not tried, because of its size")

    def _run(self, rows: Tensor, name: str) -> Answers:
        try:
            return answers(self.model, rows, classification=self.classification)
        except Exception as raised:
            raise Mistake(self._refused(rows, name, raised)) from raised

    def _refused(self, rows: Tensor, name: str, raised: Exception) -> str:
        """Say why the model does not take a batch, although it takes another batch."""
        text = str(raised)
        if isinstance(raised, MemoryError) or any(words in text.lower() for words in OUT_OF_MEMORY):
            return (
                f"server.max_batch_rows: the memory does not hold a batch of {len(rows)} rows: lower this limit "
                f"({first_line(raised)})"
            )
        if len(rows) == 1 and self.trace.squeezes:
            return (
                f"model: it does not take one row alone ({first_line(raised)}): a "
                "squeeze() without an axis drops the axis of the rows if there is one row; write squeeze(-1)"
            )
        if "Expected more than 1 value per channel when training" in text:
            return f"model: it does not take one row alone: {mixing(self.model.net, self.trace)}"
        said = text if isinstance(raised, Mistake) else forward_error(self.model.net, rows, raised)
        return f"{said}; it takes a batch of {len(self.sample)} rows, but not {len(rows)} ({name})"

    def _is_rounding(self, experiment: Experiment, differs: Deviation) -> bool:
        """Tell whether a deviation is rounding; if so, only a fraction of it is left in float64."""
        if self.in_float64 is None:
            self.in_float64 = Float64Copy.of(self.model, self.sample, classification=self.classification)
        if not self.in_float64.explains(experiment, differs):
            return False
        if self.rounding is None or differs.size > self.rounding.size:
            self.rounding = differs
        return True

    def _mixing(self, differs: Deviation, experiment: Experiment, base: Answers, found: Answers) -> str:
        n = len(experiment.index)
        if "order" in experiment.name and torch.equal(found.given, base.given):
            others = self._run(self.others, "after other batches")
            if torch.equal(others.given, base.given):
                return (
                    "model: its answers do not follow the rows: other rows get the answers of the first ones; the "
                    "module keeps what it computed in an earlier call: compute it anew in forward"
                )
        if self.trace.squeezes and n == 1:
            cause = "a squeeze() without an axis drops the axis of the rows if there is one row; write squeeze(-1)"
        else:
            cause = mixing(self.model.net, self.trace)
        whose = "answer depends" if differs.what != "features" else f"features ({self.model.tap.layer!r}) depend"
        return (
            f"model: a row's {whose} on the rows beside it: the same row {experiment.name} differs by {differs} from "
            f"the row in a batch of {len(base.given)}: {cause}"
        )

    def _changing(self, differs: Deviation, what: str) -> str:
        """Say why two calls differ: a fixed seed makes random numbers equal, but not a state that is kept."""
        net = self.model.net
        seeded = []
        for _ in range(2):
            torch.manual_seed(0)
            seeded.append(self._run(self.sample, "a second time"))
        drawn = self._differs(seeded[0], seeded[1], torch.arange(len(self.sample))) is None
        before = snapshot(net)
        self._run(self.others, "after other batches")
        kept = [name for name in changed_state(before, snapshot(net)) if not name.endswith("num_batches_tracked")]
        if isinstance(net, torch.export.UnflattenedModule) and any(name.endswith("running_mean") for name in kept):
            cause = "the program was exported in training mode: call model.eval() before torch.export"
        elif drawn and not kept:
            cause = drawing(net, self.trace)
        elif kept:
            cause = f"{', '.join(map(repr, kept[:3]))} is kept between calls: make it anew in forward"
        else:
            cause = (
                "something outside the module's tensors changes from call to call, such as a global variable or "
                "numpy.random: compute the answer from the rows alone"
            )
        return f"model: {what} (they differ by {differs}): {cause}"

    @torch.inference_mode(mode=False)
    def _with_gradients(self, base: Answers, index: Tensor) -> None:
        """Compare the answers with those of a pass with gradients on, which explanations use."""
        prepared = self.model.prepare(self.sample.clone()).clone()
        try:
            with torch.enable_grad():
                logits = self.model.logits(prepared.requires_grad_())
        except Exception as raised:  # noqa: BLE001 - the user's code may raise anything
            first = first_line(raised)
            self.notices.note(
                f"model: it does not run with gradients on, which some explanations need ({first}): explain by "
                "shapley, kernel_shap or feature_ablation"
            )
            return
        if not logits.requires_grad:
            self.notices.note(
                "model: no gradient of its answers reaches the rows (a torch.no_grad() or detach() in forward?): "
                "explanations that need gradients would be 0; explain by shapley, kernel_shap or feature_ablation"
            )
        logits = logits.detach()
        given = logits.softmax(1) if self.classification else logits
        differs = self._differs(base, Answers(given, base.features), index)
        if differs is not None and differs.size > 1e-3:  # noqa: PLR2004 - other kernels are used, which round otherwise
            self.notices.warn(
                f"model: its answers differ by {differs} if gradients are on, so that explanations would explain "
                "another function: does forward ask torch.is_grad_enabled()?"
            )
