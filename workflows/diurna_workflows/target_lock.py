"""The lock a workflow holds on what it changes, so that two never deploy to one place, or heal one service, at once."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol
from urllib.parse import quote

from diurna_workflows.state import JsonObject

LEASE_SECONDS: Final = 60.0
"""Renewed while the work goes on: an orchestrator that dies keeps its target for so long at most."""
WAIT_SECONDS: Final = 1_800.0
"""Longer than a deployment may take, and a lease that nobody renews any more."""
_HOLDER: Final = "orchestrator"
_ID_CHARACTERS_MAX: Final = 200


class HeldLock(Protocol):
    """A lock that is held, as far as a graph needs it."""

    @property
    def resource_id(self) -> str: ...

    @property
    def token(self) -> int: ...


class Locks(Protocol):
    """The manager of locks, as far as a graph needs it."""

    def acquire(
        self,
        resource_id: str,
        agent_id: str,
        *,
        timeout: float,
        wait_timeout: float,
        reason: str | None,
        metadata: Mapping[str, Any] | None,
        auto_renew: bool,
        correlation_id: str | None,
    ) -> AbstractAsyncContextManager[HeldLock]: ...


def resource_of(target: str, kind: str = "deploy") -> str:
    """The resource that stands for a target: `deploy:` and its path, percent-encoded where an id may not hold it."""
    resource_id = f"{kind}:{quote(target, safe='/~!$&()*+,;=:@')}"
    if len(resource_id) <= _ID_CHARACTERS_MAX:
        return resource_id
    digest = hashlib.blake2b(target.encode(), digest_size=16).hexdigest()
    return f"{resource_id[: _ID_CHARACTERS_MAX - 33]}#{digest}"


@asynccontextmanager
async def held_target(
    locks: Locks | None, workflow_id: str, resource_id: str, *, reason: str
) -> AsyncGenerator[JsonObject | None]:
    """Holds the target for the block, which is given what its agent must show there: resource and token.

    Raises `ResourceLockError` where it is not to be had in time, `LockLost` out of the block where it was lost. A graph
    that runs by itself has no locks: then the block is given nothing.
    """
    if locks is None:
        yield None
        return
    async with locks.acquire(
        resource_id,
        _HOLDER,
        timeout=LEASE_SECONDS,
        wait_timeout=WAIT_SECONDS,
        reason=reason,
        metadata={"workflow_id": workflow_id},
        auto_renew=True,
        correlation_id=workflow_id,
    ) as lease:
        yield {"resource_id": lease.resource_id, "token": lease.token}
