"""Every record there is, by its full name and by the topic it may stand on."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any, Final, cast, get_args

from diurna_schemas import checkpoints, topics
from diurna_schemas.agents import AgentsCommand, AgentsEvent, Heartbeat
from diurna_schemas.locks import LocksCommand, LocksEvent
from diurna_schemas.message import Message, Part
from diurna_schemas.records import Broadcast, DeadLetter, DeadLetterSettled, Snapshot
from diurna_schemas.workflows import WorkflowsCommand, WorkflowsEvent

JsonSchema = dict[str, Any]


def full_name(record: type[Part]) -> str:
    """The Avro full name of a record class, such as `diurna.agents.RequestSubmitted`."""
    return f"diurna.{record.__module__.rpartition('.')[2]}.{record.__name__}"


def _messages() -> tuple[type[Message], ...]:
    unions = (AgentsCommand, AgentsEvent, LocksCommand, LocksEvent, WorkflowsCommand, WorkflowsEvent)
    return tuple(cast("type[Message]", message) for union in unions for message in get_args(union))


MESSAGES: Final[tuple[type[Message], ...]] = _messages()
"""Every command and event."""

RECORDS_OF_TOPIC: Final[dict[str, tuple[type[Part], ...]]] = {
    topics.HEARTBEATS: (Heartbeat,),
    topics.BROADCASTS: (Broadcast,),
    topics.CHECKPOINTS: checkpoints.RECORDS,
    **{family.snapshots: (Snapshot,) for family in topics.FAMILIES},
    **dict.fromkeys(topics.DEAD_LETTER_TOPICS, (DeadLetter, DeadLetterSettled)),
    **{
        topic: tuple(message for message in MESSAGES if message.topic == topic)
        for topic in dict.fromkeys(message.topic for message in MESSAGES)
    },
}
"""Which records may stand on which topic."""

RECORDS: Final[dict[str, type[Part]]] = {
    full_name(record): record for records in RECORDS_OF_TOPIC.values() for record in records
}
TYPE_NAMES: Final[dict[str, type[Message]]] = {message.type_name: message for message in MESSAGES}


def subjects() -> list[tuple[str, str]]:
    """Every (subject, full name): `<topic>-<record full name>`, Confluent's TopicRecordNameStrategy."""
    return [
        (f"{topic}-{full_name(record)}", full_name(record))
        for topic, records in RECORDS_OF_TOPIC.items()
        for record in records
    ]


@cache
def schema_text(name: str) -> str:
    """The text of the `.avsc` of a record's full name, as it is registered."""
    _, kind, record = name.split(".")
    return (resources.files("diurna_schemas") / "avro" / f"{kind}.{record}.avsc").read_text(encoding="utf-8")


def schema_of(name: str) -> JsonSchema:
    """The parsed `.avsc` of a record's full name."""
    return cast("JsonSchema", json.loads(schema_text(name)))
