"""Rows and records as the JSON documents people read."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, cast, get_args, get_type_hints

import orjson

from diurna_schemas import message
from diurna_schemas.codec import Codec
from diurna_schemas.envelope import iso
from diurna_schemas.errors import Unreadable
from diurna_schemas.message import Part
from diurna_schemas.records import Broadcast

Document = dict[str, Any]
Row = Mapping[str, Any]
"""A row of a table by column name."""

_DOCUMENT_MARKS: Final = tuple(
    get_args(kind)[1] for name in ("JsonText", "SmallJson") if (kind := getattr(message, name, None)) is not None
)


def event_document(row: Row, codec: Codec) -> Document:
    """An event, its bytes decoded. What cannot be decoded says so under `error`, and `data` is null.

    Of a broadcast `data` is what was said; of a decided event, all its fields, JSON documents opened.
    """
    document: Document = {
        "position": f"{row['topic']}:{row['partition']}:{row['record_offset']}",
        "id": row["event_id"],
        "type": row["type"],
        "topic": row["topic"],
        "subject": row["subject"],
        "source": row["source"],
        "correlation_id": row["correlation_id"],
        "causation_id": row["causation_id"],
        "time": iso(row["at_ms"]),
        "data": None,
    }
    try:
        record = codec.decode(row["value"])
    except Unreadable as error:
        document["error"] = str(error)
        return document
    if isinstance(record, Broadcast):
        document["source"] = record.source_agent
        document["data"] = json_value(record.data)
        document["target_agents"] = record.target_agents
    else:
        document["data"] = fields_of(record)
    return document


def fields_of(record: Part) -> Document:
    """A record's fields: the JSON documents it carries as text are opened."""
    opened = _documents(type(record))
    return {
        name: json_value(value) if name in opened else _plain(value)
        for name, value in ((name, getattr(record, name)) for name in type(record).model_fields)
    }


def json_value(text: str | None) -> Any:
    """What a JSON document says; its own text where somebody wrote what is none."""
    if text is None:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def opened(document: Document) -> Document:
    """A document as it is read over HTTP: what is JSON already becomes values."""
    return cast("Document", orjson.loads(orjson.dumps(document)))


def request_document(row: Row) -> Document:
    """A request, and the answer that counts where there is one."""
    return {
        "request_id": row["request_id"],
        "status": row["status"],
        "source_agent": row["source_agent"],
        "target_agent": row["target_agent"],
        "agent_id": row["agent_id"],
        "request_type": row["request_type"],
        "payload": orjson.Fragment(row["payload"]),
        "priority": row["priority"],
        "timeout_seconds": row["timeout_ms"] / 1000,
        "attempts": row["attempts"],
        "attempts_max": row["attempts_max"],
        "instance_id": row["instance_id"],
        "correlation_id": row["correlation_id"],
        "metadata": orjson.Fragment(row["metadata"]),
        "command_id": row["command_id"],
        "created_at": iso(row["created_at_ms"]),
        "submitted_at": iso(row["submitted_at_ms"]),
        "dispatched_at": moment(row["dispatched_at_ms"]),
        "deadline": moment(row["deadline_ms"]),
        "finished_at": moment(row["finished_at_ms"]),
        "late_responses": row["late_responses"],
        "response": None if row["response_id"] is None else response_document(row),
        "position": f"agents.events:{row['partition']}:{row['record_offset']}",
    }


def response_document(row: Row) -> Document:
    """The answer to a finished request, as its requester is told."""
    metadata: Document
    if row["status"] == "completed":
        said = json_value(row["response_metadata"])
        metadata = {**said} if isinstance(said, dict) else {"value": said}
        metadata |= {"instance_id": row["instance_id"], "attempt": row["attempts"]}
    else:
        metadata = {"code": row["error_code"]}
        if row["status"] in {"timed_out", "dead_lettered"}:
            metadata["attempts"] = row["attempts"]
    return {
        "response_id": row["response_id"],
        "request_id": row["request_id"],
        "source_agent": row["agent_id"],
        "target_agent": row["source_agent"],
        "status": row["response_status"],
        "result": None if row["result"] is None else orjson.Fragment(row["result"]),
        "error": row["error"],
        "metadata": metadata,
        "created_at": iso(row["finished_at_ms"]),
        "processing_time_ms": row["processing_time_ms"],
    }


def workflow_document(row: Row) -> Document:
    """A workflow at its newest version."""
    return {
        "workflow_id": row["workflow_id"],
        "workflow_type": row["workflow_type"],
        "status": row["status"],
        "current_step": row["current_step"],
        "state_data": orjson.Fragment(row["state"]),
        "participating_agents": orjson.Fragment(row["participating_agents"]),
        "metadata": orjson.Fragment(row["metadata"]),
        "result": None if row["result"] is None else orjson.Fragment(row["result"]),
        "error_message": row["error"],
        "version": row["version"],
        "started_at": iso(row["started_at_ms"]),
        "updated_at": iso(row["updated_at_ms"]),
        "completed_at": moment(row["completed_at_ms"]),
        "position": f"workflows.events:{row['partition']}:{row['record_offset']}",
    }


def checkpoint_document(row: Row) -> Document:
    """A checkpoint of a workflow, without the state: that is its version's."""
    return {
        "checkpoint_id": row["checkpoint_id"],
        "workflow_id": row["workflow_id"],
        "step_name": row["step"],
        "agent_id": row["agent_id"],
        "data": orjson.Fragment(row["data"]),
        "version": row["version"],
        "created_at": iso(row["created_at_ms"]),
        "position": f"workflows.events:{row['partition']}:{row['record_offset']}",
    }


def statistics_document(row: Row) -> Document:
    """How many workflows of a type there are in which status; `average_seconds` is of the completed ones."""
    counts = {name: row[name] for name in ("total", "running", "paused", "completed", "failed", "cancelled")}
    average = round(row["completed_ms"] / row["completed"] / 1000, 3) if row["completed"] else None
    return {"workflow_type": row["workflow_type"], **counts, "average_seconds": average}


def approval_document(row: Row) -> Document:
    """A question a workflow waits on."""
    return {
        "approval_id": row["approval_id"],
        "workflow_id": row["workflow_id"],
        "status": row["status"],
        "question": row["question"],
        "details": orjson.Fragment(row["details"]),
        "requested_at": iso(row["requested_at_ms"]),
        "expires_at": moment(row["expires_at_ms"]),
        "decided_at": moment(row["decided_at_ms"]),
        "decided_by": row["decided_by"],
        "reason": row["reason"],
        "roles": orjson.Fragment(row["roles"]),
        "position": f"workflows.events:{row['partition']}:{row['record_offset']}",
    }


def dead_letter_document(row: Row) -> Document:
    """A record nobody could understand, its bytes in base64, and what became of it: open, redriven or discarded.

    `is_cut` says that this is a line of a list, which shows only the first bytes, and no headers where they are long.
    """
    value = row["record_value"]
    return {
        "id": row["id"],
        "stage": row["stage"],
        "topic": row["topic"],
        "partition": row["source_partition"],
        "offset": row["source_offset"],
        "error_type": row["error_type"],
        "error": row["error"],
        "at": iso(row["timestamp_ms"]),
        "key": None if row["record_key"] is None else row["record_key"].decode("utf-8", "replace"),
        "value_base64": None if value is None else base64.b64encode(value).decode(),
        "value_bytes": None if value is None else row.get("value_bytes", len(value)),
        "is_cut": row.get("is_cut", False),
        "headers": orjson.Fragment(row["record_headers"]),
        "status": row["status"],
        "settled_by": row["settled_by"],
        "settled_at": moment(row["settled_at_ms"]),
        "reason": row["reason"],
        "answered_at": row["answered_at"],
    }


def moment(ms: int | None) -> str | None:
    """A time as people read it, where there is one."""
    return None if ms is None else iso(ms)


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        return fields_of(value)
    return [_plain(item) for item in value] if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType]


@cache
def _documents(record: type[Part]) -> frozenset[str]:
    """The fields of a record that hold JSON documents as text."""
    hints = get_type_hints(record, include_extras=True)
    return frozenset(name for name in record.model_fields if _is_document(hints[name]))


def _is_document(annotation: Any) -> bool:
    marks = getattr(annotation, "__metadata__", ())
    return any(mark in marks for mark in _DOCUMENT_MARKS) or any(
        _is_document(part) for part in get_args(annotation) if part is not type(None)
    )
