"""The embedded servers answer real clients, for one caller or for two at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic


async def test_a_topic_can_be_made_written_and_read(kafka_bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic("stack.read-and-write", 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, acks="all", enable_idempotence=True) as producer:
        await producer.send_and_wait("stack.read-and-write", b"one", key=b"key")
    async with AIOKafkaConsumer(
        "stack.read-and-write", bootstrap_servers=kafka_bootstrap, auto_offset_reset="earliest"
    ) as consumer:
        record = await consumer.getone()
    assert (record.key, record.value, record.offset) == (b"key", b"one", 0)


async def test_every_fresh_database_is_another(fresh_database: Callable[[], Awaitable[str]], database_url: str) -> None:
    urls = {database_url, await fresh_database(), await fresh_database()}
    names: set[str] = set()
    for url in urls:
        connection = await asyncpg.connect(url)
        names.add(await connection.fetchval("SELECT current_database()"))
        assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
        await connection.close()
    assert len(names) == len(urls) == 3
