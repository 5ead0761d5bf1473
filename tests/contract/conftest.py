"""Logs for the contracts of those who decide and those who check: in memory, and on a broker of the module's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from diurna_schemas.topics import TOPICS
from diurna_streams.log import Log
from diurna_streams.log.kafka import KafkaLog
from support.deciding import RivalKafkaLog, RivalMemoryLog
from support.own_kafka import own_kafka


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
