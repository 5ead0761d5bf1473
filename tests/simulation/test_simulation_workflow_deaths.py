"""An orchestrator that dies at any append whatever is succeeded by another, and nothing is asked or done twice."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

import diurna.testing
from diurna.bus import EventBus
from diurna.connection import Connection
from diurna.locks import ResourceLockManager
from diurna_deploy.succession import SuccessorLocks
from diurna_workflows import KafkaCheckpointSaver, WorkflowManager, asking
from diurna_workflows.checkpointer import LockedThreads
from support.mortal import Mortality, mortal
from support.scripted_team import scripted_team
from support.workflow_fakes import INPUT

WORKFLOW = "w-1"
SECONDS = 30
AT_ONCE = 6
"""Lives that do not know of each other: much of each is waiting."""


class Orchestrator:
    """One process that drives workflows, on a connection of its own; it may know of one that died before it."""

    def __init__(self, team: diurna.testing.Team, mortality: Mortality, name: str, *, died: str | None = None) -> None:
        self._team = team
        self._mortality = mortality
        self._name = name
        self._died = died

    async def run(self) -> dict[str, Any]:
        log = mortal(self._team.log, self._mortality)
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(
                Connection(log, self._team.codec, directory=self._team.reads, clock_ms=self._team.clock)
            )
            bus = await stack.enter_async_context(EventBus(connection))
            manager_of_locks = await stack.enter_async_context(ResourceLockManager(connection=connection))
            locks = SuccessorLocks(connection, manager_of_locks, self._name, self._died)
            saver = await stack.enter_async_context(KafkaCheckpointSaver(connection, guard=LockedThreads(locks)))
            manager = WorkflowManager(bus, connection, locks=locks, checkpointer=saver)
            return await manager.run("pr_deployment", WORKFLOW, INPUT)


@dataclass(frozen=True)
class Lived:
    """What a workflow came to, what was really done for it, and what the log tells of it."""

    final: dict[str, Any]
    done: Counter[str]
    types: Counter[str]
    steps: Counter[str]


async def live_through(mortality: Mortality) -> Lived:
    """A workflow whose first orchestrator dies, and which a second one goes on with."""
    async with diurna.testing.team() as team, scripted_team(team.agent) as workers:
        first = asyncio.create_task(Orchestrator(team, mortality, "first").run())
        dying = asyncio.create_task(mortality.died.wait())
        await asyncio.wait({first, dying}, return_when=asyncio.FIRST_COMPLETED, timeout=SECONDS)
        if mortality.died.is_set():
            async with asyncio.timeout(SECONDS):
                final = await Orchestrator(team, Mortality(), "second", died="first").run()
            mortality.bury()
            first.cancel()
        else:
            final = await first
        dying.cancel()
        await asyncio.wait({first, dying})
        events = [*team.events(), *team.events("workflows.events")]
        return Lived(
            final,
            workers.done,
            Counter(event["type"] for event in events if not event["type"].endswith(".command_repeated")),
            Counter(event["step"] for event in events if event["type"] == "workflow.step_changed"),
        )


async def test_whichever_append_the_orchestrator_dies_at_its_successor_ends_with_the_same() -> None:
    immortal = Mortality()
    undisturbed = await live_through(immortal)
    assert undisturbed.final["deployment_status"] == "deployed"
    assert undisturbed.done == {"review_code": 1, "run_pipeline": 1, "deploy_service": 1}
    assert immortal.appends > 20
    deaths = [(number, is_written) for number in range(1, immortal.appends + 1) for is_written in (False, True)]
    for first in range(0, len(deaths), AT_ONCE):
        some = deaths[first : first + AT_ONCE]
        lives = await asyncio.gather(*(live_through(Mortality(at_append=n, is_written=w)) for n, w in some))
        for (number, is_written), lived in zip(some, lives, strict=True):
            assert lived == undisturbed, f"append {number}, which was {'' if is_written else 'not '}written"


async def test_names_made_by_chance_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "named_id", lambda *_: str(uuid.uuid4()))
    lives = [await live_through(Mortality(at_append=number, is_written=True)) for number in range(5, 9)]
    assert any(lived.done["review_code"] == 2 for lived in lives)
