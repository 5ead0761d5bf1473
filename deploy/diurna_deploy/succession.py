"""Lets an agent that is started anew say that the one before it died, so that its requests are given on at once.

Otherwise that is known when an instance was silent for a minute. Here it is known at once: an instance's folder is
locked for as long as its process lives, and says whose it is.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from diurna_deploy.stack.files import FileLock
from diurna_schemas.agents import DeregisterAgent
from diurna_schemas.errors import DiurnaError, NotFound

if TYPE_CHECKING:
    from diurna.connection import Connection

logger = structlog.get_logger(__name__)

FILE: Final = "instance"


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
