"""What every client has: a connection of its own or the process's shared one, opened when it is first needed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Self

from diurna.connection import Connection
from diurna.settings import ClientSettings


@dataclass(slots=True)
class _Shared:
    connection: Connection
    users: int


_shared: Final[dict[tuple[int, ClientSettings], _Shared]] = {}
_locks: Final[dict[int, asyncio.Lock]] = {}


async def borrow(settings: ClientSettings) -> Connection:
    """The connection this event loop shares; give it back with `give_back`."""
    loop_id = id(asyncio.get_running_loop())
    async with _locks.setdefault(loop_id, asyncio.Lock()):
        shared = _shared.get((loop_id, settings))
        if shared is None:
            shared = _shared[loop_id, settings] = _Shared(await Connection.open(settings), 0)
        shared.users += 1
        return shared.connection


async def give_back(connection: Connection) -> None:
    """Closes a shared connection when its last user has gone."""
    for key, shared in list(_shared.items()):
        if shared.connection is connection:
            shared.users -= 1
            if shared.users <= 0:
                del _shared[key]
                await connection.close()
            return


class Client:
    """Base of the clients. `connect` may be left out: the first call does it."""

    def __init__(self, connection: Connection | None = None, *, settings: ClientSettings | None = None) -> None:
        self._given = connection
        self._settings = settings
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()

    async def connect(self) -> Self:
        """Connects. Raises `Unavailable` where the log or the registry does not answer, or nobody says where it is."""
        await self._connected()
        return self

    async def close(self) -> None:
        """Gives up the connection. The client may connect again."""
        connection, self._connection = self._connection, None
        if connection is not None and connection is not self._given:
            await give_back(connection)

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def _connected(self) -> Connection:
        if self._connection is None:
            async with self._connecting:
                if self._connection is None:
                    self._connection = self._given or await borrow(self._settings or ClientSettings.load())
        return self._connection
