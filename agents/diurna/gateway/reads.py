"""What the writing routes must look up: which partition an id belongs to, as the projection knows it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from tenacity import AsyncRetrying, retry_if_result, stop_after_delay, wait_exponential

from diurna_schemas.errors import NotFound

Found = TypeVar("Found")
Document = dict[str, Any]

LOOK_SECONDS_MAX: Final = 2.0
"""What was written a moment ago is not in the tables yet; so long an unknown id is looked for."""


class KnownLock(NamedTuple):
    """Which resource a lock is on, and whose it is, or was."""

    resource_id: str
    agent_id: str


class Reads(Protocol):
    """The projection, as far as writing needs it."""

    async def agent_of_request(self, request_id: str) -> str | None:
        """The agent a request was submitted to."""
        ...

    async def workflow_of_approval(self, approval_id: str) -> str | None:
        """The workflow that waits for an approval."""
        ...

    async def checkpoint(self, workflow_id: str, checkpoint_id: str) -> tuple[Document, Document] | None:
        """A workflow, and a checkpoint of it with its state."""
        ...

    async def driven_type(self, workflow_id: str) -> str | None:
        """The type of a workflow that a graph drives, whose checkpoints are kept; none of any other."""
        ...

    async def ended_workflows(self, before_ms: int, limit: int) -> list[str]:
        """Workflows that were over by a time, those that ended first."""
        ...

    async def has_agent(self, agent_id: str) -> bool:
        """Whether an agent is registered."""
        ...

    async def dead_letter(self, letter_id: str) -> dict[str, Any] | None:
        """A record nobody could understand, as the API shows it."""
        ...

    async def lock(self, lock_id: str) -> KnownLock | None:
        """Which resource a lock is on, and whose it is."""
        ...


async def looked_up(kind: str, id: str, look: Callable[[str], Awaitable[Found | None]]) -> Found:  # noqa: A002
    """What belongs to an id. Raises `NotFound` where it is still unknown after a moment."""
    retrying = AsyncRetrying(
        retry=retry_if_result(lambda found: not found),
        stop=stop_after_delay(LOOK_SECONDS_MAX),
        wait=wait_exponential(multiplier=0.02, max=0.25),
        retry_error_callback=lambda _: None,
    )
    found: Found | None = await retrying(look, id)
    if not found:
        raise NotFound(kind, id)
    return found
