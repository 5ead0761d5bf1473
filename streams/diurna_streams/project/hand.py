"""One of many hands: projects its share of the log, says how far it is, and gives up on anything unusual."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import orjson
import structlog

from diurna_projections.records import LogRecord, Reading
from diurna_projections.store import Applied, Store
from diurna_schemas.codec import Codec
from diurna_schemas.errors import DiurnaError, UnknownSchema
from diurna_schemas.records import DeadLetter
from diurna_streams.log.kafka import KafkaLog
from diurna_streams.log.port import TopicPartition
from diurna_streams.project.bulk import project_to
from diurna_streams.project.hands import Share
from diurna_streams.project.understand import Understanding
from diurna_streams.project.writer import Writer

_TOLD_RECORDS: Final = 5_000
_EXIT_UNUSUAL: Final = 1
EXIT_ALONE: Final = 2


class Unusual(Exception):
    """What only the process that gave out the shares can do."""


async def project(share: Share) -> None:
    """Projects a share. Raises `Unusual` where something comes that is to be left to others."""
    async with KafkaLog(share.bootstrap_servers, client_id="diurna-hand") as log:
        sink = _leave if share.writes_dead_letters else None
        store = await Store.connect(share.database_url, schema=share.schema, dead_letters=sink)
        try:
            writer = _TellingWriter(store, _Plainly(Codec(share.ids), None))
            ends = {TopicPartition(topic, partition): end for topic, partition, end in share.ends}
            telling = _Telling()
            await project_to(ends, log, writer, told=telling.advance)
            telling.flush()
        finally:
            await store.close()


class _Plainly(Understanding):
    """Understands what everybody understands."""

    async def read(self, records: Sequence[LogRecord]) -> list[Reading]:
        readings = await super().read(records)
        for reading in readings:
            if type(reading.content) is UnknownSchema:
                raise Unusual(str(reading.content))
        return readings


class _TellingWriter(Writer):
    """Says what became of each stretch once it is in the tables."""

    def _tell(self, applied: Applied) -> None:
        super()._tell(applied)
        _say(asdict(applied))


class _Telling:
    """Says how far it is, not for every few records."""

    def __init__(self) -> None:
        self._records = 0

    def advance(self, records: int) -> None:
        self._records += records
        if self._records >= _TOLD_RECORDS:
            self.flush()

    def flush(self) -> None:
        _say({"told": self._records})
        self._records = 0


async def _leave(letter: DeadLetter) -> None:
    raise Unusual(f"a dead letter: {letter.error}")


def _say(what: dict[str, int]) -> None:
    sys.stdout.buffer.write(orjson.dumps(what) + b"\n")
    sys.stdout.buffer.flush()


async def _main() -> None:
    share = Share(**orjson.loads(sys.stdin.buffer.readline()))
    # Nothing more comes: what can be read is the end, and then nobody is there any more whose work this is.
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), os._exit, EXIT_ALONE)
    await project(share)


if __name__ == "__main__":
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        asyncio.run(_main())
    except (Unusual, DiurnaError) as unusual:
        structlog.get_logger(__name__).warning("the rest is left to others", reason=str(unusual))
        sys.exit(_EXIT_UNUSUAL)
