"""Lets an agent that is started anew say that the one before it died, so that its requests are given on at once.

Otherwise that is known when an instance was silent for a minute. Here it is known at once: an instance's folder is
locked for as long as its process lives, and says whose it is.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from diurna_deploy.stack.files import FileLock
from diurna_schemas.agents import DeregisterAgent
from diurna_schemas.errors import DiurnaError, NotFound
from diurna_schemas.locks import ReleaseLock

if TYPE_CHECKING:
    from diurna import Lease, ResourceLockManager
    from diurna.connection import Connection

logger = structlog.get_logger(__name__)

FILE: Final = "instance"
LEASE_SECONDS_MAX: Final = 60.0
"""The longest lease an instance takes: that of a deployment's target."""


@contextmanager
def occupied(folder: Path, instance_id: str) -> Generator[str | None]:
    """Says that the folder is this instance's, while the block lasts; yields the instance that died in it, if one did.

    A second instance that shares the folder with a living one succeeds nobody, and nobody succeeds it.
    """
    file = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock.try_take(file)
    except (DiurnaError, OSError) as error:
        logger.warning("whether another instance died here is unknown", folder=str(folder), error=str(error))
        lock = None
    if lock is None:
        yield None
        return
    with lock:
        before = file.read_text(encoding="utf-8", errors="replace").strip()
        file.write_text(instance_id, encoding="utf-8")
        yield before or None
        file.write_text("", encoding="utf-8")  # it left by itself, and said so


class SuccessorLocks:
    """The locks of an instance, held in its own name; what the dead one before it holds is given back first.

    A lease outlives its holder by a minute at most: after that there is nothing left to be given back.
    """

    def __init__(self, connection: Connection, locks: ResourceLockManager, instance_id: str, died: str | None) -> None:
        self._connection = connection
        self._locks = locks
        self._holder = _holder(instance_id)
        self._died = None if died is None else _holder(died)
        self._until = time.monotonic() + LEASE_SECONDS_MAX

    @asynccontextmanager
    async def acquire(self, resource_id: str, agent_id: str, **options: Any) -> AsyncGenerator[Lease]:
        """As `ResourceLockManager.acquire`; `agent_id` is known already."""
        if self._died is not None and time.monotonic() < self._until:
            freeing = ReleaseLock(command_id=uuid.uuid4().hex, resource_id=resource_id, agent_id=self._died)
            await self._connection.send(freeing)
        async with self._locks.acquire(resource_id, self._holder, **options) as lease:
            yield lease


def _holder(instance_id: str) -> str:
    """An instance as the holder of a lock: a name."""
    return instance_id.replace(":", ".")


async def declare_dead(connection: Connection, agent_id: str, instance_id: str) -> None:
    """Says that an instance is gone. What it was given is given to others, as after a minute of silence."""
    try:
        await connection.ask(
            DeregisterAgent(
                command_id=f"{instance_id}/died",
                agent_id=agent_id,
                instance_id=instance_id,
                reason="its process died, another was started in its place",
            )
        )
    except NotFound:
        return  # that was known already
    except DiurnaError as error:
        logger.warning("an instance that died stays known for a minute", instance_id=instance_id, error=str(error))
