"""The records that need no decision: broadcasts, snapshots, dead letters. (Heartbeats stand beside the agents.)"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from diurna_schemas.agents import Priority
from diurna_schemas.ids import Id, Name
from diurna_schemas.message import JsonText, Milliseconds, Offset, Part, SmallJson, Text


class Broadcast(Part):
    """What an agent tells everyone, or `target_agents`. `data` and `metadata` are JSON objects; key: the event type."""

    broadcast_id: Id
    event_type: Name
    source_agent: Name
    target_agents: list[Name] = ["all"]
    data: JsonText = "{}"
    priority: Priority = "normal"
    metadata: SmallJson = "{}"
    correlation_id: Id | None = None
    created_at_ms: Milliseconds


class Snapshot(Part):
    """One chunk of a decider's state, with the chain's head it belongs to. `state`: compressed JSON, in pieces."""

    topic: Name
    partition: Annotated[int, Field(ge=0)]
    logic_version: Annotated[int, Field(ge=1)]
    incarnation: Annotated[int, Field(ge=1)]
    next_event_offset: Offset
    last_command_offset: Annotated[int, Field(ge=-1)]
    last_index: Annotated[int, Field(ge=0)]
    chain_hash: Text
    chunk: Annotated[int, Field(ge=0)]
    chunks: Annotated[int, Field(ge=1)]
    taken_at_ms: Milliseconds
    state: bytes


class DeadLetter(Part):
    """A record nobody could understand, whole: its bytes, where it stood, and what was wrong with it."""

    stage: Name
    topic: Annotated[str, Field(max_length=249)]
    partition: Annotated[int, Field(ge=0)]
    offset: Offset
    timestamp_ms: Milliseconds
    record_key: bytes | None
    record_value: bytes | None
    record_headers: dict[str, bytes]
    error_type: Name
    error: Text
    at_ms: Milliseconds

    @property
    def source(self) -> str:
        """The position it stood at, which is also its id."""
        return f"{self.topic}:{self.partition}:{self.offset}"


class DeadLetterSettled(Part):
    """What became of a dead letter: decided again as a new command, or given up. The first verdict counts.

    `answered_at` is the position of the event the new command became.
    """

    topic: Annotated[str, Field(max_length=249)]
    partition: Annotated[int, Field(ge=0)]
    offset: Offset
    verdict: Literal["redriven", "discarded"]
    settled_by: Name
    reason: Text
    answered_at: Text | None = None
    at_ms: Milliseconds

    @property
    def source(self) -> str:
        """The id of the dead letter."""
        return f"{self.topic}:{self.partition}:{self.offset}"
