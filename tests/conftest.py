"""Fixtures for every test: a real Kafka and a real Postgres, started when the first test asks for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from support import distribution
from support.stack import Databases, Embedded, kafka, postgres


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    return distribution.workers(config)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return distribution.ByModule(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    distribution.longest_first(items)


@pytest.fixture(scope="session")
async def embedded() -> AsyncIterator[Embedded]:
    """The session's own embedded stack; nothing runs in it until it is asked for."""
    stack = Embedded()
    yield stack
    await stack.close()


@pytest.fixture(scope="session")
async def kafka_bootstrap(embedded: Embedded) -> AsyncIterator[str]:
    """One broker for the session. Topics are shared: give yours names of their own."""
    async with kafka(embedded) as bootstrap_servers:
        yield bootstrap_servers


@pytest.fixture(scope="session")
async def databases(embedded: Embedded) -> AsyncIterator[Databases]:
    async with postgres(embedded) as server_url:
        made = Databases(server_url)
        yield made
        await made.close()


@pytest.fixture(scope="session")
def fresh_database(databases: Databases) -> Callable[[], Awaitable[str]]:
    """`await fresh_database()` gives the address of an empty database, dropped when the session ends."""
    return databases.fresh


@pytest.fixture(scope="module")
async def database_url(fresh_database: Callable[[], Awaitable[str]]) -> str:
    """An empty database of the test module's own."""
    return await fresh_database()
