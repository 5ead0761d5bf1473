"""Connections to Postgres, and the door where its errors become ours."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Self

import asyncpg

from diurna_projections.errors import Overtaken
from diurna_schemas.errors import InvalidInput, Refused, Unavailable

if TYPE_CHECKING:  # asyncpg's classes are generic in its stubs alone
    Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    BaseConnection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.pool.PoolConnectionProxy
    BaseConnection = asyncpg.Connection

SCHEMA: Final = "diurna"
_SCHEMA_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
CONNECT_SECONDS_MAX: Final = 10.0
STATEMENT_SECONDS_MAX: Final = 60.0

_PERMANENT: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.exceptions.UntranslatableCharacterError,
)
"""The same rows would be refused again."""
_PASSING: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""Whether anything happened is unknown. A connection cut at the wrong moment confuses asyncpg: its internal error."""


class PlainConnection(BaseConnection):
    """A connection that is not reset when it goes back to the pool.

    Our statements leave nothing behind: no temporary tables, no session settings, no listeners, no advisory locks that
    outlive a transaction. Without the reset query a read takes two thirds of the time.
    """

    def get_reset_query(self) -> str:
        return ""


class Database:
    """A pool of connections whose statements see one Postgres schema."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], schema: str, url: str) -> None:
        self._pool = pool
        self.schema = schema
        self.url = url

    @classmethod
    async def connect(
        cls, url: str, *, schema: str = SCHEMA, connections_max: int = 10, name: str = "diurna", is_durable: bool = True
    ) -> Self:
        """Connects to `url`. Raises `Unavailable` where nobody answers there.

        Without `is_durable` a commit does not wait for the disk: for a writer whose tables can be made anew.
        """
        if not _SCHEMA_NAME.fullmatch(schema):
            raise InvalidInput("schema", schema, "lower-case letters, digits and '_' are allowed")
        async with translated("connect"):
            pool = await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=connections_max,
                timeout=CONNECT_SECONDS_MAX,
                command_timeout=STATEMENT_SECONDS_MAX,
                connection_class=PlainConnection,
                max_inactive_connection_lifetime=0,
                server_settings={
                    "search_path": schema,
                    "application_name": name,
                    "jit": "off",
                    "synchronous_commit": "on" if is_durable else "off",
                },
            )
        return cls(pool, schema, url)

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """A connection, given back afterwards."""
        async with translated("use a connection"), self._pool.acquire() as connection:
            yield connection

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """All rows of a statement."""
        async with self.connection() as connection:
            return await connection.fetch(sql, *arguments)

    async def row(self, sql: str, *arguments: object) -> asyncpg.Record | None:
        """The first row of a statement. This is the hot path of reads: one `try`, no context manager."""
        try:
            connection = await self._pool.acquire()
            try:
                return await connection.fetchrow(sql, *arguments)
            finally:
                await self._pool.release(connection)
        except Exception as error:
            raise _ours(error, "read") from error

    async def close(self) -> None:
        """Closes all connections; those in use are cut after a while."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()


@asynccontextmanager
async def translated(doing: str) -> AsyncGenerator[None]:
    """Errors of Postgres and its driver as ours: `Refused` where trying again changes nothing, else `Unavailable`."""
    try:
        yield
    except Exception as error:
        ours = _ours(error, doing)
        if ours is error:
            raise
        raise ours from error


def _ours(error: Exception, doing: str) -> Exception:
    if isinstance(error, _PERMANENT):
        return Refused(f"Postgres refused to {doing}: {type(error).__name__}: {error}", code="refused_by_store")
    if isinstance(error, asyncpg.SerializationError | asyncpg.DeadlockDetectedError):
        return Overtaken(f"Postgres could not {doing}: {error}")
    if isinstance(error, _PASSING):
        return Unavailable(f"Postgres could not {doing}: {type(error).__name__}: {error}")
    return error


def columns_of(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows as one tuple a column."""
    return list(zip(*rows, strict=True))
