"""An event as a subscriber gets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from diurna.documents import fields_of, json_object
from diurna.seen import Seen
from diurna_schemas.agents import RequestSubmitted
from diurna_schemas.message import Event as Fact
from diurna_schemas.records import Broadcast


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `position` is where it stands on the log, `data` what it says.

    Of a decided event `data` holds all its fields, and `source` is the agent it speaks of.
    """

    type: str
    data: dict[str, Any]
    source: str
    correlation_id: str | None
    position: str
    id: str
    time: datetime
    subject: str
    target_agents: tuple[str, ...] = ("all",)
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def of(cls, seen: Seen) -> Event:
        """Reads the record. Raises `Unreadable` where its bytes mean nothing."""
        record = seen.decoded()
        match record:
            case Broadcast():
                return cls(
                    type=record.event_type,
                    data=json_object(record.data),
                    source=record.source_agent,
                    correlation_id=record.correlation_id,
                    position=str(seen.position),
                    id=record.broadcast_id,
                    time=_moment(record.created_at_ms),
                    subject=seen.subject,
                    target_agents=tuple(record.target_agents),
                    metadata=json_object(record.metadata),
                )
            case _:
                return cls(
                    type=seen.type_name,
                    data=fields_of(record),
                    source=_source(seen, record),
                    correlation_id=seen.correlation_id,
                    position=str(seen.position),
                    id=seen.id,
                    time=_moment(record.at_ms if isinstance(record, Fact) else seen.record.timestamp_ms),
                    subject=seen.subject,
                )

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Event:
        """Reads an event as `GET /events` shows it."""
        found: object = document["data"]
        data = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
        about = data.get("agent_id")
        return cls(
            type=document["type"],
            data=data,
            source=about if isinstance(about, str) else document["source"],
            correlation_id=document["correlation_id"],
            position=document["position"],
            id=document["id"],
            time=datetime.fromisoformat(document["time"]),
            subject=document["subject"],
            target_agents=tuple(document.get("target_agents") or ("all",)),
        )


def _source(seen: Seen, record: object) -> str:
    if isinstance(record, RequestSubmitted):
        return record.request.source_agent
    agent_id = getattr(record, "agent_id", None)
    return agent_id if isinstance(agent_id, str) else seen.header("ce_source") or "unknown"


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
