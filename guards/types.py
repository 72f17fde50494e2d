"""What travels through the pipeline: a batch of rows, what the model said of it, what the guards found."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from guards.schema import InputSchema

__all__ = [
    "Action",
    "Batch",
    "Finding",
    "Mistake",
    "Mistakes",
    "ModelOutput",
    "Outcome",
    "Prediction",
    "Reference",
    "Rows",
    "Verdict",
]


class Mistake(Exception):  # noqa: N818 - it is the user's, and named for what it is
    """A mistake in a config, a file or a bundle: one actionable sentence for each."""

    def __init__(self, *sentences: str) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


class Mistakes:
    """Collects the mistakes of steps that do not need each other, so that a user hears of all of them at once.

    >>> together = Mistakes()
    >>> for name in ("a", "b"):
    ...     with together:
    ...         raise Mistake(f"{name} is wrong")
    >>> together.sentences
    ['a is wrong', 'b is wrong']
    """

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def __enter__(self) -> None:
        """Begin a step."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        """Keep the step's mistake, and go on behind it; any other error is raised."""
        if isinstance(error, Mistake):
            self.sentences += [sentence for sentence in error.sentences if sentence not in self.sentences]
        return isinstance(error, Mistake)

    def refuse(self) -> None:
        """End the steps.

        Raises:
            Mistake: there was one, or more.
        """
        if self.sentences:
            raise Mistake(*self.sentences)


class Action(IntEnum):
    """What may happen to a row; where guards disagree, the strictest wins."""

    ALLOW = 0
    FLAG = 1
    ABSTAIN = 2
    REJECT = 3

    @property
    def label(self) -> str:
        """The word on the wire and in configs."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, eq=False)
class ModelOutput:
    """One forward pass: ``logits`` (n, k), or values (n, 1) for regression; ``features`` (n, d); float32."""

    logits: Tensor
    features: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows as the client meant them: ``x`` (n, ...) float32, missing values NaN, unseen categories -1.

    ``groups`` holds level codes (n,) int64 by attribute, for attributes that come with the request.
    ``output`` is there once the model has run.
    """

    x: Tensor
    groups: Mapping[str, Tensor] = field(default_factory=dict)
    output: ModelOutput | None = None

    def __len__(self) -> int:
        """Count the rows."""
        return self.x.shape[0]

    def __getitem__(self, rows: slice) -> "Batch":
        """Take some of the rows, in order."""
        output = self.output
        return Batch(
            x=self.x[rows],
            groups={name: codes[rows] for name, codes in self.groups.items()},
            output=None if output is None else ModelOutput(output.logits[rows], output.features[rows]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Rows that detectors and monitors are fitted on, with the model's output for them.

    ``y`` (n,) is the class index, or the value for regression. ``head`` is the model's last linear layer, where
    there is one. ``temperature`` was fitted on rows that belong neither to these nor to the calibration rows. Where
    these are held-out rows, ``train_hits`` says how many rows the model was trained on it gets right, and how many
    there are, as far as their labels are known.
    """

    batch: Batch
    y: Tensor | None
    schema: "InputSchema"
    head: nn.Linear | None = None
    temperature: float = 1.0
    train_hits: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of a data file: ``x`` (n, ...) as in a batch, ``y`` (n,) class index or value, ``groups`` by attribute."""

    x: Tensor
    y: Tensor | None = None
    groups: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the rows."""
        return self.x.shape[0]

    def take(self, index: Tensor) -> "Rows":
        """Take the rows of an index (m,)."""
        picked = index.tolist()
        groups = {name: tuple(values[i] for i in picked) for name, values in self.groups.items()}
        return Rows(self.x[index], None if self.y is None else self.y[index], groups)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What the model's output means: calibrated, with the set or interval that covers the truth at the stated rate.

    Classification: ``probabilities`` (n, k), ``label`` (n,) int64 and ``members`` (n, k) bool, the prediction set.
    Regression: ``value`` (n,) and ``interval`` (n, 2). Without labelled calibration rows there is no set or interval.
    """

    probabilities: Tensor | None = None
    label: Tensor | None = None
    members: Tensor | None = None
    value: Tensor | None = None
    interval: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """What a detector found: ``score`` (n,), larger is stranger; the rest where there is any.

    ``violated`` (n,) marks rows that break a declared bound, ``causes`` (n, c) what made each row strange, ``crashed``
    (n,) the rows that the detector could not take.
    """

    score: Tensor
    violated: Tensor | None = None
    causes: Tensor | None = None
    crashed: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """All guards' answers: ``score``, ``p_value``, ``flagged`` are (g, n), ``action`` (n,) int64 of :class:`Action`.

    ``flagged`` says what each guard found, also where the mode kept it from acting. A row on which a detector crashed
    has p-value NaN and is not flagged by it. ``violated`` (g, n) is None where no guard knows declared bounds.
    """

    guards: tuple[str, ...]
    score: Tensor
    p_value: Tensor
    flagged: Tensor
    violated: Tensor | None
    action: Tensor
    causes: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Everything the pipeline has to say of a batch."""

    output: ModelOutput
    prediction: Prediction
    verdict: Verdict

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.verdict.action)

    def __getitem__(self, rows: slice) -> "Outcome":
        """Take some of the rows, in order."""
        prediction, verdict = self.prediction, self.verdict
        return Outcome(
            output=ModelOutput(self.output.logits[rows], self.output.features[rows]),
            prediction=Prediction(
                **{
                    item.name: None if (tensor := getattr(prediction, item.name)) is None else tensor[rows]
                    for item in fields(Prediction)
                }
            ),
            verdict=Verdict(
                guards=verdict.guards,
                score=verdict.score[:, rows],
                p_value=verdict.p_value[:, rows],
                flagged=verdict.flagged[:, rows],
                violated=None if verdict.violated is None else verdict.violated[:, rows],
                action=verdict.action[rows],
                causes={name: causes[rows] for name, causes in verdict.causes.items()},
            ),
        )

    def first(self, rows: int) -> "Outcome":
        """Take the first rows, and leave those that only filled the batch up."""
        return self if rows == len(self) else self[:rows]
