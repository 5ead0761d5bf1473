"""What the manager of workflows promises, in memory: the real decider, the real folds, the real routes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from diurna import InvalidInput, WorkflowStateManager
from diurna.testing import Team, team
from support.workflow_contract import *  # noqa: F403 - the suite itself
from support.workflow_contract import Managers, created


@pytest.fixture(scope="module")
async def memory() -> AsyncIterator[Team]:
    async with team() as found:
        yield found


@pytest.fixture
def managers(memory: Team) -> Managers:
    return lambda: WorkflowStateManager(connection=memory.connect(), api=memory.api())


async def test_an_address_that_is_neither_api_nor_database_is_refused() -> None:
    with pytest.raises(InvalidInput, match="address"):
        WorkflowStateManager("localhost:5432")


async def test_what_is_too_young_by_the_log_s_time_stays() -> None:
    async with team() as own, own.workflow_state() as state:
        workflow_id = await created(state)
        await state.complete_workflow(workflow_id)
        assert await state.cleanup_old_workflows(days=1) == 0
        own.clock.advance(86_400 + 60)
        assert await state.cleanup_old_workflows(days=1) == 1
        assert await state.list_workflows() == []
