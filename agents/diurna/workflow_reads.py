"""Where a client of workflows reads: from the API, or straight from the tables; both answer the same documents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, cast

from diurna.api_client import ApiClient, path_of
from diurna_projections.documents import opened
from diurna_schemas.codec import Codec
from diurna_schemas.errors import NotFound
from diurna_schemas.ids import Position, checked_id
from diurna_schemas.topics import WORKFLOWS

if TYPE_CHECKING:  # asyncpg is loaded only where tables are read
    from diurna_projections.found import Page
    from diurna_projections.queries import Queries

Document = dict[str, Any]
After = Sequence[Position]
"""What a read must have seen, at least."""

PAGE: Final = 1_000
_WAIT_SECONDS: Final = 10.0
_CONNECTIONS_MAX: Final = 4


class WorkflowReads(Protocol):
    """The reads. `after` waits until the tables hold those records."""

    async def connect(self) -> None:
        """Raises `Unavailable` where nobody answers."""
        ...

    async def workflow(self, workflow_id: str, version: int | None, after: After) -> Document:
        """A workflow, at its newest version or a past one. Raises `NotFound`."""
        ...

    async def workflows(self, filters: dict[str, str | None], after: After) -> list[Document]:
        """All workflows that fit `status`, `workflow_type` and `ended_before`, the newest first."""
        ...

    async def checkpoints(self, workflow_id: str, limit: int, after: After) -> list[Document]:
        """The newest checkpoints of a workflow, the newest first. Raises `NotFound`."""
        ...

    async def checkpoint(self, workflow_id: str, checkpoint_id: str, after: After) -> Document:
        """A checkpoint with its state. Raises `NotFound`."""
        ...

    async def history(self, workflow_id: str, after: After) -> list[Document]:
        """Every event of a workflow, the oldest first. Raises `NotFound`."""
        ...

    async def statistics(self, after: After) -> list[Document]:
        """Counts by type."""
        ...

    async def close(self) -> None: ...


class ApiReads:
    """Reads over HTTP."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def connect(self) -> None:
        await self._api.read("/livez")

    async def workflow(self, workflow_id: str, version: int | None, after: After) -> Document:
        with _named("workflow", workflow_id):
            return cast("Document", await self._read(path_of("workflows", workflow_id), after, version=version))

    async def workflows(self, filters: dict[str, str | None], after: After) -> list[Document]:
        return await self._api.read_pages("/workflows", {**filters, "limit": PAGE, **_since(after)})

    async def checkpoints(self, workflow_id: str, limit: int, after: After) -> list[Document]:
        path = path_of("workflows", workflow_id, "checkpoints")
        with _named("workflow", workflow_id):
            return cast("list[Document]", await self._read(path, after, limit=limit))

    async def checkpoint(self, workflow_id: str, checkpoint_id: str, after: After) -> Document:
        path = path_of("workflows", workflow_id, "checkpoints", checkpoint_id)
        with _named("checkpoint", checkpoint_id):
            return cast("Document", await self._read(path, after))

    async def history(self, workflow_id: str, after: After) -> list[Document]:
        path = path_of("workflows", workflow_id, "history")
        with _named("workflow", workflow_id):
            return await self._api.read_pages(path, {"limit": PAGE, **_since(after)})

    async def statistics(self, after: After) -> list[Document]:
        return cast("list[Document]", await self._read("/workflow-statistics", after))

    async def close(self) -> None:
        await self._api.close()

    async def _read(self, path: str, after: After, **parameters: int | None) -> Any:
        return await self._api.read(path, {**parameters, **_since(after)})


class TableReads:
    """Reads straight from the tables of a Postgres database: for clients that stand beside it."""

    def __init__(self, queries: Queries) -> None:
        from diurna_projections.workflow_queries import WorkflowQueries

        self._queries = queries
        self._workflows = WorkflowQueries(queries)

    @classmethod
    async def open(cls, database_url: str, codec: Codec) -> Self:
        """Connects. Raises `Unavailable` where no database answers there."""
        from diurna_projections.queries import Queries

        return cls(await Queries.connect(database_url, codec, connections_max=_CONNECTIONS_MAX))

    async def connect(self) -> None:
        await self._queries.positions()

    async def workflow(self, workflow_id: str, version: int | None, after: After) -> Document:
        await self._wait(after)
        return opened((await self._workflows.workflow(workflow_id, version=version))[0])

    async def workflows(self, filters: dict[str, str | None], after: After) -> list[Document]:
        await self._wait(after)
        wanted: dict[str, object] = {name: value for name, value in filters.items() if name != "ended_before"}
        if (moment := filters.get("ended_before")) is not None:
            wanted["ended_before_ms"] = round(datetime.fromisoformat(moment).timestamp() * 1000)
        return await _all(lambda cursor: self._queries.workflows(wanted, limit=PAGE, cursor=cursor))

    async def checkpoints(self, workflow_id: str, limit: int, after: After) -> list[Document]:
        await self._wait(after)
        return _many((await self._workflows.checkpoints(workflow_id, limit=limit)).documents)

    async def checkpoint(self, workflow_id: str, checkpoint_id: str, after: After) -> Document:
        await self._wait(after)
        return opened((await self._workflows.checkpoint(workflow_id, checkpoint_id))[0])

    async def history(self, workflow_id: str, after: After) -> list[Document]:
        await self._wait(after)
        filters = {"topic": WORKFLOWS.events, "subject": checked_id("workflow_id", workflow_id)}
        found = await _all(lambda cursor: self._queries.events(filters, limit=PAGE, cursor=cursor))
        if not found:
            raise NotFound("workflow", workflow_id)
        return found

    async def statistics(self, after: After) -> list[Document]:
        await self._wait(after)
        return _many((await self._workflows.statistics()).documents)

    async def close(self) -> None:
        await self._queries.close()

    async def _wait(self, after: After) -> None:
        await self._queries.wait(list(after), seconds=_WAIT_SECONDS)


async def _all(page_after: Callable[[str | None], Awaitable[Page]]) -> list[Document]:
    page = await page_after(None)
    found = list(page.documents)
    while page.cursor is not None:
        page = await page_after(page.cursor)
        found += page.documents
    return _many(found)


def _since(after: After) -> dict[str, Sequence[str]]:
    return {"min_position": [str(position) for position in after]}


def _many(documents: list[Document]) -> list[Document]:
    return [opened(document) for document in documents]


@contextmanager
def _named(kind: str, id: str) -> Generator[None]:  # noqa: A002 - the field's own word
    """Has a 404 name what was looked for, and not the path."""
    try:
        yield
    except NotFound as error:
        error.kind, error.id = kind, id
        raise
