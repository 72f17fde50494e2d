"""The HTTP routes of an admin: exclude a principal's rows from the monitors, include them again, reset a monitor."""

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus

import orjson

from service.front.dispatch import POST_CODES
from service.front.engine_client import EngineClient
from service.front.http import Call, Reply, Route
from service.front.protocols.monitor_changes import decode
from service.front.protocols.problem import Problem
from service.front.readiness import Readiness
from service.messages.monitor_changes import KINDS, Change, Kind
from service.messages.served_model import ServedModel
from service.telemetry.request_record import current_owner

__all__ = ["CODES", "AdminRoutes"]

TEMPLATES: Mapping[Kind, str] = {kind: f"/v1/models/{{name}}/monitors:{kind}" for kind in KINDS}
CODES: Mapping[str, tuple[int, ...]] = dict.fromkeys(TEMPLATES.values(), (*POST_CODES, 404))
"""The status codes of each route, by its template."""


class AdminRoutes:
    """Changes of the monitors. Each change has an author, so a server without keys refuses all of them."""

    def __init__(self, served: ServedModel, engine: EngineClient, readiness: Readiness) -> None:
        self._served, self._engine, self._readiness = served, engine, readiness

    def routes(self) -> dict[str, Route]:
        """Return the route of every exact path."""
        return {
            template.replace("{name}", self._served.name): Route(
                template, {"POST": partial(self._change, kind)}, CODES[template], needs="admin"
            )
            for kind, template in TEMPLATES.items()
        }

    async def _change(self, kind: Kind, call: Call) -> Reply:
        by = current_owner()
        if by is None:
            detail = "this server has no keys, so nobody is its admin: give it keys, and one of them the scope `admin`"
            raise Problem(HTTPStatus.NOT_FOUND, detail)
        self._readiness.check_engine()
        subject, reason = decode(call.body, kind, self._served.monitors)
        return Reply(orjson.dumps(await self._engine.change(Change(kind, subject, reason, by))))
