"""Commands about locks as tests write them: few words, sensible defaults."""

from __future__ import annotations

from typing import Any

from diurna_schemas.locks import AcquireLock, ForceReleaseLock, ReleaseLock, RenewLock, TickLocks
from support.given import new_command_id

RESOURCE = "deploy:production"


def acquire(
    agent_id: str = "one", resource_id: str = RESOURCE, *, lock_id: str | None = None, wait_ms: int = 0, **fields: Any
) -> AcquireLock:
    """The lock id is the agent's name unless told otherwise."""
    whole: dict[str, Any] = {"command_id": new_command_id(), "lease_ms": 10_000, **fields}
    return AcquireLock(
        **whole, resource_id=resource_id, lock_id=lock_id or f"lock-{agent_id}", agent_id=agent_id, wait_ms=wait_ms
    )


def renew(
    agent_id: str = "one", resource_id: str = RESOURCE, *, lock_id: str | None = None, lease_ms: int | None = None
) -> RenewLock:
    return RenewLock(
        command_id=new_command_id(),
        resource_id=resource_id,
        lock_id=lock_id or f"lock-{agent_id}",
        agent_id=agent_id,
        lease_ms=lease_ms,
    )


def release(agent_id: str = "one", resource_id: str = RESOURCE, *, lock_id: str | None = None) -> ReleaseLock:
    return ReleaseLock(command_id=new_command_id(), resource_id=resource_id, lock_id=lock_id, agent_id=agent_id)


def force_release(resource_id: str = RESOURCE, *, grace_ms: int = 0) -> ForceReleaseLock:
    return ForceReleaseLock(
        command_id=new_command_id(), resource_id=resource_id, released_by="admin", reason="stuck", grace_ms=grace_ms
    )


def tick(partition: int = 0) -> TickLocks:
    return TickLocks(command_id=new_command_id(), partition=partition)
