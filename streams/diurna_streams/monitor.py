"""Listens for signs of life, and tells the decider of agents who has gone silent and who is back."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import structlog

from diurna_schemas import topics
from diurna_schemas.agents import STALE_AFTER_MS, AgentsCommand, ChangeStatus, Heartbeat, MarkStale
from diurna_schemas.codec import Codec
from diurna_schemas.envelope import command_headers
from diurna_schemas.errors import Unavailable, Unreadable
from diurna_streams import metrics
from diurna_streams.deciders.agents.state import AgentsState, Instance
from diurna_streams.log import Log, Outgoing, Producer, Record, TopicPartition

logger = structlog.get_logger(__name__)

LOOK_EVERY_MS: Final = 1_000
REPEAT_AFTER_MS: Final = 5_000
"""A word that had no effect, because it was lost, is said again after this long."""


class Registration(NamedTuple):
    """One registration of one instance: a new one has a new epoch, and a new time to be silent."""

    agent_id: str
    instance_id: str
    epoch: int


class Monitor:
    """Watches the instances in `states`: the agents decided in this process.

    Silence is measured with this process's own monotonic clock, from when it first knew of a registration on, so
    neither a clock step nor its own restart makes anybody stale early.
    """

    def __init__(
        self,
        log: Log,
        codec: Codec,
        states: Callable[[], Iterable[AgentsState]],
        *,
        stale_after_ms: int = STALE_AFTER_MS,
        clock_ms: Callable[[], int] = lambda: int(time.monotonic() * 1000),
    ) -> None:
        self._log = log
        self._codec = codec
        self._states = states
        self._stale_after_ms = stale_after_ms
        self._clock_ms = clock_ms
        self._heard_ms: dict[Registration, int] = {}
        self._last_beat_ms: dict[Registration, int] = {}
        self._beats: dict[tuple[str, str], tuple[int, Heartbeat]] = {}
        self._said_ms: dict[tuple[str, Registration], int] = {}

    async def run(self) -> None:
        """Watches until cancelled."""
        reader = await self._log.reader(patience_ms=LOOK_EVERY_MS // 2)
        producer: Producer | None = None
        try:
            count = topics.TOPICS[topics.HEARTBEATS].partitions
            await reader.start_at(await self._log.ends(TopicPartition(topics.HEARTBEATS, p) for p in range(count)))
            looked_ms = self._clock_ms()
            while True:
                try:
                    self._listen(await reader.read(records_max=5_000, wait_ms=LOOK_EVERY_MS // 2))
                    if self._clock_ms() - looked_ms >= LOOK_EVERY_MS // 2:
                        looked_ms = self._clock_ms()
                        producer = producer or await self._log.producer()
                        for command in self.words():
                            await self._send(producer, command)
                except Unavailable as error:
                    logger.warning("the monitor cannot reach the log; trying again", error=str(error))
                    if producer is not None:
                        await producer.close()
                        producer = None
                    await asyncio.sleep(LOOK_EVERY_MS / 1000)
        finally:
            await reader.close()
            if producer is not None:
                await producer.close()

    def _listen(self, records: Sequence[Record]) -> None:
        for record in records:
            try:
                beat = self._codec.decode(record.value)
            except Unreadable as error:
                logger.warning("unreadable heartbeat", position=str(record.position), error=str(error))
                continue
            if isinstance(beat, Heartbeat):
                self.hear(beat, record.timestamp_ms)

    def hear(self, beat: Heartbeat, at_ms: int) -> None:
        """Takes in one sign of life that the log stamped `at_ms`."""
        self._beats[beat.agent_id, beat.instance_id] = (at_ms, beat)

    def words(self) -> list[AgentsCommand]:
        """What is to be said now: who is silent for too long, and who is stale and yet was heard."""
        now_ms = self._clock_ms()
        beats, self._beats = self._beats, {}
        known: dict[Registration, int] = {}
        last_beat_ms: dict[Registration, int] = {}
        said: list[AgentsCommand] = []
        for registration, instance in self._registrations():
            beat = beats.get((registration.agent_id, registration.instance_id))
            known[registration] = now_ms if beat is not None else self._heard_ms.get(registration, now_ms)
            last_beat_ms[registration] = beat[0] if beat is not None else self._last_beat_ms.get(registration, 0)
            if instance.status == "stale":
                if beat is not None and self._may_say("back", registration, now_ms):
                    said.append(_is_back(registration, beat[1]))
            elif instance.status != "offline":
                silent_ms = now_ms - known[registration]
                if silent_ms >= self._stale_after_ms and self._may_say("stale", registration, now_ms):
                    said.append(_is_stale(registration, last_beat_ms[registration]))
                    metrics.STALE_MARKED.inc()
        self._heard_ms, self._last_beat_ms = known, last_beat_ms
        self._said_ms = {key: at_ms for key, at_ms in self._said_ms.items() if now_ms - at_ms < REPEAT_AFTER_MS}
        return said

    def silences_ms(self) -> dict[str, int]:
        """How long each agent has been silent: by its instance that was heard last. Safe in any thread."""
        now_ms, silences = self._clock_ms(), dict[str, int]()
        for registration, heard_ms in self._heard_ms.items():
            silent_ms = max(now_ms - heard_ms, 0)
            silences[registration.agent_id] = min(silent_ms, silences.get(registration.agent_id, silent_ms))
        return silences

    def _registrations(self) -> Iterator[tuple[Registration, Instance]]:
        for state in self._states():
            for agent_id, agent in state.agents.items():
                for instance_id, instance in agent.instances.items():
                    yield Registration(agent_id, instance_id, instance.epoch), instance

    def _may_say(self, word: str, registration: Registration, now_ms: int) -> bool:
        if now_ms - self._said_ms.get((word, registration), -REPEAT_AFTER_MS) < REPEAT_AFTER_MS:
            return False
        self._said_ms[word, registration] = now_ms
        return True

    async def _send(self, producer: Producer, command: AgentsCommand) -> None:
        headers = command_headers(
            command,
            command_id=command.command_id,
            source="/monitor",
            at_ms=int(time.time() * 1000),
            correlation_id=None,
            traceparent=None,
        )
        partition = topics.partition_of(command.key)
        await producer.send(
            command.topic, partition, Outgoing(command.key.encode(), self._codec.encode(command), headers)
        )
        logger.info("monitor", command=command.type_name, agent=command.key)


def _is_stale(registration: Registration, last_heartbeat_ms: int) -> MarkStale:
    return MarkStale(
        command_id=f"stale-{uuid.uuid4()}",
        agent_id=registration.agent_id,
        instance_id=registration.instance_id,
        epoch=registration.epoch,
        last_heartbeat_ms=last_heartbeat_ms,
    )


def _is_back(registration: Registration, beat: Heartbeat) -> ChangeStatus:
    return ChangeStatus(
        command_id=f"back-{uuid.uuid4()}",
        agent_id=registration.agent_id,
        instance_id=registration.instance_id,
        status="active" if beat.status == "stale" else beat.status,
        reason="heard again",
    )
