"""Rows about locks as the JSON documents people read. A lease whose time has passed is over, whatever the row says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from diurna_projections.documents import Document, Row, moment
from diurna_projections.folds.locks import HELD
from diurna_schemas.envelope import iso

AsDocument = Callable[[Mapping[str, Any], int], Document]
"""A row and the present, in milliseconds UTC, as a document."""


def lock_document(row: Row, now_ms: int) -> Document:
    """A lock that is held."""
    return {
        "resource_id": row["resource_id"],
        "lock_id": row["lock_id"],
        "agent_id": row["agent_id"],
        "fencing_token": row["fencing_token"],
        "timeout": row["lease_ms"] / 1000,
        "acquired_at": iso(row["acquired_at_ms"]),
        "expires_at": iso(row["deadline_ms"]),
        "is_provisional": bool(row["is_provisional"]),
        "waited_seconds": row["waited_ms"] / 1000,
        "renewals": row["renewals"],
        "reason": row["reason"],
        "metadata": orjson.Fragment(row["metadata"]),
        "position": _position(row),
    }


def waiter_document(row: Row, now_ms: int) -> Document:
    """Somebody who waits."""
    return {
        "resource_id": row["resource_id"],
        "lock_id": row["lock_id"],
        "agent_id": row["agent_id"],
        "queue_position": row["queue_position"],
        "timeout": row["lease_ms"] / 1000,
        "queued_at": iso(row["asked_at_ms"]),
        "waits_until": iso(row["until_ms"]),
        "reason": row["reason"],
        "metadata": orjson.Fragment(row["metadata"]),
        "position": _position(row),
    }


def history_document(row: Row, now_ms: int) -> Document:
    """One wish for a lock and what became of it."""
    status, held_ms, ended_at_ms = row["status"], row["held_ms"], row["ended_at_ms"]
    if status == HELD and row["deadline_ms"] <= now_ms:
        status, ended_at_ms = "expired", row["deadline_ms"]
        held_ms = ended_at_ms - row["acquired_at_ms"]
    return {
        "resource_id": row["resource_id"],
        "lock_id": row["lock_id"],
        "agent_id": row["agent_id"],
        "status": status,
        "fencing_token": row["fencing_token"],
        "timeout": _seconds(row["lease_ms"]),
        "asked_at": iso(row["asked_at_ms"]),
        "acquired_at": moment(row["acquired_at_ms"]),
        "expires_at": moment(row["deadline_ms"]) if status == HELD else None,
        "ended_at": moment(ended_at_ms),
        "waited_seconds": _seconds(row["waited_ms"]),
        "held_seconds": _seconds(held_ms),
        "renewals": row["renewals"],
        "is_provisional": bool(row["is_provisional"]) and status == HELD,
        "reason": row["reason"],
        "metadata": orjson.Fragment(row["metadata"]),
        "ended_by": row["ended_by"],
        "end_reason": row["end_reason"],
        "position": _position(row),
    }


def statistics_document(row: Row, now_ms: int) -> Document:
    """How a resource is fought for."""
    acquisitions, wishes = row["acquisitions"], row["wishes"]
    ends = row["releases"] + row["expirations"] + row["forced_releases"]
    counted = (
        "wishes", "acquisitions", "queued", "denials", "releases", "expirations", "forced_releases", "wait_timeouts",
        "wait_cancellations", "renewals",
    )  # fmt: skip
    return {
        "resource_id": row["resource_id"],
        **{name: row[name] for name in counted},
        "contention": round((row["queued"] + row["denials"]) / wishes, 4) if wishes else 0.0,
        "waited_seconds_mean": _mean(row["waited_ms_total"], acquisitions),
        "waited_seconds_max": row["waited_ms_max"] / 1000,
        "held_seconds_mean": _mean(row["held_ms_total"], ends),
        "held_seconds_max": row["held_ms_max"] / 1000,
        "last_acquired_at": moment(row["last_acquired_at_ms"]),
        "position": _position(row),
    }


def _position(row: Row) -> str:
    return f"locks.events:{row['partition']}:{row['record_offset']}"


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


def _mean(total_ms: int, count: int) -> float | None:
    return round(total_ms / count / 1000, 3) if count else None
