"""What tests of replays begin with: records on a broker, and tables that hold all of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager

from diurna_projections.store import Store
from diurna_schemas.codec import Codec
from diurna_streams.log.kafka import KafkaLog
from diurna_streams.log.port import Record
from diurna_streams.project.bulk import catch_up
from diurna_streams.project.places import partitions_of
from diurna_streams.project.understand import Understanding
from diurna_streams.project.writer import Writer
from support.own_kafka import write


async def append(log: KafkaLog, records: Iterable[Record]) -> None:
    """Writes records with a producer of their own."""
    producer = await log.producer()
    await write(producer, records)
    await producer.close()


@asynccontextmanager
async def caught_up(database_url: str, log: KafkaLog, codec: Codec) -> AsyncGenerator[Store]:
    """The live tables of a database, with all there is on the log."""
    store = await Store.connect(database_url)
    await store.migrate()
    await catch_up(log, Writer(store, Understanding(codec, None)), await partitions_of(log), hand_over_lag_records=0)
    yield store
    await store.close()
