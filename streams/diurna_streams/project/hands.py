"""Many hands for a long way: processes that project some partitions each, for as long as nothing unusual comes.

Every row belongs to one partition and changes with its position, so that partitions projected at once are as safe as
one after the other. What is unusual (a schema nobody knows here, a dead letter to be written to the log, an error) a
process leaves to the one that started it, which goes on from wherever the positions stand.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Final

import orjson
import structlog

from diurna_projections.records import WITH_GAPS
from diurna_projections.store import Applied
from diurna_streams.log.kafka import KafkaLog
from diurna_streams.log.port import Log, TopicPartition
from diurna_streams.project import metrics
from diurna_streams.project.places import Places
from diurna_streams.project.writer import Writer

logger = structlog.get_logger(__name__)

Told = Callable[[int], None]
"""Is told how many records were projected since it was told last."""

SHARE_RECORDS_MIN: Final = 200_000
"""For less than this a process is not worth its start, which costs as much as some 40,000 records."""


HAND: Final = "diurna_streams.project.hand"
"""The module that such a process runs."""


def hands() -> int:
    """As many as this machine has."""
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Share:
    """What one process is to do: these partitions up to these offsets."""

    bootstrap_servers: str
    database_url: str
    schema: str
    ids: dict[str, int]
    writes_dead_letters: bool
    ends: list[tuple[str, int, int]]


async def share_out(
    log: Log,
    writer: Writer,
    places: Places,
    told: Told,
    *,
    processes: int,
    share_records_min: int = SHARE_RECORDS_MIN,
) -> int:
    """Has so many processes project what is worth it, and returns how many records they did."""
    shares = shares_of(places, min(processes, places.lag // share_records_min))
    if len(shares) < 2 or not isinstance(log, KafkaLog):
        return 0
    database = writer.store.database
    logger.info("projecting with many hands", processes=len(shares), lag_records=places.lag)
    async with asyncio.TaskGroup() as group:
        works = [
            group.create_task(
                _done(
                    Share(
                        bootstrap_servers=log.bootstrap_servers,
                        database_url=database.url,
                        schema=database.schema,
                        ids=writer.schema_ids,
                        writes_dead_letters=writer.store.writes_dead_letters,
                        ends=[(place.topic, place.partition, places.ends[place]) for place in share],
                    ),
                    told,
                )
            )
            for share in shares
        ]
    return sum(work.result() for work in works)


def shares_of(places: Places, count: int) -> list[list[TopicPartition]]:
    """The partitions that are behind, in at most so many parts with about as many records each.

    Those of topics that are compacted are left out: they are short, and need care.
    """
    shares: list[list[TopicPartition]] = [[] for _ in range(count)]
    sizes = [0] * count
    behind = [place for place in places.next if place.topic not in WITH_GAPS and places.lag_of(place)]
    for place in sorted(behind, key=places.lag_of, reverse=True) if count else ():
        least = sizes.index(min(sizes))
        shares[least].append(place)
        sizes[least] += places.lag_of(place)
    return [share for share in shares if share]


async def _done(share: Share, told: Told) -> int:
    """One process's work, from its start to its end; returns how many records it projected."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        HAND,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # it ends with this one, whose work it does, and not by a signal of its own
    )
    count = 0
    try:
        if process.stdin is None or process.stdout is None:
            raise AssertionError("unreachable: both are pipes")
        process.stdin.write(orjson.dumps(asdict(share)) + b"\n")
        await process.stdin.drain()  # and it stays open: by its end the process sees that we are gone
        async for line in process.stdout:
            match orjson.loads(line):
                case {"told": int(records)}:
                    told(records)
                case said:
                    applied = Applied(**said)
                    metrics.count(applied)
                    count += applied.records
        if await process.wait():
            logger.warning("a share of the log is left to this process", partitions=len(share.ends))
    except OSError as error:
        logger.warning("a share of the log is left to this process", error=str(error))
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return count
