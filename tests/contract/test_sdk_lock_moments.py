"""Who held and who waited at a past moment, in memory: the real decider, the real folds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from diurna import ResourceLockManager
from diurna.connection import Connection
from diurna.testing import Team, team
from support.lock_moments_contract import *  # noqa: F403 - the suite itself


@pytest.fixture
async def memory() -> AsyncIterator[Team]:
    async with team() as found:
        yield found


@pytest.fixture
def connection(memory: Team) -> Connection:
    return memory.connection


@pytest.fixture
async def locks(memory: Team) -> AsyncIterator[ResourceLockManager]:
    async with memory.locks() as manager:
        yield manager
