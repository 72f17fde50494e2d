"""The bundle, a model with its fitted guards and monitors, and its folder of JSON and safetensors files."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

from torch import Tensor
from torch.export import ExportedProgram

from guards.bundle.construction import (
    context_of,
    make_detector,
    make_memory_guard,
    make_monitor,
    make_pipeline,
    make_subject,
)
from guards.bundle.fitted_state import FittedState, named_state, read_tensors, restored, write_tensors
from guards.bundle.folder import MANIFEST, PROGRAM, SOURCE, STATE, WEIGHTS
from guards.bundle.load_model import make_model
from guards.bundle.manifest import read_manifest, write_manifest
from guards.bundle.predictor_parts import Calibrated, stratum_of
from guards.bundle.self_test import SelfTest
from guards.calibration.abstention import Abstention
from guards.config.config import Config, differences
from guards.config.plugins import registered
from guards.detectors.base import Detector
from guards.explainers.base import Explainer
from guards.explainers.explained_function import Subject
from guards.explainers.reference_sample import Exemplars
from guards.input.schema import InputSchema
from guards.memory.base import MemoryGuard
from guards.memory.history import History, LocalHistory
from guards.memory.watch import Watch
from guards.model.program import load_program, save_program
from guards.model.torch_model import TorchModel
from guards.monitors.base import Monitor
from guards.pipeline import Pipeline
from guards.types import Mistake

__all__ = ["Bundle"]


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A fitted gateway: a model with its fitted guards and monitors.

    ``classes`` are the labels in logit order, empty for a regression. ``scores``
    (g, n) are the scores of g guards for the same n clean calibration rows. ``calibrated`` has the ``nonconformity`` of
    the labelled calibration rows. The thresholds are computed from ``scores``, and the prediction sets from
    ``calibrated``, whenever a pipeline is made, so that budget, shares and coverage may change without a refit.
    ``abstentions`` are the thresholds of the guards with a `target_error`, by the guard's name. ``cause_names`` are the
    names of the causes that each guard's detector may report, by the guard's name. ``id`` is the SHA-256 of the
    manifest that the bundle was loaded from, and empty if it was fitted in this process.
    """

    config: Config
    schema: InputSchema
    classes: tuple[str, ...]
    model: TorchModel
    program: ExportedProgram | None
    detectors: tuple[Detector, ...]
    cause_names: Mapping[str, tuple[str, ...]]
    scores: Tensor
    abstentions: Mapping[str, Abstention]
    calibrated: Calibrated
    monitors: tuple[Monitor, ...]
    memory_guards: tuple[MemoryGuard, ...] = ()
    exemplars: Exemplars | None = None
    self_test: SelfTest | None = None
    id: str = ""

    def pipeline(self) -> Pipeline:
        """Make the pipeline: the model, the guards with thresholds that keep the config's budget, and the predictor.

        Raises:
            Mistake: the calibration rows cannot support the budget or the coverage.
        """
        return make_pipeline(
            self.config,
            self.model,
            detectors=self.detectors,
            scores=self.scores,
            abstentions=self.abstentions,
            predictor=self.calibrated.predictor(self.config, self.schema, self.classes),
            stratum_of=stratum_of(self.config, self.schema, self.classes),
        )

    def watch(self, history: Callable[[MemoryGuard], History] = LocalHistory) -> Watch:
        """Make the watch: the guards with memory, which remember nothing yet; ``history`` is where they remember."""
        return Watch(self.memory_guards, shadow=self.config.mode == "shadow", history=history)

    def thresholds(self, pipeline: Pipeline) -> dict[str, float]:
        """Give each guard's largest p-value at which it flags, by name, in the order of answers' columns."""
        own = {guard.name: 1 / guard.params.average_run_length for guard in self.memory_guards}
        return dict(zip(pipeline.names, pipeline.thresholds, strict=True)) | own

    def run_self_test(self, pipeline: Pipeline) -> None:
        """Require that a pipeline of this bundle gives the known answers to the known rows.

        Raises:
            Mistake: there are no known rows, or the answers differ.
        """
        if self.self_test is None:
            raise Mistake("self-test: the bundle has no known rows; fit it anew")
        self.self_test.check(pipeline, self.classes)

    def explainer(
        self, method: str | None = None, *, steps: int | None = None, subject: Subject | None = None
    ) -> Explainer:
        """Make an explainer of the config's method or of another allowed method, for the model or another subject.

        Raises:
            ValueError: the number of steps is out of bounds.
        """
        method = method or self.config.explain.method
        explainer = cast("type[Explainer]", registered("explainers")[method])
        return explainer(self.config.explain.parameters(method, steps), subject or self.subject())

    def subject(self, guard: str | None = None) -> Subject:
        """Make the function that explanations explain: the model's output, or a guard's score.

        Raises:
            Mistake: the config's embeddings or baseline do not fit the model or the bundle.
        """
        names = [spec.name for spec in self.config.guards]
        detector = None if guard is None else self.detectors[names.index(guard)]
        return make_subject(self.config, self.model, self.schema, self.exemplars, detector)

    def save(self, path: str | Path, *, source: str | None = None) -> str:
        """Write the folder, which may replace an older bundle, and give the ``id`` that the loaded bundle will have.

        The files are JSON and safetensors: no pickle and no code. ``source`` is the text of the user's config, which is
        kept as ``gateway.yaml``.

        Raises:
            Mistake: the folder holds something else.
        """
        path = Path(path)
        if path.exists() and not (path / MANIFEST).is_file() and (path.is_file() or any(path.iterdir())):
            raise Mistake(f"{path}: it is not empty and no bundle; choose another folder")
        fresh = path.with_name(path.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        write_tensors(self._state(), fresh / STATE)
        if self.program is None:
            write_tensors(self.model.net.state_dict(), fresh / WEIGHTS)
        else:
            save_program(self.program, fresh / PROGRAM)
        if source is not None:
            (fresh / SOURCE).write_text(source, encoding="utf-8")
        manifest = write_manifest(
            fresh,
            config=self.config.model_dump(mode="json"),
            schema=self.schema.model_dump(mode="json"),
            classes=self.classes,
            outputs=self.model.outputs,
            meaning=self.model.meaning,
            temperature=self.calibrated.temperature,
            cause_names=self.cause_names,
            self_test=None if self.self_test is None else self.self_test.fingerprint,
        )
        shutil.rmtree(path, ignore_errors=True)
        fresh.rename(path)
        return manifest.id

    def _state(self) -> dict[str, Tensor]:
        """Give the fitted tensors of all parts, by the names that a bundle's file gives them."""
        state = {"scores": self.scores} | self.calibrated.tensors()
        state |= {f"abstention.{name}": abstention.tensor() for name, abstention in self.abstentions.items()}
        for spec, detector in zip(self.config.guards, self.detectors, strict=True):
            state |= named_state(f"detector.{spec.name}", detector)
        for guard in self.memory_guards:
            state |= named_state(f"memory.{guard.name}", guard)
        for monitor in self.monitors:
            state |= named_state(f"monitor.{monitor.name}", monitor)
        if self.self_test is not None:
            state |= {f"self_test.{name}": tensor for name, tensor in self.self_test.tensors().items()}
        if self.exemplars is not None:
            state |= {f"exemplars.{name}": tensor for name, tensor in self.exemplars.tensors().items()}
        return state

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        config: Config | None = None,
        folder: Path | None = None,
        device: str | None = None,
        bundle_id: str | None = None,
    ) -> Self:
        """Read a bundle. ``config`` may differ in the keys that may change at deploy time; ``folder`` has the code.

        ``bundle_id`` is the only id that is accepted, if it is given.

        Raises:
            Mistake: the bundle is another, a file is missing or was changed, another version of Guardhouse has fitted
                the bundle, or the config asks for a refit.
        """
        manifest = read_manifest(path, bundle_id=bundle_id)
        if config is not None and (keys := differences(manifest.config, config)):
            raise Mistake(f"the config differs from the fitted one in {', '.join(keys)}: fit the bundle anew")
        config = manifest.config if config is None else config
        state = FittedState.read(path / STATE)
        schema, classes = manifest.row_schema, manifest.classes
        program = load_program(path / PROGRAM) if config.model.program is not None else None
        model = make_model(
            config,
            schema,
            outputs=manifest.outputs,
            folder=folder,
            weights=None if program is not None else read_tensors(path / WEIGHTS),
            program=program,
            device=device,
            example=None if schema.kind == "tabular" or "self_test.x" not in state else state["self_test.x"][:4],
            meaning=manifest.meaning,
        )
        detectors = tuple(restored(make_detector(spec), state, f"detector.{spec.name}") for spec in config.guards)
        memory_guards = tuple(
            restored(make_memory_guard(params), state, f"memory.{params.name}").to(model.device)
            for params in config.memory_guards
        )
        context = context_of(config, schema, classes)
        monitors = tuple(
            restored(make_monitor(params, context), state, f"monitor.{params.name}").to(model.device)
            for params in context.monitors
        )
        kept = Exemplars.from_tensors(state.part("exemplars."))
        if config.explain.neighbours is not None and (kept is None or kept.features is None):
            raise Mistake(
                "explain.methods: neighbours needs features of reference rows, and this bundle was fitted without "
                "them; fit the bundle anew, or leave neighbours out"
            )
        bundle = cls(
            config=config,
            schema=schema,
            classes=classes,
            model=model,
            program=program,
            detectors=detectors,
            cause_names=manifest.cause_names,
            scores=state["scores"],
            abstentions={
                spec.name: Abstention.from_tensor(spec.target_error, state[f"abstention.{spec.name}"])
                for spec in config.guards
                if spec.target_error is not None
            },
            calibrated=Calibrated.from_tensors(state, config, temperature=manifest.temperature),
            monitors=monitors,
            memory_guards=memory_guards,
            exemplars=kept,
            self_test=None
            if manifest.self_test is None
            else SelfTest.from_tensors(state.part("self_test."), manifest.self_test),
            id=manifest.id,
        )
        state.refuse_others(bundle._state())
        bundle.subject()  # a mistake under `explain` is found now, and not by the first request
        return bundle
