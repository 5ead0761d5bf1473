"""The real parts the tests run on: yours where the environment names them, containers where Docker answers, else ours.

Nothing is kept warm between sessions: state lies in a temporary folder and every server ends with the session, also
when the session is killed. Only what is downloaded or trained stays, in the user's cache directory.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from diurna_deploy.settings import Settings
from diurna_deploy.stack.kafka import KafkaNode
from diurna_deploy.stack.node import Node
from diurna_deploy.stack.postgres import PostgresNode
from support import containers

_GUARD = """
import asyncio, shutil, sys
from pathlib import Path
from diurna_deploy.stack.kafka import KafkaNode
from diurna_deploy.stack.postgres import PostgresNode
sys.stdin.read()
state = Path(sys.argv[1])
for node in (PostgresNode(state), KafkaNode(state, state)):
    asyncio.run(node.stop())
shutil.rmtree(state, ignore_errors=True)
"""
"""Reads until its standard input closes, which happens however the session ends, and then stops what still runs."""


class Embedded:
    """A state directory of the session's own, and what was started in it."""

    def __init__(self) -> None:
        self.state_dir = Path(tempfile.mkdtemp(prefix="diurna-tests-"))
        self.cache_dir = Settings().cache_dir
        self._started: list[Node] = []
        self._guard = subprocess.Popen(
            [sys.executable, "-c", _GUARD, str(self.state_dir)], stdin=subprocess.PIPE, start_new_session=True
        )

    async def kafka(self) -> KafkaNode:
        node = KafkaNode(self.state_dir, self.cache_dir)
        await node.start()
        self._started.append(node)
        return node

    async def postgres(self) -> PostgresNode:
        node = PostgresNode(self.state_dir)
        await node.start()
        self._started.append(node)
        return node

    async def close(self) -> None:
        for node in reversed(self._started):
            await node.stop()
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        await asyncio.to_thread(self._guard.wait)
        await asyncio.to_thread(shutil.rmtree, self.state_dir, ignore_errors=True)


@asynccontextmanager
async def kafka(embedded: Embedded) -> AsyncIterator[str]:
    """Yields bootstrap servers."""
    if given := os.environ.get("DIURNA_KAFKA_BOOTSTRAP_SERVERS"):
        yield given
        return
    async with containers.kafka() as contained:
        yield contained or (await embedded.kafka()).bootstrap_servers


@asynccontextmanager
async def postgres(embedded: Embedded) -> AsyncIterator[str]:
    """Yields the address of a server on which databases may be made."""
    if given := os.environ.get("DIURNA_DATABASE_URL"):
        yield given
        return
    async with containers.postgres() as contained:
        yield contained or (await embedded.postgres()).database_url()


class Databases:
    """Makes databases on one server, and drops them in the end."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._numbers = itertools.count(1)
        self._made: list[str] = []

    async def fresh(self) -> str:
        """The address of an empty database nobody else has."""
        name = f"diurna_test_{os.getpid()}_{next(self._numbers)}"
        await self._execute(f'CREATE DATABASE "{name}"')
        self._made.append(name)
        return urlunsplit(urlsplit(self._server_url)._replace(path=f"/{name}"))

    async def close(self) -> None:
        for name in self._made:
            await self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._server_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def own_settings(state_dir: Path, **given: object) -> Settings:
    """Settings for a stack of a test's own: its state is thrown away, what was downloaded is shared."""
    chosen = {"api_port": 0, "cache_dir": Settings().cache_dir, "state_dir": state_dir, **given}
    # model_construct would skip the checks; an explicit None keeps the environment's servers out
    outside = ("kafka_bootstrap_servers", "database_url", "schema_registry_url", "api_url")
    return Settings(**{**dict.fromkeys(outside), **chosen})  # type: ignore[arg-type]


async def eventually(condition: Callable[[], Awaitable[bool]], *, seconds: float = 15.0) -> None:
    """Waits until the condition holds; fails where it does not in time."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - the condition is another process's
            await asyncio.sleep(0.05)


def until(condition: Callable[[], object], *, seconds: float) -> None:
    """Returns once it holds, for whoever is not async; fails after so many seconds."""
    Retrying(retry=retry_if_result(lambda holds: not holds), stop=stop_after_delay(seconds), wait=wait_fixed(0.2))(
        condition
    )
