"""The reads over the tables: each one statement, each with the positions of the log it is true at."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, cast

import orjson

from diurna_projections import documents, paging
from diurna_projections.documents import Document
from diurna_projections.found import Found, Page
from diurna_projections.lock_queries import LockQueries
from diurna_projections.paging import LIMIT, Listing
from diurna_projections.store import Checksums, Database, PartitionPosition, Store
from diurna_projections.store.database import SCHEMA
from diurna_projections.store.statements import statements
from diurna_projections.waiting import Waiting
from diurna_schemas.agents import STALE_AFTER_MS
from diurna_schemas.chain import Head
from diurna_schemas.codec import Codec
from diurna_schemas.errors import NotFound
from diurna_schemas.ids import Position, checked_id, checked_name
from diurna_schemas.topics import partition_of

_AGENTS: Final = statements("agents")
_CONNECTIONS_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class AbleAgent:
    """A live agent that has a capability: how much it takes at once, and how many requests it has."""

    agent_id: str
    agent_name: str
    status: str
    concurrency: int
    open_requests: int


class Queries:
    """Reads from the tables. `learn` makes the codec know a schema id it does not (bounded by the caller)."""

    def __init__(
        self, database: Database, codec: Codec, *, clock_ms: Callable[[], int] = lambda: int(time.time() * 1000)
    ) -> None:
        self.database = database
        self.codec = codec
        self._clock_ms = clock_ms
        self._store = Store(database)
        self._waiting = Waiting(self._next)
        self.locks = LockQueries(self.page, clock_ms)

    @classmethod
    async def connect(
        cls, url: str, codec: Codec, *, schema: str = SCHEMA, connections_max: int = _CONNECTIONS_MAX
    ) -> Self:
        """Connects for reading. Raises `Unavailable` where nobody answers."""
        database = await Database.connect(url, schema=schema, connections_max=connections_max, name="diurna-reads")
        return cls(database, codec)

    async def close(self) -> None:
        await self._waiting.close()
        await self.database.close()

    # --- where the tables stand -------------------------------------------------------------------------

    async def wait(self, positions: list[Position], *, seconds: float) -> None:
        """Waits until the tables hold these records. Raises `TimedOut`; `InvalidInput` for what is not projected."""
        await self._waiting.wait(positions, seconds=seconds)

    async def positions(self) -> list[PartitionPosition]:
        """How far each partition is projected."""
        return await self._store.positions()

    async def chain_heads(self) -> dict[tuple[str, int], Head]:
        """The last accepted event of each chained partition and the offset to read next."""
        return {place: head for place, head in (await self._store.heads()).items() if place[0].endswith(".events")}

    async def checksums(self) -> Checksums:
        return await self._store.checksums()

    async def _next(self) -> Mapping[tuple[str, int], int]:
        return {(found.topic, found.partition): found.head.next_offset for found in await self._store.positions()}

    # --- agents -----------------------------------------------------------------------------------------

    async def agent(self, agent_id: str) -> Found:
        """An agent with its instances. Raises `NotFound`."""
        row = await self.database.row(_AGENTS["show"], checked_name("agent_id", agent_id), partition_of(agent_id))
        return _one(row, "agent", agent_id)

    async def agents(
        self,
        *,
        status: str | None = None,
        capability: str | None = None,
        limit: int = LIMIT,
        cursor: str | None = None,
    ) -> Found:
        """Agents in order of their ids."""
        after = None if cursor is None else checked_name("cursor", cursor)
        row = await self.database.row(_AGENTS["list"], status, capability, after, limit)
        if row is None:
            return Found(b"[]", "")
        return Found(row["document"].encode(), row["positions"] or "", row["last"])

    async def agent_health(self, agent_id: str) -> Found:
        """Whether an agent was heard from within 60 seconds. Raises `NotFound`."""
        row = await self.database.row(
            _AGENTS["health"],
            checked_name("agent_id", agent_id),
            partition_of(agent_id),
            self._clock_ms(),
            STALE_AFTER_MS,
        )
        return _one(row, "agent", agent_id)

    async def search_capabilities(self, query: str, *, limit: int = LIMIT, cursor: str | None = None) -> Page:
        """Capabilities of live agents whose name, description or tags hold every word of the query."""
        patterns = [f"%{_escaped(word)}%" for word in query.lower().split()] or ["%"]
        after: list[object] = [None, None] if cursor is None else paging.CAPABILITIES.place_in(cursor)
        rows = await self.database.fetch(_AGENTS["search_capabilities"], patterns, limit + 1, *after)
        following = None
        if len(rows) > limit:
            last: Mapping[str, Any] = dict(rows[limit - 1])
            following = paging.cursor_of(paging.CAPABILITIES.place_of(last))
        found = [
            {
                "agent_id": row["agent_id"],
                "agent_name": row["agent_name"],
                "capability": row["name"],
                "description": row["description"],
                "base_url": row["base_url"],
                "tags": orjson.Fragment(row["tags"]),
            }
            for row in rows[:limit]
            if row["agent_id"] is not None
        ]
        return Page(found, (rows[0]["positions"] if rows else None) or "", following)

    async def able(self, capability: str) -> list[AbleAgent]:
        """Live agents that have a capability of this name or tag, those with the fewest open requests first."""
        rows = await self.database.fetch(_AGENTS["able"], capability, self._clock_ms() - STALE_AFTER_MS)
        return [AbleAgent(*row) for row in rows]

    # --- requests ---------------------------------------------------------------------------------------

    async def requests(
        self, filters: Mapping[str, str | None], *, limit: int = LIMIT, cursor: str | None = None
    ) -> Page:
        """Requests, the newest first. Filters: status, source_agent, target_agent, correlation_id, command_id."""
        return await self.page(paging.REQUESTS, filters, documents.request_document, limit=limit, cursor=cursor)

    async def request(self, request_id: str) -> tuple[Document, str]:
        """A request and the positions it is true at. Raises `NotFound`."""
        page = await self.requests({"request_id": checked_id("request_id", request_id)}, limit=1)
        return _only(page, "request", request_id)

    async def agent_of_request(self, request_id: str) -> str:
        """The agent a request was submitted to. Raises `NotFound`."""
        document, _ = await self.request(request_id)
        return cast("str", document["agent_id"])

    async def request_of_command(self, command_id: str) -> Document | None:
        """The request that was submitted with this command."""
        page = await self.requests({"command_id": command_id}, limit=1)
        return page.documents[0] if page.documents else None

    # --- workflows --------------------------------------------------------------------------------------

    async def workflows(self, filters: Mapping[str, object], *, limit: int = LIMIT, cursor: str | None = None) -> Page:
        """Workflows, the newest first. Filters: status, workflow_type, ended_before_ms."""
        return await self.page(paging.WORKFLOWS, filters, documents.workflow_document, limit=limit, cursor=cursor)

    async def workflow(self, workflow_id: str) -> tuple[Document, str]:
        """A workflow and the positions it is true at. Raises `NotFound`."""
        page = await self.workflows({"workflow_id": checked_id("workflow_id", workflow_id)}, limit=1)
        return _only(page, "workflow", workflow_id)

    async def approvals(
        self, filters: Mapping[str, str | None], *, limit: int = LIMIT, cursor: str | None = None
    ) -> Page:
        """Approvals, the oldest first. Filters: status, workflow_id, approval_id."""
        return await self.page(paging.APPROVALS, filters, documents.approval_document, limit=limit, cursor=cursor)

    async def workflow_of_approval(self, approval_id: str) -> str:
        """The workflow that waits for an approval, or did. Raises `NotFound`."""
        asked = {"approval_id": checked_id("approval_id", approval_id)}
        page = await self.approvals({**asked, "status": "pending"}, limit=1)
        if not page.documents:
            page = await self.approvals(asked, limit=1)
        document, _ = _only(page, "approval", approval_id)
        return cast("str", document["workflow_id"])

    # --- the log ----------------------------------------------------------------------------------------

    async def events(
        self,
        filters: Mapping[str, object],
        *,
        after: Position | None = None,
        limit: int = LIMIT,
        cursor: str | None = None,
        is_descending: bool = False,
    ) -> Page:
        """What was accepted, in order of time. Filters: topic, type, subject, correlation_id, command_id."""
        place = None if after is None else await self._place_of(after)
        return await self.page(
            paging.EVENTS, filters, self._event, limit=limit, cursor=cursor, above=place, is_descending=is_descending
        )

    async def event(self, position: Position) -> tuple[Document, str]:
        """The accepted event at a position. Raises `NotFound`."""
        place = {"topic": position.topic, "partition": position.partition, "record_offset": position.offset}
        return _only(await self.events(place, limit=1), "event", str(position))

    async def answer_to(self, command_id: str) -> Document | None:
        """The first event a command caused."""
        page = await self.events({"command_id": command_id}, limit=1)
        return page.documents[0] if page.documents else None

    async def dead_letters(
        self, filters: Mapping[str, str | None], *, limit: int = LIMIT, cursor: str | None = None
    ) -> Page:
        """Records nobody could understand, the newest first, their bytes cut. Filters: topic, stage, status, id."""
        return await self.page(paging.DEAD_LETTERS, filters, documents.dead_letter_document, limit=limit, cursor=cursor)

    async def dead_letter(self, letter_id: str) -> tuple[Document, str]:
        """One of them, with all that is kept of it. Raises `NotFound`."""
        page = await self.page(paging.DEAD_LETTER, {"id": letter_id}, documents.dead_letter_document, limit=1)
        return _only(page, "dead letter", letter_id)

    def _event(self, row: Mapping[str, Any]) -> Document:
        return documents.event_document(row, self.codec)

    async def _place_of(self, position: Position) -> list[object]:
        """The place of a record in the order of time; where it does not count, that of the one before it."""
        row = await self.database.row(
            "select at_ms, topic, partition, record_offset from events"
            " where topic = $1 and partition = $2 and record_offset <= $3 order by record_offset desc limit 1",
            position.topic,
            position.partition,
            position.offset,
        )
        return [0, "", 0, 0] if row is None else list(row)

    async def page(
        self,
        listing: Listing,
        filters: Mapping[str, object],
        document: Callable[[Mapping[str, Any]], Document],
        *,
        limit: int,
        cursor: str | None = None,
        above: list[object] | None = None,
        is_descending: bool | None = None,
    ) -> Page:
        """A page of a listing."""
        place = None if cursor is None else listing.place_in(cursor)
        descending = listing.is_descending if is_descending is None else is_descending
        sql, arguments = listing.statement(filters, limit=limit + 1, after=place, above=above, is_descending=descending)
        rows = await self.database.fetch(sql, *arguments)
        positions = (rows[0]["positions_"] if rows else None) or ""
        first = listing.order[0][0]
        found = [cast("Mapping[str, Any]", row) for row in rows if row[first] is not None]
        following = paging.cursor_of(listing.place_of(found[limit - 1])) if len(found) > limit else None
        return Page([document(row) for row in found[:limit]], positions, following)


Ends = Callable[[], Awaitable[Mapping[tuple[str, int], int]]]
"""Where the log ends, by topic and partition."""


def _one(row: Any, kind: str, id: str) -> Found:  # noqa: A002
    if row is None or row["document"] is None:
        raise NotFound(kind, id)
    return Found(row["document"].encode(), row["positions"] or "")


def _only(page: Page, kind: str, id: str) -> tuple[Document, str]:  # noqa: A002
    if not page.documents:
        raise NotFound(kind, id)
    return page.documents[0], page.positions


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("\x00", "")
