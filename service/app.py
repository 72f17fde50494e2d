"""The BentoML service. No torch at the top: the supervisor and ``bentoml build`` import this module."""

import os
import sys
from typing import Annotated, Any

import bentoml
from _bentoml_sdk.validators import TensorSchema
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml.exceptions import BentoMLConfigException

from service.door import Door
from service.supervisor import restrain

# BentoML points prometheus_client at files shared by its workers; with one worker, memory does.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)


# Any row, as JSON has it. In this schema BentoML's own client writes a row that is an array as lists, too: it makes an
# array of objects of every row, which leaves the values as they are.
Row = Annotated[Any, TensorSchema("numpy-array", "object_")]


class Gatehouse(bentoml.Service[Any]):  # type: ignore[misc]
    """A BentoML service with Door outside of every BentoML middleware, and exactly one worker."""

    def inject_config(self) -> None:
        """Refuse what would do harm, or nothing (runs before any worker is started).

        Metrics, queue and monitors are one process's own, so there is one worker.
        """
        if "--fd" not in sys.argv:  # which a worker is given: this process is, or becomes, the supervisor
            restrain()
        super().inject_config()
        if BentoMLContainer.http.cors.enabled.get():
            raise BentoMLConfigException(
                "http.cors is BentoML's, which is behind this server's own doors and would do nothing: leave it out, "
                "and name the origins under `server.cors` in the gateway's config"
            )
        workers = BentoMLContainer.config.services[self.name].get()["workers"]
        if workers != 1:
            raise BentoMLConfigException(f"workers is {workers!r}: one worker a process; scale by replicas")

    def to_asgi(self, is_main: bool = True) -> Any:  # noqa: ANN401 - BentoML's own signature
        """Put Door in front (runs in the worker alone, before uvicorn is configured)."""
        from service.wire import use_strict_protocol  # noqa: PLC0415 - the worker's alone

        use_strict_protocol()
        return Door(super().to_asgi(is_main))


@bentoml.service(
    name="Gateway",
    service_class=Gatehouse,
    workers=1,
    traffic={"timeout": 60},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
    monitoring={"enabled": False},
)
class Gateway:
    """Guarded predictions."""

    @bentoml.api  # type: ignore[untyped-decorator]
    def predict(
        self,
        instances: list[Row],
        ids: list[str] | None = None,
        groups: dict[str, list[str | None]] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Judge and predict rows. Door answers this path; the signature is here for the schema and BentoML's client."""
        raise NotImplementedError
