"""Signs of life to rows: the last one of each instance."""

from __future__ import annotations

from typing import Final

from diurna_projections import rows
from diurna_projections.records import LogRecord
from diurna_projections.tables import Folds, Tables
from diurna_projections.text import plain
from diurna_schemas.agents import Heartbeat


def _heartbeat(tables: Tables, heartbeat: Heartbeat, record: LogRecord) -> None:
    tables.heartbeats.put(
        rows.Heartbeat(
            agent_id=heartbeat.agent_id,
            instance_id=plain(heartbeat.instance_id),
            last_ms=record.timestamp_ms,
            in_flight=heartbeat.in_flight,
            status=heartbeat.status,
            sent_at_ms=heartbeat.sent_at_ms,
            partition=record.partition,
            record_offset=record.offset,
        )
    )


FOLDS: Final[Folds] = {Heartbeat: _heartbeat}
