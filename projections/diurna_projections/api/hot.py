"""The routes that are asked all the time: their JSON is built in Postgres, and the plain ask passes routing by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, get_args

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from diurna_projections.api.answers import POSITIONS_HEADER, json_answer, limit_of, page_answer, wait_for_positions
from diurna_projections.api.problems import problem_response
from diurna_projections.paging import LIMIT, LIMIT_MAX
from diurna_projections.queries import Queries
from diurna_schemas.agents import AgentStatus
from diurna_schemas.errors import DiurnaError, InvalidInput
from diurna_schemas.ids import checked_name
from diurna_schemas.shapes import AgentHealth, AgentInfo

Endpoint = Callable[[Request], Awaitable[Response]]

MIN_POSITION: Final[dict[str, Any]] = {
    "name": "min_position",
    "in": "query",
    "description": "Wait, at most 10 s, until the tables hold the record at this position; may be repeated.",
    "schema": {"type": "array", "items": {"type": "string", "examples": ["agents.events:3:1234"]}},
}
AS_OF: Final[dict[str, Any]] = {
    "name": "as_of",
    "in": "query",
    "description": "The tables as they were: a time (ISO 8601), milliseconds UTC, or the position of an event.",
    "schema": {"type": "string", "examples": ["2026-11-23T22:12:49Z", "workflows.events:3:1234"]},
}
READ_PARAMETERS: Final = [MIN_POSITION, AS_OF]
_AGENT_ID: Final[dict[str, Any]] = {
    "name": "agent_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
}
_POSITIONS_HEADER: Final = POSITIONS_HEADER.lower().encode()
_STATUSES: Final = get_args(AgentStatus)


def add_hot_routes(router: APIRouter, queries: Queries) -> None:
    """Adds the registry's reads."""

    async def show_agent(request: Request) -> Response:
        await wait_for_positions(request, queries)
        return json_answer(await queries.agent(request.path_params["agent_id"]))

    async def show_health(request: Request) -> Response:
        await wait_for_positions(request, queries)
        return json_answer(await queries.agent_health(request.path_params["agent_id"]))

    async def list_agents(request: Request) -> Response:
        await wait_for_positions(request, queries)
        status, capability = request.query_params.get("status"), request.query_params.get("capability")
        if status is not None and status not in _STATUSES:
            raise InvalidInput("status", status, f"one of {', '.join(_STATUSES)} is expected")
        found = await queries.agents(
            status=status,
            capability=None if capability is None else checked_name("capability", capability),
            limit=limit_of(request),
            cursor=request.query_params.get("cursor"),
        )
        return page_answer(request, found)

    _add(
        router,
        "/agents/{agent_id}",
        show_agent,
        shape=AgentInfo,
        parameters=[_AGENT_ID],
        summary="An agent and its instances",
    )
    _add(
        router,
        "/health/{agent_id}",
        show_health,
        shape=AgentHealth,
        parameters=[_AGENT_ID],
        summary="Whether an agent was heard from lately",
    )
    filters = [
        {"name": "status", "in": "query", "schema": {"type": "string", "enum": list(_STATUSES)}},
        {"name": "capability", "in": "query", "schema": {"type": "string"}},
        {
            "name": "limit",
            "in": "query",
            "schema": {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT},
        },
        {"name": "cursor", "in": "query", "schema": {"type": "string"}},
    ]
    _add(
        router,
        "/agents",
        list_agents,
        shape=list[AgentInfo],
        parameters=filters,
        summary="The agents, in order of their ids",
    )


def _add(
    router: APIRouter, path: str, endpoint: Endpoint, *, shape: Any, parameters: list[dict[str, Any]], summary: str
) -> None:
    router.add_api_route(
        path,
        endpoint,
        methods=["GET"],
        tags=["registry"],
        responses={200: {"model": shape}},
        openapi_extra={"parameters": [*parameters, *READ_PARAMETERS]},
    )


class HotReads:
    """ASGI middleware: answers `GET /agents/{agent_id}` and `GET /health/{agent_id}` before any routing.

    FastAPI's routing costs as much as the read itself. Whatever carries a query goes the ordinary way, to the routes of
    the same paths, which answer the same.
    """

    def __init__(self, app: ASGIApp, queries: Queries) -> None:
        self._app = app
        self._reads = {"/agents/": queries.agent, "/health/": queries.agent_health}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["query_string"]:
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        read = self._reads.get(path[:8])
        if read is None or "/" in path[8:] or len(path) == 8:
            await self._app(scope, receive, send)
            return
        try:
            found = await read(path[8:])
        except DiurnaError as error:
            await problem_response(error, path)(scope, receive, send)
            return
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(found.body)),
            (_POSITIONS_HEADER, found.positions.encode("latin-1")),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": found.body})
