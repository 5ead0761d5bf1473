"""Decides the commands of a family, partition by partition: one ordered input, one chained output.

Groups only place deciders. Two owners of a partition do no harm: both decide the same, and readers accept one chain.
After any doubt (a write that was not acknowledged, another owner's event) everything not read back is given up, and
deciding goes on after the last accepted command.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any, Final, cast

import structlog

from diurna_schemas.codec import Codec
from diurna_schemas.envelope import Link, chain_hash, cloud_event, event_headers, header
from diurna_schemas.errors import DiurnaError, TooLarge, Unavailable, UnknownSchema
from diurna_schemas.message import Heading
from diurna_schemas.topics import TOPICS
from diurna_streams import metrics, snapshots, tracing
from diurna_streams.dead_letters import bury
from diurna_streams.decide import spans
from diurna_streams.decide.follower import Follower, Learn, learns_nothing
from diurna_streams.decide.history import Expected, History
from diurna_streams.decide.owned import Batch, Owned
from diurna_streams.decide.reading import read_command
from diurna_streams.deciders.rules import Rules
from diurna_streams.log import Log, Outgoing, Placement, Producer, Reader, Record, TopicPartition

logger = structlog.get_logger(__name__)

BATCH_BYTES_MAX: Final = 900_000
WRITES_UNDER_WAY_MAX: Final = 8
"""The next commands are decided while the log takes the events of those before."""
SNAPSHOT_EVERY_EVENTS: Final = 10_000
SNAPSHOT_EVERY_MS: Final = 5 * 60_000
IDLE_MS_MAX: Final = 1_000
RETRY_PAUSE_S: Final = 0.2


class Decider:
    """Runs the rules of one family on a log, for the partitions it is given, until it is cancelled.

    `member` keeps its partitions over a restart; `learn` makes a schema id known to the codec, where it can.
    """

    def __init__(
        self,
        log: Log,
        codec: Codec,
        rules: Rules[Any, Any, Any],
        *,
        member: str | None = None,
        incarnation: int = 1,
        learn: Learn = learns_nothing,
        clock_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self._log = log
        self._codec = codec
        self._rules = rules
        self._member = member
        self._incarnation = incarnation
        self._learn = learn
        self._clock_ms = clock_ms
        self._counts = metrics.OfFamily(rules.family.name)
        self._follower = Follower(log, codec, rules, TOPICS[rules.family.commands].partitions, learn)
        self._owned: dict[int, Owned] = {}
        self._wanted: frozenset[int] = frozenset()
        self._producer: Producer | None = None
        self._opening = asyncio.Lock()
        self._tasks: asyncio.TaskGroup | None = None
        self._wake = asyncio.Event()
        self._looks_at_ms = 0
        self.is_ready = asyncio.Event()
        """Set once this process has caught up and decides the partitions it was given first."""

    @property
    def histories(self) -> list[History]:
        """The accepted history of every partition, decided here or elsewhere."""
        return self._follower.histories

    @property
    def owned(self) -> frozenset[int]:
        """The partitions decided here now."""
        return frozenset(self._owned)

    def wake(self) -> None:
        """Looks at the clock again: for clocks that jump, as a test's does."""
        self._wake.set()

    async def run(self) -> None:
        """Decides until cancelled. A part that fails for good ends it with that part's error."""
        caught_up = asyncio.Event()
        commands = await self._log.reader()
        placement = await self._log.placement(
            self._rules.family.commands, f"diurna-deciders-{self._rules.family.name}", member=self._member
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(self._follower.run(ready=caught_up), name="follow")
                await caught_up.wait()
                tasks.create_task(self._place(placement, commands), name="place")
                tasks.create_task(self._decide(commands), name="decide")
                tasks.create_task(self._tick(), name="tick")
        finally:
            await placement.close()
            await commands.close()
            if self._producer is not None:
                await self._producer.close()

    # --- placement and recovery -------------------------------------------------------------------------

    async def _place(self, placement: Placement, commands: Reader) -> None:
        while True:
            self._wanted = wanted = await placement.changes()
            lost = self._owned.keys() - wanted
            for partition in lost:
                del self._owned[partition]
            await commands.drop([self._commands(partition) for partition in lost])
            new = sorted(wanted - self._owned.keys())
            await asyncio.gather(*(self._recover(partition, commands) for partition in new))
            self._counts.partitions.set(len(self._owned))
            logger.info("deciding", family=self._rules.family.name, partitions=sorted(self._owned))
            self.is_ready.set()
            self._wake.set()

    async def _recover(self, partition: int, commands: Reader) -> None:
        """Decides from the command after the last accepted one, with the state that one led to."""
        events = TopicPartition(self._rules.family.events, partition)
        place = self._commands(partition)
        while True:
            try:
                end = (await self._log.ends([events]))[events]
                await self._follower.reached(partition, end)
                first = (await self._log.starts([place]))[place]
                break
            except Unavailable as error:
                logger.warning("cannot recover yet", partition=partition, error=str(error))
                await asyncio.sleep(RETRY_PAUSE_S)
        history = self._follower.histories[partition]
        history.expected.clear()
        history.was_overtaken = False
        if partition not in self._wanted:
            return  # taken away meanwhile
        settled = history.settled  # not `history.head`: that may stand in the middle of a command
        # After a restore the offsets of the commands begin anew; the incarnation says so.
        is_same_log = settled.head.incarnation >= self._incarnation
        next_command = max(settled.head.command_offset + 1, first) if is_same_log else first
        incarnation = max(self._incarnation, settled.head.incarnation)
        self._owned[partition] = Owned(history, settled.state, settled.head.hash, incarnation, next_command)
        await commands.start_at({place: next_command})

    def _commands(self, partition: int) -> TopicPartition:
        return TopicPartition(self._rules.family.commands, partition)

    # --- deciding ---------------------------------------------------------------------------------------

    async def _decide(self, commands: Reader) -> None:
        while True:
            for partition, owned in list(self._owned.items()):
                if owned.history.was_overtaken:
                    await self._give_up(partition, commands, "another owner's event was accepted")
                elif owned.failure is not None:
                    await self._give_up(partition, commands, str(owned.failure))
            try:
                records = await commands.read()
            except Unavailable as error:
                logger.warning("the commands cannot be read; trying again", error=str(error))
                await asyncio.sleep(RETRY_PAUSE_S)
                continue
            by_partition: dict[int, list[Record]] = {}
            for record in records:
                by_partition.setdefault(record.partition, []).append(record)
            if by_partition:
                began = time.perf_counter()
                work = [self._decide_partition(*found, commands) for found in by_partition.items()]
                await (work[0] if len(work) == 1 else asyncio.gather(*work))
                self._counts.seconds.observe(time.perf_counter() - began)

    async def _decide_partition(self, partition: int, records: list[Record], commands: Reader) -> None:
        owned = self._owned.get(partition)
        if owned is None:
            return  # taken away while these were read
        batch = Batch()
        began_ns = tracing.now_ns()
        now_ms = self._clock_ms()
        owned.behind_ms = max(records[-1].timestamp_ms - now_ms, 0)
        self._counts.command_age_seconds.observe(max(now_ms - records[0].timestamp_ms, 0) / 1000)
        try:
            for record in records:
                if record.offset < owned.next_command:
                    continue  # read before a recovery
                batch = await self._add(owned, partition, record, batch)
                owned.next_command = record.offset + 1
            await self._write(owned, partition, batch)
        except Unavailable as error:
            await self._give_up(partition, commands, str(error))
            return
        self._counts.commands.inc(len(records))
        if began_ns:
            spans.tell(self._rules.family.name, records, began_ns)
        due_ms = self._rules.next_due_ms(owned.state)
        if due_ms is not None and due_ms - owned.behind_ms < self._looks_at_ms:
            self._wake.set()
        self._snapshot_if_due(owned, partition)

    async def _add(self, owned: Owned, partition: int, record: Record, batch: Batch) -> Batch:
        """Decides one command into the batch; writes the batch first where the events would not fit."""
        try:
            state, links, added = await self._decided_with_known_schema(owned, partition, record)
        except Unavailable:
            raise
        except DiurnaError as error:
            return await self._buried(record, error, batch)
        except Exception as error:  # a fault in the rules must not stop the partition for ever
            logger.exception("the rules failed", position=str(record.position))
            return await self._buried(record, error, batch)
        if not added.records:
            return batch
        if batch.records and batch.size_bytes + added.size_bytes > BATCH_BYTES_MAX:
            await self._write(owned, partition, batch)
            batch = Batch()
        batch.records += added.records
        batch.expected += added.expected
        batch.size_bytes += added.size_bytes
        owned.state = state
        owned.hash = links
        return batch

    async def _decided_with_known_schema(self, owned: Owned, partition: int, record: Record) -> tuple[Any, str, Batch]:
        try:
            return self._decided(owned, partition, record)
        except UnknownSchema as error:
            await self._learn(error.schema_id)
            return self._decided(owned, partition, record)

    def _decided(self, owned: Owned, partition: int, record: Record) -> tuple[Any, str, Batch]:
        """The state and hash after a command, and its events. Raises `Unreadable` where it is none."""
        command = read_command(record, self._codec)
        heading = Heading(record.offset, record.timestamp_ms, owned.incarnation)
        decision = self._rules.decide(owned.state, command, heading)
        added = Batch()
        previous = owned.hash
        correlation_id = header(record.headers, "correlationid")
        traceparent = header(record.headers, "traceparent")
        last = len(decision.events) - 1
        for index, event in enumerate(decision.events):
            key, value = event.key.encode(), self._codec.encode(event)
            at = f"{owned.incarnation}.{record.offset}.{index}"
            link = Link(
                owned.incarnation,
                record.offset,
                index,
                previous,
                chain_hash(previous, at, event.type_name, key, value),
            )
            headers = event_headers(
                event,
                link,
                partition=partition,
                correlation_id=correlation_id,
                traceparent=traceparent,
                logic_version=self._rules.logic_version,
            )
            added.records.append(Outgoing(key, value, headers, event.at_ms))
            added.expected.append(Expected(link.hash, decision.state if index == last else None))
            added.size_bytes += len(key) + len(value) + sum([len(name) + len(text) + 8 for name, text in headers])
            previous = link.hash
        if added.size_bytes > BATCH_BYTES_MAX:
            raise TooLarge("the events of one command", added.size_bytes, BATCH_BYTES_MAX)
        return decision.state, previous, added

    async def _write(self, owned: Owned, partition: int, batch: Batch) -> None:
        """Begins a write, and waits only where many are under way already."""
        if batch.burials:
            await batch.buried()
        if batch.records:
            # Before sending: the event may be read back before its acknowledgement arrives.
            owned.history.expected.extend(batch.expected)
            producer = await self._writer()
            write = producer.send_batch(self._rules.family.events, partition, batch.records)
            owned.writing(asyncio.ensure_future(write))
            self._counts.events.inc(len(batch.records))
        await owned.written(under_way_max=WRITES_UNDER_WAY_MAX)

    async def _writer(self) -> Producer:
        async with self._opening:  # or two partitions would open one each, and one of them would never be closed
            if self._producer is None:
                self._producer = await self._log.producer()
            return self._producer

    async def _give_up(self, partition: int, commands: Reader, why: str) -> None:
        """After any doubt: a new producer, and everything that was not read back is decided again."""
        logger.warning("giving up what was not read back", family=self._rules.family.name, partition=partition, why=why)
        self._counts.recoveries.inc()
        self._owned.pop(partition, None)
        await self._throw_away(self._producer)
        await self._recover(partition, commands)

    async def _throw_away(self, producer: Producer | None) -> None:
        """After an error a producer may fail for good. Whoever else is writing with it finds that out, and recovers."""
        if producer is not None and self._producer is producer:
            self._producer = None
            await producer.close()

    async def _buried(self, record: Record, error: BaseException, batch: Batch) -> Batch:
        """The batch with a dead letter on its way; waits only where those fill a record batch already."""
        size_bytes = len(record.key or b"") + len(record.value or b"")
        batch.burying(asyncio.ensure_future(self._bury(record, error)), size_bytes)
        if batch.buried_bytes > BATCH_BYTES_MAX:
            await batch.buried()
        return batch

    async def _bury(self, record: Record, error: BaseException) -> None:
        producer = await self._writer()
        await bury(
            record, error, stage="decide", topic=self._rules.family.dead_letters, codec=self._codec, producer=producer
        )

    # --- time -------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        """Sends a tick when something is due. An extra or a late one costs only time, never truth."""
        while True:
            self._wake.clear()
            wait_ms = IDLE_MS_MAX
            for partition, owned in list(self._owned.items()):
                due_ms = self._rules.next_due_ms(owned.state)
                if due_ms is None:
                    continue
                left_ms = owned.pace.left_ms(owned.state, due_in_ms=due_ms - self._clock_ms() - owned.behind_ms)
                if left_ms <= 0:
                    left_ms = owned.pace.ticked(owned.state)
                    await self._send_tick(partition)
                wait_ms = min(wait_ms, left_ms)
            self._looks_at_ms = self._clock_ms() + wait_ms
            try:
                async with asyncio.timeout(max(wait_ms, 1) / 1000):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _send_tick(self, partition: int) -> None:
        tick = self._rules.tick(partition, f"tick-{uuid.uuid4()}")
        headers = cloud_event(
            id=tick.command_id,
            type_name=tick.type_name,
            source=f"/deciders/{self._rules.family.name}",
            subject=tick.key,
            at_ms=self._clock_ms(),
        )
        producer: Producer | None = None
        try:
            producer = await self._writer()
            record = Outgoing(tick.key.encode(), self._codec.encode(tick), headers)
            await producer.send(self._rules.family.commands, partition, record)
        except Unavailable as error:
            logger.warning("a tick was not acknowledged; another follows", partition=partition, error=str(error))
            await self._throw_away(producer)

    # --- snapshots --------------------------------------------------------------------------------------

    def _snapshot_if_due(self, owned: Owned, partition: int) -> None:
        history = owned.history
        count, now_ms = history.accepted_count - owned.snapshot_count, self._clock_ms()
        if owned.snapshot_ms == 0:
            owned.snapshot_ms = now_ms
        if count < SNAPSHOT_EVERY_EVENTS and (count == 0 or now_ms - owned.snapshot_ms < SNAPSHOT_EVERY_MS):
            return
        owned.snapshot_count, owned.snapshot_ms = history.accepted_count, now_ms
        if self._tasks is not None:
            self._tasks.create_task(self._snapshot(history.settled, partition), name="snapshot")

    async def _snapshot(self, settled: snapshots.Settled, partition: int) -> None:
        producer: Producer | None = None
        try:
            producer = await self._writer()
            size = await snapshots.write(
                settled,
                rules=self._rules,
                partition=partition,
                codec=self._codec,
                producer=producer,
                at_ms=cast("int", settled.state.now_ms),
            )
            logger.info("snapshot", family=self._rules.family.name, partition=partition, size_bytes=size)
        except Exception:  # deciding goes on without: recovery only takes longer
            logger.exception("no snapshot was written", family=self._rules.family.name, partition=partition)
            await self._throw_away(producer)
