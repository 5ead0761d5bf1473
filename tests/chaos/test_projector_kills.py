"""The projector is killed with SIGKILL, at random, while events come; the tables equal the fold of the log.

Model. The log is the witness: after the kills it is read from its first record and folded in memory, and the checksum
of every table must be that of the fold, at the same positions. The history holds what a log may hold: aliens of a
second owner, duplicates, and bytes nobody understands. The checker is first shown tables that are wrong.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from diurna_projections.memory import MemoryTables
from diurna_projections.rows import TABLES
from diurna_projections.store import Store
from diurna_schemas.codec import Codec
from diurna_streams.log.kafka import KafkaLog
from diurna_streams.log.port import TopicPartition
from diurna_streams.project.places import partitions_of, places_of
from support.own_kafka import everything, own_kafka, write
from support.projecting import History, busy_team

PROCESS = Path(__file__).parents[1] / "support" / "projector_process.py"
KILLS = 10
EVENTS = 50_000
STANDSTILL_SECONDS_MAX = 60.0

pytestmark = [pytest.mark.chaos, pytest.mark.stack, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
async def broker() -> AsyncIterator[str]:
    async with own_kafka() as bootstrap_servers:
        yield bootstrap_servers


class Projector:
    """A projector process that is started again whenever it ended; `folder` is where it stands and keeps its files."""

    def __init__(self, bootstrap_servers: str, database_url: str, bulk_lag_records: int, folder: Path) -> None:
        self._arguments = [sys.executable, str(PROCESS), bootstrap_servers, database_url, str(bulk_lag_records)]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._arguments,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
            env=os.environ | {"TMPDIR": str(self._folder)},
        )

    def end(self, number: signal.Signals) -> None:
        if self._process is not None:
            os.kill(self._process.pid, number)
            self._process.wait()

    def supervise(self) -> None:
        if self._process is None or self._process.poll() is not None:
            self.start()


def differences(found: dict[str, str], expected: MemoryTables) -> list[str]:
    """The tables whose checksum is not that of the fold."""
    return [name for name, digest in expected.checksums().items() if found[name] != digest]


def _show_the_checker_a_broken_history(found: dict[str, str], expected: MemoryTables) -> None:
    """One event less in the fold, one request another: the checker must see both."""
    event, request = expected.tables.events.records.pop(), next(iter(expected.tables.requests))
    expected.tables.requests.put(request._replace(attempts=request.attempts + 1))
    assert {"events", "requests"} <= set(differences(found, expected))
    expected.tables.events.add(event)
    expected.tables.requests.put(request)


async def caught_up(store: Store, log: KafkaLog, partitions: list[TopicPartition], projector: Projector) -> None:
    """Waits for as long as the tables come nearer to the end."""
    least = sys.maxsize
    async with asyncio.timeout(STANDSTILL_SECONDS_MAX) as standstill:
        while lag := (await places_of(log, store, partitions)).lag:
            if lag < least:
                least = lag
                standstill.reschedule(asyncio.get_running_loop().time() + STANDSTILL_SECONDS_MAX)
            projector.supervise()
            await asyncio.sleep(0.2)


async def folded(log: KafkaLog, partitions: list[TopicPartition], codec: Codec) -> MemoryTables:
    tables = MemoryTables(codec)
    tables.apply(await everything(log, partitions))
    return tables


async def moved(store: Store, before: int) -> int:
    return sum(head.next_offset for head in (await store.heads()).values()) - before


async def test_ten_kills_during_fifty_thousand_events_leave_the_fold_of_the_log(
    broker: str, fresh_database: Callable[[], Awaitable[str]], tmp_path: Path
) -> None:
    seed = int(os.environ.get("DIURNA_CHAOS_SEED", time.time_ns() % 1_000_000))
    print(f"seed {seed}")
    chance = random.Random(seed)
    history = _history(seed)
    database_url = await fresh_database()
    store = await Store.connect(database_url)
    await store.migrate()
    projector = Projector(broker, database_url, bulk_lag_records=5_000, folder=tmp_path)
    projector.start()
    async with KafkaLog(broker) as log:
        partitions = await partitions_of(log)
        writing = asyncio.create_task(_write_slowly(log, history))
        kills = 0
        while kills < KILLS:
            before = await moved(store, 0)
            async with asyncio.timeout(STANDSTILL_SECONDS_MAX):
                while not await moved(store, before) and not writing.done():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            await asyncio.sleep(chance.random() * 0.5)
            projector.end(signal.SIGKILL)
            kills += 1
            projector.start()
        await writing
        await caught_up(store, log, partitions, projector)
        expected = await folded(log, partitions, history.codec)
        found = await store.checksums()
        _show_the_checker_a_broken_history(found.tables, expected)
        assert differences(found.tables, expected) == []
        heads = await store.heads()
        assert {place: head for place, head in heads.items() if head.next_offset} == expected.heads
        assert expected.aliens > 0
        assert expected.duplicates > 0

        projector.end(signal.SIGTERM)
        async with store.database.connection() as connection:
            await connection.execute(f"truncate {', '.join(table.name for table in TABLES)}, positions")
        projector.start()
        await caught_up(store, log, partitions, projector)
        projector.end(signal.SIGTERM)
        assert differences((await store.checksums()).tables, expected) == []
    assert os.listdir(tmp_path) == []  # however often it was killed  # noqa: PTH208
    await store.close()


def _history(seed: int) -> History:
    history = busy_team(seed, EVENTS * 4 // 5)  # a step is more than one event on the average
    assert len(history.records) >= EVENTS
    return history


async def _write_slowly(log: KafkaLog, history: History) -> None:
    """In pieces, so that there is something to project all the time."""
    producer = await log.producer()
    for start in range(0, len(history.records), 1_000):
        await write(producer, history.records[start : start + 1_000])
        await asyncio.sleep(0.25)
    await producer.close()
