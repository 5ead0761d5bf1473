"""A broker of a test's own: what is written here is chained by the test, and no decider may take it for its past."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from diurna_deploy.settings import Settings
from diurna_deploy.stack.kafka import KafkaNode
from diurna_schemas.topics import TOPICS
from diurna_streams.log.kafka import KafkaLog
from diurna_streams.log.port import Outgoing, Producer, Record, TopicPartition

_BATCH_RECORDS_MAX = 500


@asynccontextmanager
async def own_kafka() -> AsyncIterator[str]:
    """Yields the bootstrap servers of a broker with all topics, thrown away afterwards."""
    state_dir = Path(tempfile.mkdtemp(prefix="diurna-own-kafka-"))
    node = KafkaNode(state_dir, Settings().cache_dir)
    await node.start()
    try:
        async with KafkaLog(node.bootstrap_servers) as log:
            await log.provision(TOPICS.values())
        yield node.bootstrap_servers
    finally:
        await node.stop()
        shutil.rmtree(state_dir, ignore_errors=True)


async def write(producer: Producer, records: Iterable[Record]) -> None:
    """Writes records as they stand, in order within each partition."""
    by_place: dict[TopicPartition, list[Outgoing]] = {}
    for record in records:
        place = TopicPartition(record.topic, record.partition)
        by_place.setdefault(place, []).append(Outgoing(record.key, record.value, record.headers, record.timestamp_ms))
    for place, outgoing in by_place.items():
        for start in range(0, len(outgoing), _BATCH_RECORDS_MAX):
            await producer.send_batch(*place, outgoing[start : start + _BATCH_RECORDS_MAX])


async def everything(log: KafkaLog, partitions: list[TopicPartition]) -> list[Record]:
    """All records of these partitions, as the broker holds them."""
    ends = {place: end for place, end in (await log.ends(partitions)).items() if end}
    if not ends:
        return []
    reader = await log.reader()
    await reader.start_at(dict.fromkeys(ends, 0))
    found: list[Record] = []
    while len(found) < sum(ends.values()):
        found += await reader.read(records_max=5_000)
    await reader.close()
    return found
