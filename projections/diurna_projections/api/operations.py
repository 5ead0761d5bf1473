"""Whether the reads work, and how far the tables are behind the log."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse, Response

from diurna_projections.queries import Ends, Queries
from diurna_projections.records import WITH_GAPS
from diurna_projections.store import PartitionPosition
from diurna_schemas.errors import DiurnaError, Unavailable


def add_operations(router: APIRouter, queries: Queries, ends: Ends | None) -> None:
    """Adds health, probes, metrics and the projections' own state."""

    @router.get("/health", tags=["operations"])
    async def show_health() -> Response:
        """Whether the tables answer and how far they are: 503 where they do not answer."""
        try:
            positions = await queries.positions()
            lag = await _lag(positions, ends)
        except DiurnaError as error:
            return _json({"status": "unhealthy", "database": "unavailable", "detail": str(error)}, 503)
        return _json({"status": "healthy", "database": "available", "lag_records": lag})

    @router.get("/livez", tags=["operations"])
    async def livez() -> Response:
        """The process answers."""
        return _json({"status": "alive"})

    @router.get("/readyz", tags=["operations"])
    async def readyz() -> Response:
        """The tables can be read. Answers 503 where they cannot."""
        await queries.positions()
        return _json({"status": "ready"})

    @router.get("/metrics", tags=["operations"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """What this process counts, for Prometheus."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @router.get("/projections", tags=["operations"])
    async def show_projections(checksums: bool = True) -> Response:
        """The positions the tables are true at, how far the log is ahead, and the tables' checksums.

        Checksums read every row: leave them out with `checksums=false` where the tables are large.
        """
        positions = await queries.positions()
        lag = await _lag(positions, ends)
        document: dict[str, Any] = {
            "name": queries.database.schema,
            "positions": _by_place(positions),
            "lag_records": lag,
            "duplicates": sum(one.duplicates for one in positions),
            "aliens": sum(one.aliens for one in positions),
            "dead_letters": sum(one.dead_letters for one in positions),
        }
        if checksums:
            found = await queries.checksums()
            document["checksums"] = found.tables
            document["checksums_at"] = [str(position) for position in found.positions]
        return _json([document])

    @router.get("/projections/heads", tags=["operations"])
    async def show_heads() -> Response:
        """The last accepted event of each chained partition, and the offset to read next."""
        heads = await queries.chain_heads()
        return _json(
            [
                {
                    "topic": topic,
                    "partition": partition,
                    "next": head.next_offset,
                    "hash": head.hash,
                    "incarnation": head.incarnation,
                    "command_offset": head.command_offset,
                    "index": head.index,
                }
                for (topic, partition), head in sorted(heads.items())
            ]
        )


async def _lag(positions: list[PartitionPosition], ends: Ends | None) -> int | None:
    """Records that are not in the tables yet; none where nobody asks the log, or the log does not answer.

    Topics that are compacted or shortened are left out: their offsets do not count records.
    """
    if ends is None:
        return None
    try:
        found = await ends()
    except Unavailable:
        return None
    following = {(one.topic, one.partition): one.head.next_offset for one in positions}
    return sum(max(end - following.get(place, 0), 0) for place, end in found.items() if place[0] not in WITH_GAPS)


def _by_place(positions: list[PartitionPosition]) -> dict[str, int]:
    return {f"{one.topic}:{one.partition}": one.head.next_offset for one in positions}


def _json(document: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")
