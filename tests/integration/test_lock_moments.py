"""Who held and who waited at a past moment, on the whole stack: over HTTP, and straight from the tables."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from diurna import ResourceLockManager
from diurna.connection import Connection
from diurna.settings import ClientSettings
from support.lock_moments_contract import *  # noqa: F403 - the suite itself

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture
async def connection(diurna: Any) -> AsyncIterator[Connection]:
    settings = ClientSettings.load({"DIURNA_STATE_DIR": str(diurna.state_dir)})
    async with await Connection.open(settings) as opened:
        yield opened


@pytest.fixture(params=["api", "tables"])
async def locks(
    request: pytest.FixtureRequest, diurna: Any, connection: Connection
) -> AsyncIterator[ResourceLockManager]:
    """Reads from the API, or from the database."""
    address = diurna.json("status")["api_url" if request.param == "api" else "database_url"]
    async with ResourceLockManager(address, connection=connection) as manager:
        yield manager
