"""The check of fencing tokens at a target: whoever was overtaken there changes nothing any more."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import Field

from diurna import FileFenceGuard
from diurna_agents.payload import Payload
from diurna_schemas.ids import Id

FILE: Final = ".fence.json"


class LockClaim(Payload):
    """The lock under which the target is changed. A token smaller than one that was shown there is refused."""

    resource_id: Id
    token: int = Field(ge=0, lt=2**53)


class TargetFence:
    """The tokens shown at one target, and the one this change is made under; without a lock nothing is checked.

    Shown on arrival, before waiting for the directory: from then on an earlier holder that is still at work there can
    no longer switch.
    """

    def __init__(self, deploy_to: Path, lock: LockClaim | None) -> None:
        self._guard = FileFenceGuard(deploy_to / FILE)
        self._lock = lock

    async def show(self) -> None:
        """Raises `StaleToken` where a larger token was shown here before."""
        if self._lock is not None:
            await self._guard.check(self._lock.resource_id, self._lock.token)

    @contextmanager
    def passing(self) -> Generator[None]:
        """For the one moment in which something is switched. Raises `StaleToken` before it."""
        if self._lock is None:
            yield
            return
        with self._guard.passing(self._lock.resource_id, self._lock.token):
            yield


async def shown(deploy_to: Path, lock: LockClaim | None) -> TargetFence:
    """The fence of a target, once this change's token was shown there. Raises `StaleToken`."""
    fence = TargetFence(deploy_to, lock)
    await fence.show()
    return fence
