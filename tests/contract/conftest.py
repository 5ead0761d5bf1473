"""What contract suites run on, in memory and on real parts: logs for those who decide and check, checkpoint savers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from diurna_schemas.topics import TOPICS
from diurna_streams.log import Log
from diurna_streams.log.kafka import KafkaLog
from support.deciding import RivalKafkaLog, RivalMemoryLog
from support.own_kafka import own_kafka
from support.savers import Savers, memory_savers, real_savers
from support.stack import Databases


@pytest.fixture(scope="module")
async def own_broker() -> AsyncIterator[str]:
    """A broker of this module's own: rivals, broken snapshots and made-up events are nobody else's past."""
    async with own_kafka() as bootstrap_servers:
        yield bootstrap_servers


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.stack)])
def own_servers(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "memory" else str(request.getfixturevalue("own_broker"))


@pytest.fixture
async def new_log(own_servers: str | None) -> AsyncIterator[Callable[[], Log]]:
    """Gives connections to one log; on memory they are one object. Every member is given every partition."""
    if own_servers is None:
        memory = RivalMemoryLog()
        await memory.provision(TOPICS.values())
        yield lambda: memory
        return
    made: list[KafkaLog] = []

    def connect() -> Log:
        made.append(RivalKafkaLog(own_servers, client_id="contract"))
        return made[-1]

    await connect().provision(TOPICS.values())
    yield connect
    for log in made:
        await log.close()


@dataclass(frozen=True)
class RealParts:
    """A broker, and where databases are made."""

    bootstrap_servers: str
    databases: Databases


@pytest.fixture(scope="module", params=["memory", pytest.param("kafka", marks=pytest.mark.stack)])
def real_parts(request: pytest.FixtureRequest) -> RealParts | None:
    """None stands for memory."""
    if request.param == "memory":
        return None
    return RealParts(request.getfixturevalue("kafka_bootstrap"), request.getfixturevalue("databases"))


@pytest.fixture(scope="module")
async def savers(real_parts: RealParts | None) -> AsyncIterator[Savers]:
    """Makes checkpoint savers, on memory and on a real Kafka and Postgres."""
    if real_parts is None:
        async with memory_savers() as made:
            yield made
        return
    async with real_savers(real_parts.bootstrap_servers, await real_parts.databases.fresh()) as made:
        yield made
