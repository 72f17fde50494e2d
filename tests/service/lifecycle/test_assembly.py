"""Every route of a front, and the codes that each route may answer with."""

from typing import Any

from idle_limit import idle_limit
from local_engine import LocalEngine, served_model_of
from tiny_models import fitted

from service.front.console.console_routes import ConsoleRoutes
from service.front.dispatch import COMMON_CODES, UNMATCHED
from service.front.grpc_routes import RPC_ROUTES
from service.front.http import Call, Reply, Route
from service.front.openapi.document import PAGES
from service.front.page_routes import PageRoutes
from service.front.readiness import Readiness
from service.lifecycle.assembly import Assembly, codes_of
from service.telemetry.metrics.front import FrontMetrics
from service.telemetry.request_record import CLIENT_LEFT

EXPLAIN = "/v1/models/{name}:explain"


class Nothing:
    """No metrics."""

    async def render(self, accept: str) -> tuple[bytes, str]:
        return accept.encode(), "text/plain"


async def _explain(call: Call) -> Reply:
    return Reply(call.body)


async def _nothing() -> None:
    return None


async def _schema() -> bytes:
    return b"{}"


def assembled(**server: Any) -> Assembly:
    """Assemble the routes of a model called toy."""
    bundle = fitted("tensor", server=server).bundle

    def totals() -> Any:
        raise NotImplementedError

    engine = LocalEngine(bundle)
    return Assembly.of(
        served_model_of(bundle),
        engine,
        readiness=Readiness(engine, lambda: False),
        stages=FrontMetrics({}).stages,
        limit=idle_limit(),
        exposition=Nothing(),
        totals=totals,
        more={
            "/v1/models/toy:explain": Route(EXPLAIN, {"POST": _explain}, (200, 422)),
            **PageRoutes(dict.fromkeys(PAGES, (b"", "text/html")), _schema).routes(),
            **ConsoleRoutes({}, {"model": _nothing}).routes(),
        },
    )


def test_every_route_has_series_for_its_codes() -> None:
    """The codes with series are exactly the codes of the routes, and of requests that match no route."""
    assembly = assembled()
    codes = codes_of(assembly.served, {EXPLAIN: (200, 422)})
    assert codes == {route.template: (*route.codes, CLIENT_LEFT) for route in assembly.routes.values()} | {
        UNMATCHED: (*COMMON_CODES, CLIENT_LEFT)
    }


def test_refused_keys_have_series_only_if_there_are_keys() -> None:
    """A server with keys counts 401, 403 and 429 for every route, also for paths that lead nowhere."""
    served = assembled().served
    without, with_keys = (codes_of(served, {EXPLAIN: (200, 422)}, keys=keys) for keys in (False, True))
    for template, codes in with_keys.items():
        assert {401, 403, 429} <= {*codes}
        assert len({*codes}) == len(codes)
        assert {*codes} - {*without[template]} <= {400, 401, 403, 429}
        assert not {401, 403} & {*without[template]}


def test_other_transports_are_counted_if_they_are_there() -> None:
    """GRPC and preflights have series only in a server that takes them."""
    plain = codes_of(assembled().served, {})
    both = codes_of(assembled(grpc_port=9000, cors={"origins": ["https://app.example"]}).served, {})
    assert {*both} - {*plain} == {*RPC_ROUTES, "preflight"}


def test_a_models_paths_hold_its_name_and_version() -> None:
    """Templates become exact paths, of the one model and version."""
    paths = assembled().routes
    for path in (
        "/v1/models/toy", "/v1/models/toy:predict", "/v1/models/toy:explain", "/v1/models/toy/monitors", "/predict",
        "/v2/models/toy/infer", "/v2/models/toy/versions/1/infer", "/v2/models/toy/versions/1/stats",
        "/v2/repository/models/toy/load", "/openapi.json", "/docs", "/metrics",
    ):  # fmt: skip
        assert path in paths
    assert not [path for path in paths if "{" in path]
