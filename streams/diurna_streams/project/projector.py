"""Runs a projector: bulk when far behind, else live, watched all the time; on doubt the process gives itself up."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, NoReturn

import structlog
from prometheus_client import start_http_server
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from diurna_projections.errors import OutOfStep
from diurna_projections.records import LogRecord
from diurna_projections.store import Store
from diurna_schemas.codec import Codec
from diurna_schemas.errors import DiurnaError, Unavailable
from diurna_streams.decide.follower import Learn
from diurna_streams.log.kafka import KafkaLog
from diurna_streams.log.port import Log, TopicPartition
from diurna_streams.project import metrics
from diurna_streams.project.bulk import catch_up
from diurna_streams.project.faust_app import running
from diurna_streams.project.graves import Graves
from diurna_streams.project.hands import hands
from diurna_streams.project.intake import Intake
from diurna_streams.project.options import ProjectorOptions
from diurna_streams.project.places import partitions_of, places_of
from diurna_streams.project.understand import Understanding
from diurna_streams.project.waiting import Waiting
from diurna_streams.project.writer import Writer

logger = structlog.get_logger(__name__)

EXIT_OUT_OF_STEP: Final = 3
EXIT_STALLED: Final = 4
EXIT_FAULT: Final = 5
_START_SECONDS_MAX: Final = 60.0
_LATE_MS: Final = 200
_GATHER_SECONDS: Final = 0.02
"""What is late already may as well be a little later in a larger batch, which costs a tenth of many small ones."""


def give_up(code: int, reason: str) -> NoReturn:
    """Ends the process at once, without commits and farewells: whoever supervises it starts a clean one."""
    logger.critical("the projector gives itself up", code=code, reason=reason)
    os._exit(code)


async def run_projector(
    options: ProjectorOptions,
    *,
    codec: Codec,
    learn: Learn | None = None,
    stop: asyncio.Event | None = None,
    ready: asyncio.Event | None = None,
    on_doubt: Callable[[int, str], None] = give_up,
    on_committed: Callable[[Sequence[LogRecord]], None] = metrics.observe_freshness,
) -> None:
    """Projects until `stop` is set; without one, until SIGTERM or SIGINT.

    `ready` is set once the tables are there and records are being read. `on_doubt` is for tests: it must not come back
    in earnest, for the stream is not where the tables are. `on_committed` is told the records of each live batch.
    """
    if options.metrics_port is not None:
        start_http_server(options.metrics_port, "127.0.0.1")
    stop = stop or _stop_on_signals()
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(KafkaLog(options.bootstrap_servers, client_id=options.group))
        graves = await stack.enter_async_context(Graves(log, codec))
        store = await _connected(options, graves)
        stack.push_async_callback(store.close)
        partitions = await _provisioned(log)
        writer = Writer(store, Understanding(codec, learn))
        waiting = Waiting()
        while not stop.is_set():
            places = await places_of(log, store, partitions)
            metrics.behind(places.lag_by_topic(), waiting.look(places, asyncio.get_running_loop().time()))
            if places.lag > options.bulk_lag_records:
                await catch_up(log, writer, partitions, processes=hands())
            await store.index_search()  # a process that was killed in bulk has left them out
            live = _Live(options, log, writer, partitions, waiting, on_doubt=on_doubt, on_committed=on_committed)
            await live.run(stop, ready)


class _Live:
    """One run of the live stream."""

    def __init__(
        self,
        options: ProjectorOptions,
        log: Log,
        writer: Writer,
        partitions: list[TopicPartition],
        waiting: Waiting,
        *,
        on_doubt: Callable[[int, str], None],
        on_committed: Callable[[Sequence[LogRecord]], None],
    ) -> None:
        self._options = options
        self._log = log
        self._writer = writer
        self._partitions = partitions
        self._waiting = waiting
        self._on_doubt = on_doubt
        self._on_committed = on_committed
        self._intake = Intake()

    async def run(self, stop: asyncio.Event, ready: asyncio.Event | None) -> None:
        """Streams until `stop` is set or so much is behind that the bulk path is quicker."""
        async with running(self._options, self._positions, self._intake.put), self._writing():
            if ready is not None:
                ready.set()
            logger.info("projecting live", group=self._options.group)
            await self._watch(stop)

    async def _positions(self, assigned: list[TopicPartition]) -> Mapping[TopicPartition, int]:
        try:
            async for attempt in _patiently():
                with attempt:
                    return (await places_of(self._log, self._writer.store, assigned)).next
        except DiurnaError as error:  # Faust would log it and go on from somewhere else
            self._on_doubt(EXIT_FAULT, f"the positions are unknown: {error}")
            raise
        raise AssertionError("unreachable: the last attempt raises")

    @asynccontextmanager
    async def _writing(self) -> AsyncGenerator[None]:
        task = asyncio.create_task(self._write())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _write(self) -> None:
        try:
            while True:
                first = await self._intake.first()
                if time.time() * 1000 - first.timestamp_ms > _LATE_MS:
                    await self._intake.gather(self._options.batch_records_max, _GATHER_SECONDS)
                records = self._intake.take(self._options.batch_records_max)
                await self._writer.write(records)
                self._on_committed(records)
        except OutOfStep as error:
            self._on_doubt(EXIT_OUT_OF_STEP, str(error))
        except Exception as error:
            logger.exception("the writer failed")
            self._on_doubt(EXIT_FAULT, f"{type(error).__name__}: {error}")

    async def _watch(self, stop: asyncio.Event) -> None:
        """Measures the lag; returns to go over to the bulk path, gives up where nothing moves although it should."""
        loop = asyncio.get_running_loop()
        moved_at = loop.time()
        before: dict[TopicPartition, int] = {}
        while not await _is_set_within(stop, self._options.watch_interval_ms / 1000):
            try:
                places = await places_of(self._log, self._writer.store, self._partitions)
            except Unavailable as error:
                logger.warning("the lag is unknown", error=str(error))
                moved_at = loop.time()  # nobody can move while Kafka or Postgres are away
                continue
            metrics.behind(places.lag_by_topic(), self._waiting.look(places, loop.time()))
            if places.next != before or places.lag == 0:
                moved_at, before = loop.time(), places.next
            elif (loop.time() - moved_at) * 1000 > self._options.stalled_ms:
                self._on_doubt(EXIT_STALLED, f"{places.lag} records are waiting and nothing moves")
                return
            if places.lag > self._options.bulk_lag_records:
                logger.info("too far behind for the live stream", lag_records=places.lag)
                return


async def _connected(options: ProjectorOptions, graves: Graves) -> Store:
    async for attempt in _patiently():
        with attempt:
            store = await Store.connect(options.database_url, schema=options.schema, dead_letters=graves.bury)
            try:
                await store.migrate()
            except DiurnaError:
                await store.close()
                raise
            return store
    raise AssertionError("unreachable: the last attempt raises")


async def _provisioned(log: Log) -> list[TopicPartition]:
    async for attempt in _patiently():
        with attempt:
            return await partitions_of(log)
    raise AssertionError("unreachable: the last attempt raises")


def _patiently() -> AsyncRetrying:
    """Other parts may not be there yet, or come back in a moment."""
    return AsyncRetrying(
        retry=retry_if_exception_type(Unavailable),
        wait=wait_exponential_jitter(multiplier=0.05, max=1),
        stop=stop_after_delay(_START_SECONDS_MAX),
        reraise=True,
    )


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
