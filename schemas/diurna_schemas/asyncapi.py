"""Every topic and every record on it as one AsyncAPI 3 document, made from the topics and the Avro schemas."""

from __future__ import annotations

from typing import Any, Final

from diurna_schemas import topics
from diurna_schemas.catalogue import RECORDS_OF_TOPIC, full_name, schema_of
from diurna_schemas.envelope import CONTENT_TYPE, LOGIC_VERSION
from diurna_schemas.message import Message, Part
from diurna_schemas.records import Broadcast
from diurna_schemas.topics import FAMILIES, Topic

Document = dict[str, Any]

ASYNCAPI: Final = "3.0.0"
AVRO: Final = "application/vnd.apache.avro+json;version=1.9.0"
_BINDING: Final = "0.5.0"
_DESCRIPTION: Final = (
    "The log of a team of agents. Commands are intents, events are facts; every record is Avro in the Confluent wire "
    "format, under subjects named `<topic>-<record's full name>`, with CloudEvents 1.0 headers in binary mode."
)
_COMMANDS: Final = frozenset(family.commands for family in FAMILIES)
_TAKEN: Final = _COMMANDS | {topics.HEARTBEATS}
"""What Diurna takes from others. All else it sends; broadcasts are both."""


def asyncapi_document(version: str, bootstrap_servers: str | None = None) -> Document:
    """The document of this version. With `bootstrap_servers` it says where the log is."""
    servers = [one.strip() for one in (bootstrap_servers or "").split(",") if one.strip()]
    described = {
        f"kafka-{number}" if number else "kafka": {"host": host, "protocol": "kafka"}
        for number, host in enumerate(servers)
    }
    records = {full_name(record): (record, topic) for topic, kinds in RECORDS_OF_TOPIC.items() for record in kinds}
    return {
        "asyncapi": ASYNCAPI,
        "info": {"title": "Diurna", "version": version, "description": _DESCRIPTION, "license": {"name": "Apache-2.0"}},
        "defaultContentType": CONTENT_TYPE.decode(),
        **({"servers": described} if described else {}),
        "channels": {topic.name: _channel(topic) for topic in topics.TOPICS.values()},
        "operations": dict(operation for topic in topics.TOPICS.values() for operation in _operations(topic)),
        "components": {
            "messages": {_short(record): _message(name, record) for name, (record, _) in records.items()},
        },
    }


def _channel(topic: Topic) -> Document:
    records = RECORDS_OF_TOPIC.get(topic.name, ())
    return {
        "address": topic.name,
        "title": topic.name,
        "description": f"{topic.holds[0].upper()}{topic.holds[1:]}. Keyed by {topic.key}; times are {topic.time}.",
        "messages": {_short(record): {"$ref": f"#/components/messages/{_short(record)}"} for record in records},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": {"cleanup.policy": topic.cleanup.split(","), "retention.ms": topic.retention_ms},
                "bindingVersion": _BINDING,
            }
        },
    }


def _operations(topic: Topic) -> list[tuple[str, Document]]:
    """What Diurna does with a topic that others may speak to or listen to."""
    records = RECORDS_OF_TOPIC.get(topic.name, ())
    if not records:
        return []
    actions = ["receive"] if topic.name in _TAKEN else ["send"]
    if topic.name == topics.BROADCASTS:
        actions = ["send", "receive"]
    return [
        (
            f"{action}.{topic.name}",
            {
                "action": action,
                "channel": {"$ref": f"#/channels/{topic.name}"},
                "summary": f"Diurna {'takes' if action == 'receive' else 'writes'} {topic.holds}.",
                "messages": [{"$ref": f"#/channels/{topic.name}/messages/{_short(record)}"} for record in records],
            },
        )
        for action in actions
    ]


def _message(name: str, record: type[Part]) -> Document:
    schema = schema_of(name)
    is_event = issubclass(record, Message) and record.topic in topics.EVENT_TOPICS
    type_name = record.type_name if issubclass(record, Message) else None
    headers = _headers(is_chained=is_event, type_name=type_name)
    traits: Document = {"headers": headers} if record is Broadcast or issubclass(record, Message) else {}
    return {
        "name": type_name or name,
        "title": record.__name__,
        "summary": schema.get("doc", ""),
        "contentType": CONTENT_TYPE.decode(),
        **traits,
        "payload": {"schemaFormat": AVRO, "schema": schema},
        "bindings": {
            "kafka": {
                "key": {"type": "string"},
                "schemaIdLocation": "payload",
                "schemaIdPayloadEncoding": "confluent",
                "schemaLookupStrategy": "TopicRecordNameStrategy",
                "bindingVersion": _BINDING,
            }
        },
    }


def _headers(*, is_chained: bool, type_name: str | None = None) -> Document:
    """The headers of a record as JSON Schema: all are UTF-8 text."""
    text: Document = {"type": "string"}
    properties: Document = {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": text,
        "ce_type": text if type_name is None else {"type": "string", "const": type_name},
        "ce_source": text,
        "ce_subject": text,
        "ce_time": {"type": "string", "format": "date-time"},
        "content-type": {"type": "string", "const": CONTENT_TYPE.decode()},
        "correlationid": text,
        "causationid": text,
        "traceparent": text,
    }
    required = ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_time", "content-type"]
    if is_chained:
        digest: Document = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
        properties |= {
            "chain_at": {"type": "string", "description": "incarnation.command offset.index"},
            "chain_previous": digest,
            "chain_hash": digest,
            LOGIC_VERSION: text,
        }
        required += ["chain_at", "chain_previous", "chain_hash"]
    return {"type": "object", "properties": properties, "required": required}


def _short(record: type[Part]) -> str:
    return full_name(record).removeprefix("diurna.")
