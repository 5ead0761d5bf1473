"""Takes batches to the tables, again and again until Postgres has answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Iterable, Sequence
from typing import Final

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential_jitter

from diurna_projections.errors import OutOfStep
from diurna_projections.records import LogRecord, Reading
from diurna_projections.store import Applied, Store
from diurna_schemas.errors import Unavailable
from diurna_streams.log.port import TopicPartition
from diurna_streams.project import metrics
from diurna_streams.project.understand import Understanding

logger = structlog.get_logger(__name__)
_WAIT_SECONDS_MAX: Final = 2.0


class Writer:
    """The tables, as seen by whoever reads the log."""

    def __init__(self, store: Store, understanding: Understanding) -> None:
        self.store = store
        self._understanding = understanding

    @property
    def schema_ids(self) -> dict[str, int]:
        """The schema id of each record it can write and read."""
        return self._understanding.schema_ids

    async def understand(self, records: Sequence[LogRecord]) -> list[Reading]:
        """The records decoded. Raises `Unavailable` where the registry has to be asked and does not answer."""
        return await self._understanding.read(records)

    async def load(self, places: Iterable[TopicPartition], batches: AsyncIterable[Sequence[Reading]]) -> Applied:
        """Projects a long stretch of the log as one transaction. Raises what `Store.load` raises."""
        started = time.perf_counter()
        applied = await self.store.load(places, batches)
        metrics.BATCH_SECONDS.observe(time.perf_counter() - started)
        self._tell(applied)
        return applied

    async def write(self, records: Sequence[LogRecord], readings: Sequence[Reading] | None = None) -> Applied:
        """Projects the records, in effect once; tries again for as long as Postgres or the registry do not answer.

        `readings` are the same records, where they were decoded before. Raises `OutOfStep` where a record is missing:
        trying again would not bring it.
        """
        applied = Applied()
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(_is_passing),
            wait=wait_exponential_jitter(multiplier=0.05, max=_WAIT_SECONDS_MAX),
            before_sleep=_tell,
            sleep=asyncio.sleep,
            reraise=True,
        ):
            with attempt:
                if readings is None:
                    readings = await self._understanding.read(records)
                started = time.perf_counter()
                applied = await self.store.apply(readings)
                metrics.BATCH_SECONDS.observe(time.perf_counter() - started)
        self._tell(applied)
        return applied

    def _tell(self, applied: Applied) -> None:
        metrics.count(applied)
        if applied.aliens or applied.dead_letters:
            logger.warning("records passed over", aliens=applied.aliens, dead_letters=applied.dead_letters)


def _is_passing(error: BaseException) -> bool:
    return isinstance(error, Unavailable) and not isinstance(error, OutOfStep)


def _tell(state: RetryCallState) -> None:
    metrics.RETRIES.inc()
    error = None if state.outcome is None else state.outcome.exception()
    logger.warning("the tables did not answer", attempt=state.attempt_number, error=str(error))
