"""Runs the schema registry's application on a free loopback port, for clients that want real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import uvicorn

from diurna_streams.schema_registry.routes import build_app
from diurna_streams.schema_registry.store import SchemaLog, SchemaRegistry
from support.stack import eventually


@asynccontextmanager
async def serving(log: SchemaLog) -> AsyncGenerator[str]:
    """The address of a registry on this log."""
    async with SchemaRegistry.open(log) as registry:
        server = uvicorn.Server(uvicorn.Config(build_app(registry), host="127.0.0.1", port=0, log_level="warning"))
        running = asyncio.create_task(server.serve())

        async def is_started() -> bool:
            return server.started

        await eventually(is_started)
        try:
            port = server.servers[0].sockets[0].getsockname()[1]
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            await running
