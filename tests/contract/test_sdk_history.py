"""A command that is said again is answered with what it became first, however long ago that was."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from diurna import history
from diurna_schemas.workflows import CreateWorkflow, WorkflowCreated
from support.teams import AnyTeam, kafka_team, memory_team


@pytest.fixture(scope="module", params=["memory", pytest.param("kafka", marks=pytest.mark.stack)])
def servers(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("kafka_bootstrap") if request.param == "kafka" else None


@pytest.fixture(scope="module")
async def team(servers: str | None) -> AsyncIterator[AnyTeam]:
    async with memory_team() if servers is None else kafka_team(servers) as found:
        yield found


@pytest.mark.parametrize("recent", [history.RECENT_RECORDS, 3])
async def test_a_repeated_command_is_given_its_first_answer(
    team: AnyTeam, recent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "RECENT_RECORDS", recent)
    commands = [
        CreateWorkflow(
            command_id=str(uuid.uuid4()),
            workflow_id=f"w-{uuid.uuid4()}",
            workflow_type="any",
            state="{}",
            participating_agents=[],
        )
        for _ in range(60)
    ]
    first = await asyncio.gather(*(team.connection.ask(command) for command in commands))
    for number in (0, 30, 59):
        again = await team.connection.ask(commands[number])
        assert isinstance(again, WorkflowCreated)
        assert again == first[number]
