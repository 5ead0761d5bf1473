"""Forgets workflows that have been over for long enough: one command each, so that a replay forgets the same ones."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from diurna_schemas.errors import Conflict, InvalidInput, NotFound
from diurna_schemas.message import Command
from diurna_schemas.workflows import RemoveWorkflow

DAYS_MAX: Final = 36_500
_DAY_MS: Final = 86_400_000
_AT_ONCE: Final = 32


def age_ms(days: object) -> int:
    """Days as milliseconds. Raises `InvalidInput` where it is no age."""
    if isinstance(days, bool) or not isinstance(days, int | float) or not 0 <= days <= DAYS_MAX:
        raise InvalidInput("days", days, f"a number from 0 to {DAYS_MAX} is expected")
    return round(days * _DAY_MS)


async def remove(write: Callable[[Command], Awaitable[Any]], workflow_ids: Iterable[str], *, older_than_ms: int) -> int:
    """Has each workflow forgotten that the log agrees is old enough, and returns how many were."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def remove_one(workflow_id: str) -> bool:
        command = RemoveWorkflow(command_id=str(uuid.uuid4()), workflow_id=workflow_id, older_than_ms=older_than_ms)
        async with places:
            try:
                await write(command)
            except (Conflict, NotFound):
                return False  # the log knows better: it lives again, is younger by the log's time, or is gone already
            return True

    return sum(await asyncio.gather(*(remove_one(workflow_id) for workflow_id in workflow_ids)))
