"""The ``explain`` section of the config: the methods with their parameters, and the bounds on requests."""

from typing import Annotated, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from guards.config.base import Section
from guards.config.neighbours import NEIGHBOURS, NeighboursParams
from guards.config.plugins import OneOf, broken_plugins, registered
from guards.detectors.base import Params

__all__ = ["ExplainConfig"]


class ExplainConfig(Section):
    """Explanations: their methods, and the bounds on requests for them."""

    method: str = Field(default="integrated_gradients", description="the method if a request names none")
    steps: int | None = Field(
        default=None,
        ge=1,
        description="steps of the default method: gradient evaluations; default: the method's own number",
    )
    methods: tuple[Annotated[SerializeAsAny[Params], OneOf("explainers", (NeighboursParams,))], ...] = Field(
        default=(), description="the methods that a request may choose; default: all but neighbours"
    )
    embeddings: tuple[str, ...] = Field(
        default=(),
        description="dotted names of the embedding layers of categories; gradient methods on a table need them",
    )
    baseline: Literal["neutral", "zeros", "mean", "sample"] = Field(
        default="neutral",
        description="what a row is compared with; neutral: zeros, or a table's imputed values; zeros: zeros in the "
        "numeric columns of a table, too; mean: the reference's mean; sample: the average over a few reference rows",
    )
    rejected: bool = Field(default=False, description="true: abstained and rejected rows are explained, too")
    device: str = Field(
        default="cpu", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="where explanations are computed"
    )
    share: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="part of the time that explanations may take while predictions are being served",
    )
    rate: float = Field(default=120.0, gt=0, description="requests of each client a minute")
    burst: int = Field(default=60, ge=1, description="the most requests that a client may send at once, after a pause")
    max_rows: int = Field(default=32, ge=1, le=1024, description="the most rows of one request")
    max_queue: int = Field(default=32, ge=1, le=10_000, description="the most requests that wait for an explanation")
    max_jobs: int = Field(default=200, ge=1, le=1_000_000, description="the most asynchronous requests that are kept")
    job_seconds: float = Field(default=60.0, gt=0, le=3600, description="seconds until an asynchronous request fails")
    keep_seconds: float = Field(
        default=3600.0, gt=0, description="seconds for which the answer to an asynchronous request is kept"
    )
    cache_bytes: int = Field(
        default=32 * 1024 * 1024, ge=0, description="bytes of memory for answers to requests that come again"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [params.model_dump()["method"] for params in self.methods]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"methods: {twice[0]!r} is listed twice")
        known = (*registered("explainers"), NEIGHBOURS)
        if self.method not in known:
            broken = broken_plugins("explainers").get(self.method)
            raise ValueError(
                f"method: {self.method!r} is not known; there are {', '.join(map(repr, known))}"
                + (f" (installed, but broken: {broken})" if broken else "")
            )
        if self.method not in self.allowed:
            raise ValueError(f"method: {self.method!r} is not among `methods`; add it there")
        if self.steps is not None and "steps" not in type(self.allowed[self.method]).model_fields:
            raise ValueError(f"steps: {self.method} has none")
        self.parameters(self.method)
        return self

    @property
    def allowed(self) -> dict[str, Params]:
        """The parameters of every method that a request may choose, by name."""
        if self.methods:
            return {params.model_dump()["method"]: params for params in self.methods}
        return {
            name: explainer.Params.model_validate({"method": name})
            for name, explainer in registered("explainers").items()
            if not _required(explainer.Params)
        }

    @property
    def neighbours(self) -> NeighboursParams | None:
        """The parameters of the nearest reference rows; None if answers do not name them."""
        found = self.allowed.get(NEIGHBOURS)
        return found if isinstance(found, NeighboursParams) else None

    @property
    def needs_rows(self) -> str | None:
        """The key that needs reference rows in the bundle; None if no key does."""
        if self.baseline == "sample":
            return "baseline: sample"
        return "methods.neighbours.show_rows" if self.neighbours and self.neighbours.show_rows else None

    def parameters(self, method: str, steps: int | None = None) -> Params:
        """Give the parameters of an allowed method; a request's ``steps`` replace the config's.

        Raises:
            ValueError: ``steps`` is out of bounds, or the method has no steps.
        """
        params = self.allowed[method]
        if steps is None and method == self.method:
            steps = self.steps
        if steps is None:
            return params
        values = params.model_dump() | {"steps": steps}
        if "max_steps" in values:  # a config that names more steps than the limit raises the limit
            values["max_steps"] = max(values["max_steps"], steps)
        return type(params).model_validate(values)


def _required(params: type[Params]) -> bool:
    return any(field.is_required() for name, field in params.model_fields.items() if name != "method")
