"""What is fitted once and served many times: a folder of JSON and safetensors, no pickle and no code."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, cast

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.export import ExportedProgram

from guards.baselines import baselines
from guards.calibration import Budget, Calibration
from guards.config import Config, differences
from guards.conformal import Classifier, Predictor, Regressor
from guards.detector import Detector
from guards.exemplars import Exemplars
from guards.explainer import Explainer
from guards.folder import (
    FORMAT,
    MANIFEST,
    PROGRAM,
    STATE,
    WEIGHTS,
    named_state,
    read_manifest,
    restored,
    sha256_of,
    write_tensors,
)
from guards.loading import make_model
from guards.model import TorchModel
from guards.monitor import Context, Monitor
from guards.pipeline import Guard, Pipeline
from guards.program import load_program, save_program
from guards.registry import registered
from guards.schema import InputSchema
from guards.selftest import SelfTest
from guards.subject import Subject
from guards.types import Mistake

__all__ = ["Bundle", "__version__", "context_of"]

__version__ = "0.1.0"


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A fitted gateway.

    ``scores`` (g, n) are every guard's scores of the same clean calibration rows, ``nonconformity`` (m,) those of the
    labelled ones: budget, shares and coverage are worked out from them at start, so that they may change without a
    refit. ``id`` is empty until the bundle was saved.
    """

    config: Config
    schema: InputSchema
    classes: tuple[str, ...]
    model: TorchModel
    program: ExportedProgram | None
    temperature: float
    detectors: tuple[Detector, ...]
    cause_names: Mapping[str, tuple[str, ...]]
    scores: Tensor
    nonconformity: Tensor
    monitors: tuple[Monitor, ...]
    exemplars: Exemplars | None = None
    self_test: SelfTest | None = None
    id: str = ""

    def pipeline(self) -> Pipeline:
        """Put the guards together under the config's budget.

        Raises:
            Mistake: the calibration rows cannot support the budget or the coverage.
        """
        config, device = self.config, self.model.device
        try:
            ranks = self.budget().ranks if config.guards else []
        except ValueError as unsupported:
            raise Mistake(f"false_alarm_budget: {unsupported}") from unsupported
        return Pipeline(
            model=self.model,
            guards=[
                Guard(spec.name, detector.to(device), spec.flag_action, spec.error_action)
                for spec, detector in zip(config.guards, self.detectors, strict=True)
            ],
            calibration=Calibration.from_scores(self.scores) if config.guards else None,
            max_ranks=ranks,
            predictor=self._predictor(),
            shadow=config.mode == "shadow",
        )

    def budget(self) -> Budget:
        """Calibrate the guards jointly.

        Raises:
            ValueError: the calibration rows cannot support the budget.
        """
        config = self.config
        return Budget(
            scores=self.scores,
            shares=[spec.share for spec in config.guards],
            budget=config.false_alarm_budget,
            guarantee=config.guarantee,
        )

    def explainer(
        self, method: str | None = None, *, steps: int | None = None, subject: Subject | None = None
    ) -> Explainer:
        """Make an explainer: the config's, or another that it allows; of the model, or of another subject.

        Raises:
            ValueError: that many steps are out of bounds.
        """
        method = method or self.config.explain.method
        explainer = cast("type[Explainer]", registered("explainers")[method])
        return explainer(self.config.explain.parameters(method, steps), subject or self.subject())

    def subject(self, guard: str | None = None) -> Subject:
        """Give what explanations are of: the model's output, or a guard's score.

        Raises:
            Mistake: the config's embeddings or baseline do not fit the model or the bundle.
        """
        names = [spec.name for spec in self.config.guards]
        return Subject(
            self.model,
            self.schema,
            baselines=baselines(self.config.explain.baseline, self.model, self.schema, self.exemplars),
            embeddings=self.config.explain.embeddings,
            detector=None if guard is None else self.detectors[names.index(guard)].to(self.model.device),
        )

    def _predictor(self) -> Predictor:
        coverage = self.config.coverage
        try:
            if self.classes:
                return Classifier(self.nonconformity, coverage=coverage, temperature=self.temperature)
            return Regressor(self.nonconformity, coverage=coverage)
        except ValueError as unsupported:
            raise Mistake(f"coverage: {unsupported}") from unsupported

    def save(self, path: Path, *, source: str | None = None) -> Self:
        """Write the folder, replacing a bundle that is there; ``source`` is the config as the user wrote it.

        Raises:
            Mistake: the folder holds something else.
        """
        if path.exists() and not (path / MANIFEST).is_file() and (path.is_file() or any(path.iterdir())):
            raise Mistake(f"{path}: it is not empty and no bundle; choose another folder")
        fresh = path.with_name(path.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        state: dict[str, Tensor] = {"scores": self.scores, "nonconformity": self.nonconformity}
        for spec, detector in zip(self.config.guards, self.detectors, strict=True):
            state |= named_state(f"detector.{spec.name}", detector)
        for monitor in self.monitors:
            state |= named_state(f"monitor.{monitor.name}", monitor)
        if self.self_test is not None:
            state |= {f"self_test.{name}": tensor for name, tensor in self.self_test.tensors().items()}
        if self.exemplars is not None:
            state |= {f"exemplars.{name}": tensor for name, tensor in self.exemplars.tensors().items()}
        write_tensors(state, fresh / STATE)
        if self.program is None:
            write_tensors(self.model.net.state_dict(), fresh / WEIGHTS)
        else:
            save_program(self.program, fresh / PROGRAM)
        if source is not None:
            (fresh / "gateway.yaml").write_text(source, encoding="utf-8")
        manifest = {
            "format": FORMAT,
            "versions": {"guardhouse": __version__, "torch": torch.__version__},
            "config": self.config.model_dump(mode="json"),
            "schema": self.schema.model_dump(mode="json"),
            "classes": self.classes,
            "outputs": self.model.outputs,
            "meaning": self.model.meaning,
            "temperature": self.temperature,
            "cause_names": self.cause_names,
            "self_test": None if self.self_test is None else self.self_test.fingerprint,
            "sha256": {file.name: sha256_of(file) for file in sorted(fresh.iterdir())},
        }
        (fresh / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
        shutil.rmtree(path, ignore_errors=True)
        fresh.rename(path)
        return replace(self, id=f"sha256:{sha256_of(path / MANIFEST)}")

    @staticmethod
    def describe(path: Path) -> tuple[Config, InputSchema, tuple[str, ...]]:
        """Read the config, the schema and the labels of a bundle, and none of its tensors.

        Raises:
            Mistake: there is no bundle.
        """
        manifest = read_manifest(path, verify=False)
        schema = InputSchema.model_validate(manifest["schema"])
        return Config.model_validate(manifest["config"]), schema, tuple(manifest["classes"])

    @classmethod
    def load(
        cls, path: Path, *, config: Config | None = None, folder: Path | None = None, device: str | None = None
    ) -> Self:
        """Read a bundle; ``config`` may change what may change at deploy time, ``folder`` holds the builder's code.

        Raises:
            Mistake: a file is missing or was changed, or the config asks for a refit.
        """
        manifest = read_manifest(path)
        fitted = Config.model_validate(manifest["config"])
        if config is not None and (keys := differences(fitted, config)):
            raise Mistake(f"the config differs from the fitted one in {', '.join(keys)}: fit the bundle anew")
        config = fitted if config is None else config
        # A file aligns tensors by chance, and vectorised sums round by it: copies are aligned as fitted ones are.
        state = {name: tensor.clone() for name, tensor in load_file(path / STATE).items()}
        schema, classes = InputSchema.model_validate(manifest["schema"]), tuple(manifest["classes"])
        program = load_program(path / PROGRAM) if config.model.program is not None else None
        model = make_model(
            config,
            schema,
            outputs=manifest["outputs"],
            folder=folder,
            weights=None if program is not None else load_file(path / WEIGHTS),
            program=program,
            device=device,
            example=None if schema.kind == "tabular" or "self_test.x" not in state else state["self_test.x"][:4],
            meaning=manifest.get("meaning", "logits"),  # bundles of earlier versions have logits
        )
        detectors = []
        for spec in config.guards:
            detector = cast("type[Detector]", registered("detectors")[spec.detector.model_dump()["kind"]])(
                spec.detector
            )
            detectors.append(restored(detector, state, f"detector.{spec.name}"))
        context = context_of(config, schema, classes)
        monitors = []
        for params in context.monitors:
            monitor = cast("type[Monitor]", registered("monitors")[params.kind])(params, context)
            monitors.append(restored(monitor, state, f"monitor.{params.name}").to(model.device))
        test, exemplars = (
            {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            for prefix in ("self_test.", "exemplars.")
        )
        kept = Exemplars.from_tensors(exemplars)
        if config.explain.neighbours is not None and (kept is None or kept.features is None):
            raise Mistake(
                "explain.methods: neighbours needs features of reference rows, which a bundle keeps only where they "
                "were asked for at fit; fit it anew, or leave neighbours out"
            )
        bundle = cls(
            config=config,
            schema=schema,
            classes=classes,
            model=model,
            program=program,
            temperature=manifest["temperature"],
            detectors=tuple(detectors),
            cause_names={name: tuple(causes) for name, causes in manifest["cause_names"].items()},
            scores=state["scores"],
            nonconformity=state["nonconformity"],
            monitors=tuple(monitors),
            exemplars=kept,
            self_test=SelfTest.from_tensors(test, manifest["self_test"]) if test else None,
            id=f"sha256:{sha256_of(path / MANIFEST)}",
        )
        bundle.subject()  # a mistake under `explain` is told at start, and not to the first who asks
        return bundle


def context_of(config: Config, schema: InputSchema, classes: tuple[str, ...]) -> Context:
    """Say what there is to watch."""
    guards = tuple(spec.name for spec in config.guards)
    return Context(schema, classes, guards, config.all_monitors, config.false_alarm_budget)
