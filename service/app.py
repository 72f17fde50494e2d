"""The BentoML service. No torch at the top: the supervisor and ``bentoml build`` import this module."""

import os
import sys
from typing import Annotated, Any

import bentoml
from _bentoml_sdk.validators import TensorSchema
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml.exceptions import BentoMLConfigException

from service.lifecycle.door import Door
from service.lifecycle.supervisor import restrain

# BentoML makes prometheus_client write to files that its workers share. This server's counters are on the board.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)


# Any row of JSON. BentoML's own client turns every row of this type into an array of objects. This leaves the values
# as they are, and the client writes a row that is an array as lists.
Row = Annotated[Any, TensorSchema("numpy-array", "object_")]


class GuardedService(bentoml.Service[Any]):  # type: ignore[misc]
    """A BentoML service whose workers are the fronts. :class:`Door` handles requests before any BentoML middleware."""

    def inject_config(self) -> None:
        """Refuse BentoML settings that would do harm or have no effect. BentoML calls this before it starts a process.

        The setting ``workers`` is refused because the supervisor starts ``server.fronts`` workers.
        """
        if "--fd" not in sys.argv:  # only a worker gets this option, so this process is or becomes the supervisor
            restrain()
        super().inject_config()
        if BentoMLContainer.http.cors.enabled.get():
            raise BentoMLConfigException(
                "BentoML's http.cors would do nothing, because this server answers HTTP itself: leave it out, "
                "and name the origins under `server.cors` in the gateway's config"
            )
        workers = BentoMLContainer.config.services[self.name].get()["workers"]
        if workers != 1:
            raise BentoMLConfigException(
                f"workers is {workers!r}: leave it out, and set `server.fronts` in the gateway's config"
            )

    def to_asgi(self, is_main: bool = True) -> Any:  # noqa: ANN401 - BentoML's own signature
        """Put the door in front of BentoML's application. BentoML calls this in a worker, before uvicorn's setup."""
        from service.front.uvicorn_protocol import use_strict_protocol  # noqa: PLC0415 - only a worker needs it

        use_strict_protocol()
        return Door(super().to_asgi(is_main))


@bentoml.service(
    name="Gateway",
    service_class=GuardedService,
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
