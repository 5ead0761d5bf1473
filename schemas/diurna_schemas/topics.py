"""Every topic, its settings, and which partition a key belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from diurna_schemas.errors import WrongPartition

FamilyName = Literal["agents", "locks", "workflows"]
TimeType = Literal["LogAppendTime", "CreateTime"]

DAY_MS: Final = 86_400_000
PARTITIONS: Final = 6
"""Frozen: a key's partition must be the same for ever."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as it is provisioned. `retention_ms` -1 keeps for ever."""

    name: str
    key: str
    partitions: int
    cleanup: Literal["delete", "compact", "compact,delete"]
    time: TimeType
    retention_ms: int
    holds: str
    config: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Family:
    """The topics of one kind of decision: commands in, events out, snapshots and dead letters beside."""

    name: FamilyName
    key: str

    @property
    def commands(self) -> str:
        return f"{self.name}.commands"

    @property
    def events(self) -> str:
        return f"{self.name}.events"

    @property
    def snapshots(self) -> str:
        return f"{self.name}.snapshots"

    @property
    def dead_letters(self) -> str:
        return f"{self.name}.dead-letters"


AGENTS: Final = Family("agents", "agent_id")
LOCKS: Final = Family("locks", "resource_id")
WORKFLOWS: Final = Family("workflows", "workflow_id")
FAMILIES: Final = (AGENTS, LOCKS, WORKFLOWS)

HEARTBEATS: Final = "agents.heartbeats"
CHECKPOINTS: Final = "checkpoints.events"
BROADCASTS: Final = "broadcasts"
PROJECTION_DEAD_LETTERS: Final = "projections.dead-letters"
SCHEMAS: Final = "_schemas"


def _family_topics(family: Family) -> tuple[Topic, ...]:
    what = family.name
    return (
        Topic(
            family.commands,
            family.key,
            PARTITIONS,
            "delete",
            "LogAppendTime",
            14 * DAY_MS,
            f"intents: {what}",
        ),
        Topic(
            family.events,
            family.key,
            PARTITIONS,
            "delete",
            "CreateTime",
            -1,
            f"facts: {what}, chained by hash",
        ),
        Topic(
            family.snapshots,
            "partition/chunk",
            PARTITIONS,
            "compact",
            "CreateTime",
            -1,
            f"decider state: {what}",
        ),
        Topic(
            family.dead_letters,
            "source position",
            3,
            "delete",
            "CreateTime",
            30 * DAY_MS,
            f"unreadable: {what}",
        ),
    )


TOPICS: Final[dict[str, Topic]] = {
    topic.name: topic
    for topic in (
        *(topic for family in FAMILIES for topic in _family_topics(family)),
        Topic(
            HEARTBEATS,
            "instance_id",
            PARTITIONS,
            "compact,delete",
            "LogAppendTime",
            7 * DAY_MS,
            "signs of life",
        ),
        Topic(CHECKPOINTS, "thread_id", PARTITIONS, "delete", "LogAppendTime", -1, "LangGraph checkpoints"),
        Topic(BROADCASTS, "event type", PARTITIONS, "delete", "LogAppendTime", -1, "what agents tell everyone"),
        Topic(
            PROJECTION_DEAD_LETTERS,
            "source position",
            3,
            "delete",
            "CreateTime",
            30 * DAY_MS,
            "unprojectable",
        ),
        Topic(SCHEMAS, "subject/version", 1, "compact", "CreateTime", -1, "the schema registry's own log"),
    )
}

EVENT_TOPICS: Final = (AGENTS.events, LOCKS.events, WORKFLOWS.events)
"""The topics whose records are chained."""
DEAD_LETTER_TOPICS: Final = (*(family.dead_letters for family in FAMILIES), PROJECTION_DEAD_LETTERS)


def dead_letter_topic_of(topic: str) -> str:
    """Where the dead letters of a topic's records are: those of commands with their family, all others together."""
    commands = {family.commands: family.dead_letters for family in FAMILIES}
    return commands.get(topic, PROJECTION_DEAD_LETTERS)


def murmur2(data: bytes) -> int:
    """Kafka's default hash of a key, as a signed 32-bit integer (org.apache.kafka.common.utils.Utils)."""
    length = len(data)
    mask = 0xFFFFFFFF
    m = 0x5BD1E995
    h = (0x9747B28C ^ length) & mask
    end = length & ~3
    for i in range(0, end, 4):
        k = int.from_bytes(data[i : i + 4], "little")
        k = (k * m) & mask
        k ^= k >> 24
        k = (k * m) & mask
        h = ((h * m) & mask) ^ k
    tail = data[end:]
    if tail:
        h ^= int.from_bytes(tail, "little")
        h = (h * m) & mask
    h ^= h >> 13
    h = (h * m) & mask
    h ^= h >> 15
    return h - (1 << 32) if h & 0x80000000 else h


_CACHE_MAX = 65_536
_partitions: dict[tuple[str, int], int] = {}


def partition_of(key: str, partitions: int = PARTITIONS) -> int:
    """The partition a key belongs to: Kafka's default partitioner, computed here so that all clients agree."""
    found = _partitions.get((key, partitions))
    if found is None:
        found = (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
        if len(_partitions) >= _CACHE_MAX:
            _partitions.clear()
        _partitions[key, partitions] = found
    return found


def check_partition(key: str, partition: int, partitions: int = PARTITIONS) -> None:
    """Raises `WrongPartition` where the key belongs elsewhere."""
    expected = partition_of(key, partitions)
    if expected != partition:
        raise WrongPartition(key, found=partition, expected=expected)
