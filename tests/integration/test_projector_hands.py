"""Processes that project some partitions each: the tables are those of the fold, whatever they leave to others."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict

import orjson
import pytest

from diurna_projections.memory import MemoryTables
from diurna_projections.store import Store
from diurna_schemas.records import DeadLetter
from diurna_streams.log.kafka import KafkaLog
from diurna_streams.project.bulk import catch_up
from diurna_streams.project.hand import EXIT_ALONE
from diurna_streams.project.hands import Share, share_out
from diurna_streams.project.places import partitions_of, places_of
from diurna_streams.project.understand import Understanding
from diurna_streams.project.writer import Writer
from support.own_kafka import everything, own_kafka
from support.projecting import History, busy_team
from support.replaying import append

FreshDatabase = Callable[[], Awaitable[str]]

pytestmark = pytest.mark.stack


@pytest.fixture
async def log() -> AsyncIterator[KafkaLog]:
    async with own_kafka() as bootstrap_servers, KafkaLog(bootstrap_servers) as opened:
        yield opened


@pytest.fixture
async def history(log: KafkaLog) -> History:
    """What a busy team wrote, broken records among it, on the log."""
    made = busy_team(31, 3_000)
    await append(log, made.records)
    return made


async def folded(log: KafkaLog, history: History) -> MemoryTables:
    expected = MemoryTables(history.codec)
    expected.apply(await everything(log, await partitions_of(log)))
    return expected


async def test_what_shares_of_the_log_leave_and_what_follows_make_the_fold_of_all_of_it(
    log: KafkaLog, history: History, fresh_database: FreshDatabase
) -> None:
    expected, partitions = await folded(log, history), await partitions_of(log)
    store = await Store.connect(await fresh_database())
    await store.migrate()
    writer, seen = Writer(store, Understanding(history.codec, None)), list[int]()
    places = await places_of(log, store, partitions)
    done = await share_out(log, writer, places, seen.append, processes=6, share_records_min=1)
    left = (await places_of(log, store, partitions)).lag
    assert 0 < done == places.lag - left
    assert left > 0, "no share met anything unusual: this history tells nothing"
    await catch_up(log, writer, partitions, hand_over_lag_records=0)
    assert (await store.checksums()).tables == expected.checksums()
    await store.close()


async def test_every_dead_letter_is_written_down_by_who_gave_out_the_shares(
    log: KafkaLog, history: History, fresh_database: FreshDatabase
) -> None:
    expected, partitions = await folded(log, history), await partitions_of(log)
    letters: list[DeadLetter] = []

    async def bury(letter: DeadLetter) -> None:
        letters.append(letter)

    store = await Store.connect(await fresh_database(), dead_letters=bury)
    await store.migrate()
    writer = Writer(store, Understanding(history.codec, None))
    places = await places_of(log, store, partitions)
    await share_out(log, writer, places, lambda _: None, processes=6, share_records_min=1)
    assert letters == []
    assert not await store.database.fetch("select 1 from dead_letters")
    await catch_up(log, writer, partitions, hand_over_lag_records=0)
    assert (await store.checksums()).tables == expected.checksums()
    assert len(letters) >= len(expected.tables.dead_letters) > 0
    await store.close()


async def test_a_process_ends_with_the_one_whose_work_it_does() -> None:
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as postgres:
        address = f"127.0.0.1:{postgres.sockets[0].getsockname()[1]}"
        share = Share("127.0.0.1:1", f"postgresql://{address}/none", "diurna", {}, False, [("locks.events", 0, 1)])
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "diurna_streams.project.hand", stdin=asyncio.subprocess.PIPE
        )
        assert process.stdin is not None
        process.stdin.write(orjson.dumps(asdict(share)) + b"\n")
        async with asyncio.timeout(60):
            await asked.wait()
            assert process.returncode is None
            process.stdin.close()
            assert await process.wait() == EXIT_ALONE
