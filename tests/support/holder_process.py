"""Clients of locks as a process: `python holder_process.py BOOTSTRAP DATABASE_URL NAME SEED FILE`. Killed, not stopped.

Everything they do is a line in FILE before and after it is done. What they guard is a row in Postgres that knows the
largest token it has seen.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import asyncpg

from diurna.connection import Connection
from diurna_schemas.errors import Unavailable
from diurna_streams.log.kafka import KafkaLog
from support.deciding import CODEC
from support.lock_client import Habits, LockClient
from support.lock_history import Access, to_line

TABLES = """
CREATE TABLE guarded (resource_id text PRIMARY KEY, token bigint NOT NULL);
CREATE TABLE accesses (
    number bigserial PRIMARY KEY, resource_id text NOT NULL, lock_id text NOT NULL, token bigint NOT NULL,
    is_accepted boolean NOT NULL
);
"""
TOUCH = """
WITH touched AS (
    INSERT INTO guarded VALUES ($1, $3)
    ON CONFLICT (resource_id) DO UPDATE SET token = excluded.token WHERE guarded.token <= excluded.token
    RETURNING 1
)
INSERT INTO accesses (resource_id, lock_id, token, is_accepted)
SELECT $1, $2, $3, EXISTS (SELECT FROM touched) RETURNING is_accepted
"""
"""The row is locked whether the token counts or not, so accesses are numbered in the order in which they happened."""
RESOURCES = ("deploy:production", "deploy:staging", "file:/etc/hosts")
CLIENTS = 2


class TableGuard:
    """One connection to the row; renewed after every error, for nobody knows what became of the last access."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def access(self, resource_id: str, lock_id: str, token: int) -> bool:
        try:
            if self._connection is None:
                self._connection = await asyncpg.connect(self._database_url, timeout=5)
            return bool(await self._connection.fetchval(TOUCH, resource_id, lock_id, token, timeout=5))
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.terminate()
            raise Unavailable(f"the guard does not answer: {error}") from error


async def accesses_of(database_url: str) -> list[Access]:
    """What the guard saw, in its order."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("SELECT resource_id, lock_id, token, is_accepted FROM accesses ORDER BY number")
        return [Access(*row) for row in rows]
    finally:
        await connection.close()


async def main(bootstrap_servers: str, database_url: str, name: str, seed: str, file: str) -> None:
    chance = random.Random(int(seed))
    with Path(file).open("a", buffering=1, encoding="utf-8") as journal:  # noqa: ASYNC230 - a line at a time
        async with Connection(KafkaLog(bootstrap_servers, client_id=name), CODEC, owns_log=True) as connection:
            clients = [
                LockClient(
                    f"{name}-{number}",
                    connection,
                    TableGuard(database_url),
                    Habits(RESOURCES, leases_s=(1.0, 2.0, 3.0), waits_s=(0.0, 2.0, 5.0), patience_s=20),
                    random.Random(chance.random()),
                    time.monotonic,
                    lambda operation: journal.write(to_line(operation)),
                )
                for number in range(CLIENTS)
            ]
            print("ready", flush=True)
            await asyncio.gather(*(client.live() for client in clients))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
