"""Servers of the bench's own, with nothing beside them but what is on the path: what that costs by itself."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from diurna_deploy.bench import processes
from diurna_deploy.settings import Settings
from diurna_deploy.stack.kafka import KafkaNode
from diurna_deploy.stack.postgres import PostgresNode


@asynccontextmanager
async def own_log(settings: Settings) -> AsyncGenerator[str]:
    """The addresses of a broker on which a process decides for all families; it is gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="diurna-bench-") as folder:
        kafka = KafkaNode(Path(folder), settings.cache_dir)
        await kafka.start()
        try:
            async with processes.running("w1_processes", "deciders", kafka.bootstrap_servers, "-", "bench"):
                yield kafka.bootstrap_servers
        finally:
            await kafka.stop()


@asynccontextmanager
async def own_database() -> AsyncGenerator[str]:
    """The address of a Postgres that is gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="diurna-bench-") as folder:
        postgres = PostgresNode(Path(folder))
        await postgres.start()
        try:
            yield postgres.database_url()
        finally:
            await postgres.stop()
