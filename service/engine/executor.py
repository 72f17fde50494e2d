"""The device's work: runs one batch through the guards and the model, and copies the answer to the host."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from guards.bundle.bundle import Bundle
from guards.calibration.draws import uniform_draws
from guards.memory.watch import Judgement, Watch
from guards.model.batch_shapes import bucket, filled
from guards.pipeline import Pipeline
from guards.types import Batch, Result
from service import memory
from service.engine.attack_log import AttackLog
from service.engine.batch_size import measure, preferred
from service.engine.job import Computed, Lesson
from service.engine.stage_timer import Laps
from service.engine.to_host import answer_of
from service.messages.answer import LEFT_OUT
from service.messages.row_name import id_of
from service.messages.stage import Stage

__all__ = ["DEVICE_STAGES", "About", "Executor"]

LOG = logging.getLogger("guardhouse")
Array = npt.NDArray[Any]
DEVICE_STAGES = ("input_guards", "model", "output_guards")
"""The stages that are timed after the copy to the device."""


class About(NamedTuple):
    """What the bookkeeping needs of a batch: the rows and results on the device, the stage times, and the moment."""

    batch: Batch
    result: Result
    laps: Laps
    answered_at: float
    """When the answer was on the host, in seconds since the epoch."""
    judgement: Judgement | None
    """What the guards with memory said; None if there are none."""


class Executor:
    """Runs batches of one bundle on its device; used by one thread at a time."""

    def __init__(
        self,
        bundle: Bundle,
        pipeline: Pipeline,
        *,
        max_batch_rows: int,
        clock: Callable[[], float] = time.time,
        watch: Watch | None = None,
    ) -> None:
        """Prepare without warming up. ``max_batch_rows`` is the largest batch that :meth:`compute` will get.

        ``clock`` gives the time of an answer, in seconds since 1970. ``watch`` are the guards with memory.
        """
        self._bundle, self._pipeline, self._max_batch_rows = bundle, pipeline, max_batch_rows
        self._clock, self._watch = clock, watch
        self._attacks = AttackLog(() if watch is None else watch.guards)
        self._optional = [place for place, guard in enumerate(bundle.config.guards) if guard.optional]
        self.device = bundle.model.device

    def warm_up(self) -> int:
        """Run batches of every size, so that no request waits for a first run; return the best batch size in rows."""
        schema, known = self._bundle.schema, self._bundle.self_test
        assert known is not None  # noqa: S101 - the engine refuses a bundle without known rows
        # Only tabular rows are generated from the schema. A model of sequences may reject a row of arbitrary numbers.
        rows = (schema.example_rows(1) if schema.kind == "tabular" else known.x[:1]).numpy()

        # The processor time of one thread does not depend on other work of the machine. On a GPU, or with several
        # torch threads, the processor time of this thread says nothing about the duration.
        alone = self.device.type == "cpu" and torch.get_num_threads() == 1
        clock = time.thread_time if alone else time.perf_counter

        def seconds(size: int) -> float:
            x = np.repeat(rows, size, axis=0)
            started = clock()
            self.compute(x, {}, [""] * size, causes=False)
            return clock() - started

        rates = measure(self._max_batch_rows, seconds)
        best = preferred(rates)
        LOG.info("batches of up to %d rows: %.0f rows a second", best, rates[best])
        memory.settle()
        return best

    @torch.inference_mode()
    def compute(
        self,
        x: Array,
        groups: Mapping[str, Array],
        ids: Sequence[str],
        causes: bool,
        hurried: bool = False,
        clients: Sequence[str] | None = None,
    ) -> Computed:
        """Judge and predict rows (n, ...), stage by stage.

        The batch is padded to one of a few fixed sizes, so that the same rows give bitwise equal answers. Randomised
        prediction sets draw from the rows' ``ids`` (n), so a row that is computed again gets the same set. If
        ``hurried``, optional guards are left out. ``clients`` (n) says who asks; by default all rows are of one client.
        """
        n, size = len(x), bucket(len(x), self._max_batch_rows)
        laps = Laps(self.device)
        copied = {name: self._copy_in(filled(codes, size)) for name, codes in groups.items()} if groups else {}
        draws = None
        if self._pipeline.predictor.randomised:
            draws = self._copy_in(filled(uniform_draws(map(id_of, ids), self._bundle.id), size))
        batch = Batch(self._copy_in(filled(x, size)), copied, draws=draws)
        laps.mark()
        skip = self._optional if hurried else []
        findings = self._pipeline.check_input(batch, causes=causes, skip=skip)
        laps.mark()
        batch = self._pipeline.forward(batch)
        laps.mark()
        findings |= self._pipeline.check_output(batch, causes=causes, skip=skip)
        result = self._pipeline.conclude(batch, findings)
        result, batch = (result, batch) if n == size else (result[:n], batch[:n])
        judgement, shown = None, result
        if self._watch is not None:
            judgement = self._watch.judge(batch, clients or [""] * n)
            shown = self._watch.conclude(result, judgement)
        laps.mark()
        answer = answer_of(shown)
        if skip:
            answer.p_value = answer.p_value.copy()  # the monitors see NaN, as of a guard that crashed
            answer.p_value[:, skip] = LEFT_OUT
        laps.mark()

        def stages() -> list[Stage]:
            between = zip(DEVICE_STAGES, pairwise(laps.moments()[1:]), strict=False)
            return [Stage(stage, start, end, n) for stage, (start, end) in between]

        return Computed(answer, ids, About(batch, result, laps, self._clock(), judgement), stages)

    def remember(self, lesson: Lesson) -> None:
        """Let the guards with memory remember rows whose answers were sent."""
        about: About = lesson.computed.about
        if self._watch is not None and about.judgement is not None:
            self._watch.remember(about.judgement, lesson.start, lesson.stop)
            self._attacks.tell(about.judgement, lesson.start, lesson.stop)

    def _copy_in(self, rows: Array) -> torch.Tensor:
        """Copy rows to the device. To a GPU, rows are copied from pinned memory, and nothing waits for the copy."""
        tensor = torch.from_numpy(rows)
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)
