"""Every route of a front, and the codes that each route may answer with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from service.front import admin_routes, page_routes, triton_routes, v1_routes, v2_routes
from service.front.admin_routes import AdminRoutes
from service.front.admission import KEY_CODES, QUOTA_CODES, Admission
from service.front.client_names import ClientNames
from service.front.concurrency import ConcurrencyLimit
from service.front.console import console_routes
from service.front.cors import PREFLIGHT, PREFLIGHT_CODES
from service.front.dispatch import COMMON_CODES, UNMATCHED
from service.front.engine_client import EngineClient
from service.front.http import Route
from service.front.prediction import Prediction
from service.front.readiness import Readiness
from service.front.triton_routes import Totals, Triton, TritonRoutes
from service.front.v1_routes import Exposition, V1Routes
from service.front.v2_routes import V2Routes
from service.messages.served_model import ServedModel
from service.telemetry.request_record import CLIENT_LEFT, Exchanges, StageTimes

if TYPE_CHECKING:
    from service.front.grpc_server import RpcServer

__all__ = ["Assembly", "codes_of"]


def codes_of(
    served: ServedModel, explaining: Mapping[str, tuple[int, ...]], *, keys: bool = False
) -> dict[str, tuple[int, ...]]:
    """Give the status codes of every route by the route's template. The metrics have a series for each code.

    ``explaining`` maps the templates of the explanation routes to their codes. ``keys`` is whether the server asks for
    keys.
    """
    codes = {**v1_routes.CODES, **admin_routes.CODES, **v2_routes.CODES, **triton_routes.CODES}
    codes |= {**page_routes.CODES, **console_routes.CODES, **explaining}
    codes[UNMATCHED] = COMMON_CODES
    more = (*KEY_CODES, *QUOTA_CODES, 400) if keys else ()
    counted = {template: (*dict.fromkeys((*each, *more)), CLIENT_LEFT) for template, each in codes.items()}
    if served.server.cors is not None:
        counted[PREFLIGHT] = PREFLIGHT_CODES
    if served.server.grpc_port is not None:
        from service.front.grpc_routes import RPC_ROUTES  # noqa: PLC0415 - needs grpcio, which HTTP does not

        counted |= RPC_ROUTES
    return counted


@dataclass(frozen=True, slots=True, eq=False)
class Assembly:
    """The parts of a front that answer its requests, over HTTP and over gRPC."""

    served: ServedModel
    readiness: Readiness
    prediction: Prediction
    triton: Triton
    routes: Mapping[str, Route]

    @classmethod
    def of(  # noqa: PLR0913 - the parts of a front
        cls,
        served: ServedModel,
        engine: EngineClient,
        *,
        readiness: Readiness,
        stages: StageTimes,
        limit: ConcurrencyLimit,
        exposition: Exposition,
        totals: Callable[[], Totals],
        more: Mapping[str, Route],
    ) -> Self:
        """Make every route.

        Args:
            served: the model that the engine serves.
            engine: the engine.
            readiness: answers health checks.
            stages: measures the time of decoding and encoding.
            limit: bounds how many predictions are answered at one time.
            exposition: writes the metrics.
            totals: returns the counts of the whole server, for Triton's statistics.
            more: the other routes by path.
        """
        prediction = Prediction(
            engine,
            stages,
            limit,
            stored_row_bytes=served.stored_row_bytes,
            optional_guards=served.optional_guards,
            clients=ClientNames(served.server.client_header) if served.remembers else None,
        )
        triton = Triton(served, readiness, totals)
        v1 = V1Routes(
            served,
            engine,
            readiness=readiness,
            prediction=prediction,
            exposition=exposition,
        )
        v2 = V2Routes(served, readiness=readiness, prediction=prediction)
        admin = AdminRoutes(served, engine, readiness)
        routes = {**TritonRoutes(served, triton).routes(), **v1.routes(), **admin.routes(), **v2.routes(), **more}
        return cls(served, readiness, prediction, triton, routes)

    def rpc_server(
        self, exchanges: Exchanges, *, admission: Admission | None = None, share_port: bool = False
    ) -> "RpcServer":
        """Make the gRPC server, without starting to listen."""
        from service.front.grpc_server import RpcServer  # noqa: PLC0415 - needs grpcio, which HTTP does not

        return RpcServer(
            self.served,
            readiness=self.readiness,
            prediction=self.prediction,
            triton=self.triton,
            exchanges=exchanges,
            admission=admission,
            share_port=share_port,
        )
