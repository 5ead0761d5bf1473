"""Where a client of workflows reads: from the API, or straight from the tables; both answer the same documents."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, cast

from diurna.api_client import ApiClient, path_of
from diurna.past_reads import PastTables
from diurna_projections.documents import opened
from diurna_schemas.codec import Codec
from diurna_schemas.errors import NotFound
from diurna_schemas.ids import Position, checked_id
from diurna_schemas.topics import WORKFLOWS, partition_of

if TYPE_CHECKING:  # asyncpg is loaded only where tables are read
    from diurna_projections.found import Page
    from diurna_projections.workflow_queries import WorkflowQueries

Document = dict[str, Any]

PAGE: Final = 1_000
_WAIT_SECONDS: Final = 10.0
_CONNECTIONS_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class When:
    """What a read must have seen at least, and the moment it is asked about: a time, a position, or now."""

    after: Sequence[Position] = ()
    as_of: str | None = None


class WorkflowReads(Protocol):
    """The reads. Each waits until the tables hold what it must have seen; `NotFound` is also a position of no event."""

    async def connect(self) -> None:
        """Raises `Unavailable` where nobody answers."""
        ...

    async def workflow(self, workflow_id: str, version: int | None, when: When) -> Document:
        """A workflow, at its newest version or a past one. Raises `NotFound`."""
        ...

    async def workflows(self, filters: dict[str, str | None], when: When) -> list[Document]:
        """All workflows that fit `status`, `workflow_type` and `ended_before`, the newest first."""
        ...

    async def checkpoints(self, workflow_id: str, limit: int, when: When) -> list[Document]:
        """The newest checkpoints of a workflow, the newest first. Raises `NotFound`."""
        ...

    async def checkpoint(self, workflow_id: str, checkpoint_id: str, when: When) -> Document:
        """A checkpoint with its state. Raises `NotFound`."""
        ...

    async def history(self, workflow_id: str, when: When) -> list[Document]:
        """Every event of a workflow, the oldest first. Raises `NotFound`."""
        ...

    async def statistics(self, when: When) -> list[Document]:
        """Counts by type."""
        ...

    async def close(self) -> None: ...


class ApiReads:
    """Reads over HTTP."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def connect(self) -> None:
        await self._api.read("/livez")

    async def workflow(self, workflow_id: str, version: int | None, when: When) -> Document:
        with _named("workflow", workflow_id, when):
            return cast("Document", await self._read(path_of("workflows", workflow_id), when, version=version))

    async def workflows(self, filters: dict[str, str | None], when: When) -> list[Document]:
        with _named("resource", "/workflows", when):
            return await self._api.read_pages("/workflows", {**filters, "limit": PAGE, **_sent(when)})

    async def checkpoints(self, workflow_id: str, limit: int, when: When) -> list[Document]:
        path = path_of("workflows", workflow_id, "checkpoints")
        with _named("workflow", workflow_id, when):
            return cast("list[Document]", await self._read(path, when, limit=limit))

    async def checkpoint(self, workflow_id: str, checkpoint_id: str, when: When) -> Document:
        path = path_of("workflows", workflow_id, "checkpoints", checkpoint_id)
        with _named("checkpoint", checkpoint_id, when):
            return cast("Document", await self._read(path, when))

    async def history(self, workflow_id: str, when: When) -> list[Document]:
        path = path_of("workflows", workflow_id, "history")
        with _named("workflow", workflow_id, when):
            return await self._api.read_pages(path, {"limit": PAGE, **_sent(when)})

    async def statistics(self, when: When) -> list[Document]:
        with _named("resource", "/workflow-statistics", when):
            return cast("list[Document]", await self._read("/workflow-statistics", when))

    async def close(self) -> None:
        await self._api.close()

    async def _read(self, path: str, when: When, **parameters: int | None) -> Any:
        return await self._api.read(path, {**parameters, **_sent(when)})


class TableReads:
    """Reads straight from the tables of a Postgres database: for clients that stand beside it."""

    def __init__(self, tables: PastTables) -> None:
        self._tables = tables

    @classmethod
    async def open(cls, database_url: str, codec: Codec, clock_ms: Callable[[], int]) -> Self:
        """Connects. Raises `Unavailable` where no database answers there."""
        from diurna_projections.queries import Queries

        queries = await Queries.connect(database_url, codec, connections_max=_CONNECTIONS_MAX)
        return cls(PastTables(queries, database_url, codec, clock_ms))

    async def connect(self) -> None:
        await self._tables.now.positions()

    async def workflow(self, workflow_id: str, version: int | None, when: When) -> Document:
        async with self._at(when, workflow_id) as workflows:
            return opened((await workflows.workflow(workflow_id, version=version))[0])

    async def workflows(self, filters: dict[str, str | None], when: When) -> list[Document]:
        wanted: dict[str, object] = {name: value for name, value in filters.items() if name != "ended_before"}
        if (moment := filters.get("ended_before")) is not None:
            wanted["ended_before_ms"] = round(datetime.fromisoformat(moment).timestamp() * 1000)
        async with self._at(when) as workflows:
            return await _all(lambda cursor: workflows.queries.workflows(wanted, limit=PAGE, cursor=cursor))

    async def checkpoints(self, workflow_id: str, limit: int, when: When) -> list[Document]:
        async with self._at(when, workflow_id) as workflows:
            return _many((await workflows.checkpoints(workflow_id, limit=limit)).documents)

    async def checkpoint(self, workflow_id: str, checkpoint_id: str, when: When) -> Document:
        async with self._at(when, workflow_id) as workflows:
            return opened((await workflows.checkpoint(workflow_id, checkpoint_id))[0])

    async def history(self, workflow_id: str, when: When) -> list[Document]:
        filters = {"topic": WORKFLOWS.events, "subject": checked_id("workflow_id", workflow_id)}
        async with self._at(when, workflow_id) as workflows:
            found = await _all(lambda cursor: workflows.queries.events(filters, limit=PAGE, cursor=cursor))
        if not found:
            raise NotFound("workflow", workflow_id)
        return found

    async def statistics(self, when: When) -> list[Document]:
        async with self._at(when) as workflows:
            return _many((await workflows.statistics()).documents)

    async def close(self) -> None:
        await self._tables.close()

    @asynccontextmanager
    async def _at(self, when: When, workflow_id: str | None = None) -> AsyncGenerator[WorkflowQueries]:
        from diurna_projections.workflow_queries import WorkflowQueries

        await self._tables.now.wait(list(when.after), seconds=_WAIT_SECONDS)
        partition = None if workflow_id is None else partition_of(workflow_id)
        async with self._tables.at(when.as_of, WORKFLOWS.events, partition) as queries:
            yield WorkflowQueries(queries)


async def _all(page_after: Callable[[str | None], Awaitable[Page]]) -> list[Document]:
    page = await page_after(None)
    found = list(page.documents)
    while page.cursor is not None:
        page = await page_after(page.cursor)
        found += page.documents
    return _many(found)


def _sent(when: When) -> dict[str, str | Sequence[str] | None]:
    return {"min_position": [str(position) for position in when.after], "as_of": when.as_of}


def _many(documents: list[Document]) -> list[Document]:
    return [opened(document) for document in documents]


@contextmanager
def _named(kind: str, id: str, when: When) -> Generator[None]:  # noqa: A002 - the field's own word
    """Has a 404 name what was looked for, and not the path: that, or the event whose moment was asked about."""
    try:
        yield
    except NotFound as error:
        is_moment = when.as_of is not None and str(error) == str(NotFound("event", when.as_of))
        error.kind, error.id = ("event", when.as_of or "") if is_moment else (kind, id)
        raise
