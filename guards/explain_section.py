"""The ``explain`` section: which methods there are, with what parameters, for whom and how often."""

from typing import Annotated, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from guards.detector import Params
from guards.explainers.neighbours import NeighboursParams
from guards.registry import OneOf, broken_plugins, registered
from guards.section import Section

__all__ = ["ExplainConfig"]

NEIGHBOURS = "neighbours"


class ExplainConfig(Section):
    """Explanations on demand."""

    method: str = Field(default="integrated_gradients", description="the method where a request names none")
    steps: int | None = Field(default=None, ge=1, description="gradient evaluations of the default method")
    methods: tuple[Annotated[SerializeAsAny[Params], OneOf("explainers")], ...] = Field(
        default=(), description="the methods that a request may choose; default: all but neighbours"
    )
    embeddings: tuple[str, ...] = Field(
        default=(), description="dotted names of the layers that look categories up, for gradient methods on a table"
    )
    baseline: Literal["neutral", "zeros", "mean", "sample"] = Field(
        default="neutral",
        description="what a row is compared with: zeros, or a table's imputed values (neutral); zeros in the numeric "
        "columns of a table, too (zeros); the reference's mean; the average over a few reference rows (sample)",
    )
    rejected: bool = Field(default=False, description="true: rows that abstained or were rejected are explained, too")
    device: str = Field(default="cpu", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="where they are computed")
    share: float = Field(
        default=0.2, gt=0, le=1, description="part of the time spent on explanations while predictions are being served"
    )
    rate: float = Field(default=120.0, gt=0, description="requests a minute, of each client")
    burst: int = Field(default=60, ge=1, description="requests that a client may have saved up")
    max_rows: int = Field(default=32, ge=1, le=1024, description="rows of one request")
    max_queue: int = Field(default=32, ge=1, le=10_000, description="requests waiting for an explanation")
    max_jobs: int = Field(default=200, ge=1, le=1_000_000, description="asynchronous requests that are kept")
    job_seconds: float = Field(default=60.0, gt=0, le=3600, description="the deadline of an asynchronous request")
    keep_seconds: float = Field(default=3600.0, gt=0, description="how long its answer is kept")
    cache_bytes: int = Field(default=32 * 1024 * 1024, ge=0, description="memory for answers that may be asked again")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [params.model_dump()["method"] for params in self.methods]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"methods: {twice[0]!r} is listed twice")
        known = registered("explainers")
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
            if name != NEIGHBOURS and not _required(explainer.Params)
        }

    @property
    def neighbours(self) -> NeighboursParams | None:
        """How nearest reference rows are named, where they are."""
        found = self.allowed.get(NEIGHBOURS)
        return found if isinstance(found, NeighboursParams) else None

    @property
    def needs_rows(self) -> str | None:
        """The key that asks for reference rows in the bundle, or None."""
        if self.baseline == "sample":
            return "baseline: sample"
        return "methods.neighbours.show_rows" if self.neighbours and self.neighbours.show_rows else None

    def parameters(self, method: str, steps: int | None = None) -> Params:
        """Give the parameters of an allowed method, with a request's ``steps`` instead of the config's.

        Raises:
            ValueError: that many steps are out of bounds, or the method has none.
        """
        params = self.allowed[method]
        if steps is None and method == self.method:
            steps = self.steps
        if steps is None:
            return params
        values = params.model_dump() | {"steps": steps}
        if "max_steps" in values:  # asked for more than the limit by name: then that is the limit
            values["max_steps"] = max(values["max_steps"], steps)
        return type(params).model_validate(values)


def _required(params: type[Params]) -> bool:
    return any(field.is_required() for name, field in params.model_fields.items() if name != "method")
