"""The reads about locks of a team in memory: the lists of the API over the tables folded from its log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response

from diurna_projections import lock_documents
from diurna_projections.folds.locks import HELD
from diurna_projections.lock_documents import AsDocument
from diurna_projections.rows import LockHistory
from diurna_projections.tables import Tables
from diurna_schemas.errors import NotFound

Rows = Iterable[dict[str, Any]]
Select = Callable[[Tables, int], Rows]


def add_lock_reads(app: FastAPI, tables_at: Callable[[str | None], tuple[Tables, int]]) -> None:
    """GET /locks, /locks/queue, /locks/history, /locks/statistics and /locks/{lock_id}."""

    def list_route(select: Select, document: AsDocument) -> Callable[[Request], Any]:
        async def listed(request: Request) -> Response:
            wanted = {name: value for name, value in request.query_params.items() if name in _FILTERS}
            tables, now_ms = tables_at(request.query_params.get("as_of"))
            found = [
                document(row, now_ms)
                for row in select(tables, now_ms)
                if all(row[name] == value for name, value in wanted.items() if name in row)
            ]
            limit = int(request.query_params.get("limit", 100))
            return Response(orjson.dumps(found[:limit]), media_type="application/json")

        return listed

    for path, select, document in (
        ("/locks", _held, lock_documents.lock_document),
        ("/locks/queue", _queue, lock_documents.waiter_document),
        ("/locks/history", _history, lock_documents.history_document),
        ("/locks/statistics", _statistics, lock_documents.statistics_document),
    ):
        app.add_api_route(path, list_route(select, document), methods=["GET"])

    @app.get("/locks/{lock_id}")
    async def show_lock(lock_id: str, as_of: str | None = None) -> Response:
        tables, now_ms = tables_at(as_of)
        row = history_of(tables, lock_id)
        if row is None:
            raise NotFound("lock", lock_id)
        document = lock_documents.history_document(row._asdict(), now_ms)
        return Response(orjson.dumps(document), media_type="application/json")


def history_of(tables: Tables, lock_id: str) -> LockHistory | None:
    """The newest wish for a lock with this id."""
    return next((row for row in _newest(tables) if row.lock_id == lock_id), None)


_FILTERS: Final = frozenset({"resource_id", "agent_id", "lock_id", "status"})


def _held(tables: Tables, now_ms: int) -> Iterator[dict[str, Any]]:
    return (row._asdict() for row in tables.locks if row.deadline_ms > now_ms)


def _queue(tables: Tables, now_ms: int) -> Iterator[dict[str, Any]]:
    waiters = sorted(tables.lock_waiters, key=lambda row: (row.resource_id, row.asked_offset))
    places: dict[str, int] = {}
    for row in waiters:
        places[row.resource_id] = places.get(row.resource_id, 0) + 1
        if row.until_ms > now_ms:
            yield {**row._asdict(), "queue_position": places[row.resource_id]}


def _history(tables: Tables, now_ms: int) -> Iterator[dict[str, Any]]:
    for row in _newest(tables):
        is_over = row.status == HELD and (row.deadline_ms or 0) <= now_ms
        yield {**row._asdict(), "status": "expired" if is_over else row.status}


def _statistics(tables: Tables, now_ms: int) -> Iterator[dict[str, Any]]:
    return (row._asdict() for row in tables.lock_statistics)


def _newest(tables: Tables) -> list[LockHistory]:
    return sorted(
        tables.lock_history, key=lambda row: (row.asked_at_ms, row.resource_id, row.asked_offset), reverse=True
    )
