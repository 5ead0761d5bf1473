"""Servers of the bench's own, with nothing beside them but what is on the path: what that costs by itself."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from diurna_deploy.bench import processes
from diurna_deploy.settings import Settings
from diurna_deploy.stack.kafka import KafkaNode
from diurna_deploy.stack.node import Node
from diurna_deploy.stack.postgres import PostgresNode

NodeT = TypeVar("NodeT", bound=Node)


@asynccontextmanager
async def own_log(settings: Settings) -> AsyncGenerator[str]:
    """The addresses of a broker on which a process decides for all families; it is gone when the block ends."""
    async with own_kafka(settings) as servers, processes.running("w1_processes", "deciders", servers, "-", "bench"):
        yield servers


@asynccontextmanager
async def own_kafka(settings: Settings) -> AsyncGenerator[str]:
    """The addresses of an empty broker that is gone when the block ends."""
    async with _thrown_away(lambda folder: KafkaNode(folder, settings.cache_dir)) as kafka:
        yield kafka.bootstrap_servers


@asynccontextmanager
async def own_database() -> AsyncGenerator[str]:
    """The address of a Postgres that is gone when the block ends."""
    async with _thrown_away(PostgresNode) as postgres:
        yield postgres.database_url()


@asynccontextmanager
async def _thrown_away(make: Callable[[Path], NodeT]) -> AsyncGenerator[NodeT]:
    """A running server in a folder that is deleted with it."""
    with tempfile.TemporaryDirectory(prefix="diurna-bench-", ignore_cleanup_errors=True) as folder:
        node = make(Path(folder))
        await node.start()
        try:
            yield node
        finally:
            await node.stop()
