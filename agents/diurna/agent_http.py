"""The small HTTP server of an agent: its health, its metrics, and a door for requests that leads to the log."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from diurna.problems import BODY_BYTES_MAX, body_of, problem_response
from diurna_schemas.errors import DiurnaError, Unavailable
from diurna_schemas.shapes import AgentResponseEvent

_STOP_SECONDS: Final = 5


class _Server(uvicorn.Server):
    """Leaves the signals alone: they are the agent's."""

    def install_signal_handlers(self) -> None:
        return

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await self._serve(sockets)


def bound(host: str, port: int) -> socket.socket:
    """A listening socket, on any free port where `port` is 0. Raises `Unavailable` where the port is taken."""
    try:
        return socket.create_server((host, port), backlog=128)
    except OSError as error:
        raise Unavailable(f"the agent cannot listen on {host}:{port}: {error}") from error


@asynccontextmanager
async def serving(
    listening: socket.socket,
    health: Callable[[], dict[str, Any]],
    ask: Callable[[dict[str, Any]], Awaitable[AgentResponseEvent]],
) -> AsyncGenerator[None]:
    """Serves until the block ends."""
    config = uvicorn.Config(
        _application(health, ask),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([listening]), name="diurna-agent-http")
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.wait([task], timeout=_STOP_SECONDS + 1)
        listening.close()


def _application(
    health: Callable[[], dict[str, Any]], ask: Callable[[dict[str, Any]], Awaitable[AgentResponseEvent]]
) -> Starlette:
    async def get_health(_: Request) -> Response:
        state = health()
        return Response(
            orjson.dumps(state), 200 if state["status"] == "healthy" else 503, media_type="application/json"
        )

    async def get_metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    async def post_request(request: Request) -> Response:
        try:
            response = await ask(await body_of(request, BODY_BYTES_MAX))
        except DiurnaError as error:
            return problem_response(error, request.url.path)
        return Response(response.model_dump_json(), media_type="application/json")

    return Starlette(
        routes=[
            Route("/health", get_health),
            Route("/metrics", get_metrics),
            Route("/agent-request", post_request, methods=["POST"]),
        ]
    )
