"""The routes that are asked all the time, as plain Starlette endpoints: their JSON is built in Postgres."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, get_args

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from diurna_projections.api.answers import json_answer, limit_of, page_answer, wait_for_positions
from diurna_projections.paging import LIMIT, LIMIT_MAX
from diurna_projections.queries import Queries
from diurna_schemas.agents import AgentStatus
from diurna_schemas.errors import InvalidInput
from diurna_schemas.ids import checked_name
from diurna_schemas.shapes import AgentHealth, AgentInfo

Endpoint = Callable[[Request], Awaitable[Response]]

MIN_POSITION: Final[dict[str, Any]] = {
    "name": "min_position",
    "in": "query",
    "description": "Wait, at most 10 s, until the tables hold the record at this position; may be repeated.",
    "schema": {"type": "array", "items": {"type": "string", "examples": ["agents.events:3:1234"]}},
}
_AGENT_ID: Final[dict[str, Any]] = {
    "name": "agent_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
}
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
    """A plain route that answers, and the same as FastAPI's, never reached, so that it stands in the OpenAPI."""
    router.add_route(path, endpoint, methods=["GET"], include_in_schema=False)
    router.add_api_route(
        path,
        endpoint,
        methods=["GET"],
        summary=summary,
        tags=["registry"],
        responses={200: {"model": shape}},
        openapi_extra={"parameters": [*parameters, MIN_POSITION]},
    )
