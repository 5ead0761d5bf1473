"""Lists in pages: which filters a table has, in which order it is read, and where a page ends."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from diurna_schemas.errors import InvalidInput
from diurna_schemas.topics import DEAD_LETTER_TOPICS

LIMIT: Final = 100
LIMIT_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Listing:
    """How a table is listed. `order` are the columns that make a row's place, `filters` the conditions by name.

    `columns` are what a row shows in a list, where that is not everything.
    """

    table: str
    topics: tuple[str, ...]
    order: tuple[tuple[str, str], ...]
    filters: Mapping[str, str]
    is_descending: bool = False
    columns: str = "*"

    def statement(
        self,
        given: Mapping[str, object],
        *,
        limit: int,
        after: Sequence[object] | None = None,
        above: Sequence[object] | None = None,
        is_descending: bool,
    ) -> tuple[str, list[object]]:
        """One statement for a page and the positions it is true at, and its arguments.

        `after` is where the page before ended, in the order of the list; what is not `above` a place is never listed.
        """
        arguments: list[object] = [list(self.topics)]
        conditions: list[str] = []
        for name, value in given.items():
            if value is not None:
                arguments.append(value)
                conditions.append(self.filters[name].format(f"${len(arguments)}"))
        columns = ", ".join(column for column, _ in self.order)
        for bound, comparison in ((above, ">"), (after, "<" if is_descending else ">")):
            if bound is None:
                continue
            places: list[str] = []
            for (_, kind), value in zip(self.order, bound, strict=True):
                arguments.append(value)
                places.append(f"${len(arguments)}::{kind}")
            conditions.append(f"({columns}) {comparison} ({', '.join(places)})")
        arguments.append(limit)
        direction = "desc" if is_descending else "asc"
        order = ", ".join(f"{column} {direction}" for column, _ in self.order)
        where = f"where {' and '.join(conditions)}" if conditions else ""
        sql = f"""
            select p.positions as positions_, t.*
            from (select string_agg(topic || ':' || partition || ':' || next - 1, ',' order by topic, partition)
                      as positions
                  from positions where topic = any($1) and next > 0) p
            left join lateral (
                select {self.columns} from {self.table} {where} order by {order} limit ${len(arguments)}
            ) t on true
            order by {order}
        """  # noqa: S608
        return sql, arguments

    def place_of(self, row: Mapping[str, Any]) -> list[object]:
        return [row[column] for column, _ in self.order]

    def place_in(self, cursor: str) -> list[object]:
        """The place a cursor stands for. Raises `InvalidInput` where it is none of ours."""
        try:
            place: object = orjson.loads(base64.urlsafe_b64decode(cursor.encode() + b"=="))
        except ValueError as error:
            raise InvalidInput("cursor", cursor, "it must come from a Link header") from error
        kinds = [int if kind in {"bigint", "integer"} else str for _, kind in self.order]
        if not (
            isinstance(place, list)
            and [type(part) for part in place] == kinds  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            and all(_is_storable(part, kind) for part, (_, kind) in zip(place, self.order, strict=True))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        ):
            raise InvalidInput("cursor", cursor, "it must come from a Link header")
        return place  # pyright: ignore[reportUnknownVariableType]


def _is_storable(part: int | str, kind: str) -> bool:
    """Whether Postgres can compare with it: numbers have four or eight bytes, texts no NUL."""
    if isinstance(part, str):
        return "\x00" not in part
    return abs(part) < (2**31 if kind == "integer" else 2**63)


def cursor_of(place: Sequence[object]) -> str:
    """The cursor for what follows this place."""
    return base64.urlsafe_b64encode(orjson.dumps(list(place))).decode().rstrip("=")


AGENT_TOPICS: Final = ("agents.events",)
WORKFLOW_TOPICS: Final = ("workflows.events",)
LOCK_TOPICS: Final = ("locks.events",)
_EVENT_TOPICS: Final = ("agents.events", "broadcasts", "locks.events", "workflows.events")

CAPABILITIES: Final = Listing("capabilities", AGENT_TOPICS, (("agent_id", "text"), ("name", "text")), {})
REQUESTS: Final = Listing(
    "requests",
    AGENT_TOPICS,
    (("submitted_at_ms", "bigint"), ("request_id", "text"), ("agent_id", "text")),
    {
        "status": "status = {}",
        "source_agent": "source_agent = {}",
        "target_agent": "agent_id = {}",
        "correlation_id": "correlation_id = {}",
        "command_id": "command_id = {}",
        "request_id": "request_id = {}",
    },
    is_descending=True,
)
WORKFLOWS: Final = Listing(
    "workflows",
    WORKFLOW_TOPICS,
    (("started_at_ms", "bigint"), ("workflow_id", "text")),
    {
        "status": "status = {}",
        "workflow_type": "workflow_type = {}",
        "workflow_id": "workflow_id = {}",
        "ended_before_ms": "completed_at_ms <= {}",
    },
    is_descending=True,
)
APPROVALS: Final = Listing(
    "approvals_with_end",
    WORKFLOW_TOPICS,
    (("requested_at_ms", "bigint"), ("approval_id", "text"), ("workflow_id", "text")),
    {"status": "status = {}", "workflow_id": "workflow_id = {}", "approval_id": "approval_id = {}"},
)
CHECKPOINTS: Final = Listing(
    "workflow_checkpoints",
    WORKFLOW_TOPICS,
    (("record_offset", "bigint"), ("checkpoint_id", "text")),
    {"workflow_id": "workflow_id = {}", "checkpoint_id": "checkpoint_id = {}"},
    is_descending=True,
)
LOCKS: Final = Listing(
    "locks",
    LOCK_TOPICS,
    (("resource_id", "text"),),
    {"resource_id": "resource_id = {}", "agent_id": "agent_id = {}", "after_ms": "deadline_ms > {}"},
)
LOCK_QUEUE: Final = Listing(
    "lock_queue",
    LOCK_TOPICS,
    (("resource_id", "text"), ("asked_offset", "bigint")),
    {"resource_id": "resource_id = {}", "agent_id": "agent_id = {}", "after_ms": "until_ms > {}"},
)
LOCK_HISTORY: Final = Listing(
    "lock_history",
    LOCK_TOPICS,
    (("asked_at_ms", "bigint"), ("resource_id", "text"), ("asked_offset", "bigint")),
    {
        "resource_id": "resource_id = {}",
        "agent_id": "agent_id = {}",
        "lock_id": "lock_id = {}",
        "status": "status = {}",
        "held_after_ms": "(status = 'held' and deadline_ms > {})",
        "over_by_ms": "(status = 'expired' or (status = 'held' and deadline_ms <= {}))",
    },
    is_descending=True,
)
LOCK_STATISTICS: Final = Listing(
    "lock_statistics", LOCK_TOPICS, (("resource_id", "text"),), {"resource_id": "resource_id = {}"}
)
EVENTS: Final = Listing(
    "events",
    _EVENT_TOPICS,
    (("at_ms", "bigint"), ("topic", "text"), ("partition", "integer"), ("record_offset", "bigint")),
    {
        "topic": "topic = {}",
        "partition": "partition = {}::bigint",
        "record_offset": "record_offset = {}",
        "type": "type = {}",
        "subject": "subject = {}",
        "correlation_id": "correlation_id = {}",
        "command_id": "causation_id = {}",
    },
)
DEAD_LETTER: Final = Listing(
    "dead_letters_with_verdict",
    DEAD_LETTER_TOPICS,
    (("timestamp_ms", "bigint"), ("id", "text")),
    {"topic": "topic = {}", "stage": "stage = {}", "status": "status = {}", "id": "id = {}"},
    is_descending=True,
)
LISTED_BYTES_MAX: Final = 1_024
DEAD_LETTERS: Final = replace(
    DEAD_LETTER,
    columns=f"""
        id, stage, topic, source_partition, source_offset, error_type, error, timestamp_ms, status, settled_by,
        settled_at_ms, reason, answered_at, octet_length(record_value) as value_bytes,
        substring(record_key for {LISTED_BYTES_MAX}) as record_key,
        substring(record_value for {LISTED_BYTES_MAX}) as record_value,
        case when length(record_headers) > {LISTED_BYTES_MAX} then '{{}}' else record_headers end as record_headers,
        coalesce(octet_length(record_key), 0) > {LISTED_BYTES_MAX}
            or coalesce(octet_length(record_value), 0) > {LISTED_BYTES_MAX}
            or length(record_headers) > {LISTED_BYTES_MAX} as is_cut""",
)
"""The same in a list: a record may fill a whole batch, and a thousand of them would be a gigabyte."""
