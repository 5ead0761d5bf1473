"""Guards for what locks protect: each remembers the largest fencing token it has seen and refuses smaller ones.

A lock alone is advisory: a holder that was paused past its lease does not know it yet, and goes on. A guard at the
resource does know, as soon as the next holder has been there. It does not help before that, nor against whoever makes
tokens up, nor for anything that is reached without asking it.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, Protocol, cast

from diurna_schemas.errors import InvalidInput, StaleToken, Unavailable
from diurna_schemas.ids import checked_id

TOKEN_MAX: Final = 2**53 - 1
_TABLE_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?")


class FenceGuard(Protocol):
    """Anything that checks tokens by itself."""

    async def check(self, resource_id: str, token: int) -> None:
        """Remembers the token. Raises `StaleToken` where a larger one was seen, `InvalidInput` where it is none."""
        ...


class MemoryFenceGuard:
    """A guard of one process: it forgets with it. For a resource that lives in the process as well."""

    def __init__(self) -> None:
        self._highest: dict[str, int] = {}

    async def check(self, resource_id: str, token: int) -> None:
        """Raises `StaleToken` where a larger token was seen."""
        self.check_now(resource_id, token)

    def check_now(self, resource_id: str, token: int) -> None:
        """As `check`, for whoever is not async."""
        _checked(resource_id, token)
        highest = self._highest.get(resource_id, 0)
        if token < highest:
            raise StaleToken(resource_id, token, highest)
        self._highest[resource_id] = token


class FileFenceGuard:
    """A guard in a file: for directories and programs of one machine, over restarts and many processes.

    `path` holds the tokens as JSON; beside it lies a lock file, for `flock`. The file system must be a local one.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock_path = self.path.with_name(f"{self.path.name}.lock")

    async def check(self, resource_id: str, token: int) -> None:
        """Raises `StaleToken` where a larger token was seen, `Unavailable` where the file cannot be used."""
        await asyncio.to_thread(self.check_now, resource_id, token)

    def check_now(self, resource_id: str, token: int) -> None:
        """As `check`, for whoever is not async."""
        with self.passing(resource_id, token):
            return

    @contextmanager
    def passing(self, resource_id: str, token: int) -> Generator[None]:
        """Checks the token, and lets nobody else be checked while the block runs.

        What the block does is then done before any later holder does anything here. It should be short: a rename, the
        switch of a link.
        """
        _checked(resource_id, token)
        with self._locked():
            tokens = self._read()
            highest = tokens.get(resource_id, 0)
            if token < highest:
                raise StaleToken(resource_id, token, highest)
            if token > highest:
                self._write({**tokens, resource_id: token})
            yield

    def highest(self, resource_id: str) -> int | None:
        """The largest token seen of a resource; None where none was."""
        return self._read().get(resource_id)

    @contextmanager
    def _locked(self) -> Generator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise Unavailable(f"the fence {self.path} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _read(self) -> dict[str, int]:
        try:
            found: object = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            # Without its memory a guard knows nothing, so it lets nobody through.
            raise Unavailable(f"the fence {self.path} cannot be read: {error}") from error
        if not isinstance(found, dict) or not all(isinstance(token, int) for token in found.values()):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            raise Unavailable(f"the fence {self.path} holds no tokens: a JSON object of integers is expected")
        return cast("dict[str, int]", found)

    def _write(self, tokens: dict[str, int]) -> None:
        """Whole or not at all, and on the disk: a guard that forgets after a crash guards nothing."""
        partial = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}")
        try:
            with partial.open("w", encoding="utf-8") as file:
                json.dump(tokens, file, indent=1, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
            directory = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise Unavailable(f"the fence {self.path} cannot be written: {error.strerror}") from error


class Fetches(Protocol):
    """A connection to Postgres as asyncpg has them, as far as the table guard needs it."""

    async def execute(self, query: str, *arguments: Any) -> Any: ...

    async def fetchval(self, query: str, *arguments: Any) -> Any: ...


class TableFenceGuard:
    """A guard in a table of your own Postgres, asked within your own transaction.

    The check locks the resource's row until your transaction ends: a later holder waits for it, an earlier one that
    comes after it is refused. So what the transaction writes is written in the order of the tokens, or not at all.
    """

    def __init__(self, table: str = "fence_tokens") -> None:
        if not _TABLE_NAME.fullmatch(table):
            raise InvalidInput("table", table, "lower-case letters, digits and '_' are allowed, and one '.'")
        self.table = table

    @property
    def ddl(self) -> str:
        """The statement that makes the table where it is missing."""
        return (
            f"create table if not exists {self.table} "
            '(resource_id text collate "C" primary key, token bigint not null check (token >= 0))'
        )

    def statement(self, placeholders: Literal["$", "%s"] = "$") -> str:
        """The check, for any driver: resource and token in, the token out; no row where it is stale."""
        resource, token = ("$1", "$2") if placeholders == "$" else ("%s", "%s")
        return (
            f"insert into {self.table} as fence (resource_id, token) values ({resource}, {token}) "  # noqa: S608
            "on conflict (resource_id) do update set token = excluded.token "
            "where fence.token <= excluded.token returning token"
        )

    async def create(self, connection: Fetches) -> None:
        """Makes the table where it is missing."""
        await connection.execute(self.ddl)

    async def check(self, connection: Fetches, resource_id: str, token: int) -> None:
        """Checks a token within the transaction the connection is in. Raises `StaleToken` where a larger was seen.

        Roll back then: nothing that was written in the transaction may stay.
        """
        _checked(resource_id, token)
        if await connection.fetchval(self.statement(), resource_id, token) is None:
            raise StaleToken(resource_id, token)


def _checked(resource_id: str, token: int) -> None:
    checked_id("resource_id", resource_id)
    if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token <= TOKEN_MAX:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput("token", token, f"a whole number from 0 to {TOKEN_MAX} is expected")
