"""Writers of the same few workflows in a storm: each expects the version it saw last, and one of them is first."""

from __future__ import annotations

import asyncio
import itertools

from diurna.connection import Connection
from diurna_schemas.errors import DiurnaError, Refused, VersionConflict
from diurna_schemas.workflows import CreateWorkflow, UpdateWorkflowState, WorkflowStateUpdated
from diurna_streams.deciders.workflows import RULES
from support.lock_checkers import Found
from support.outside_judge import Update
from support.simulation import Climate, Simulation, lived

WORKFLOWS = ("workflow-a", "workflow-b")
ANSWER_S = 4.0


class VersionSimulation(Simulation):
    """One seed of workflows."""

    def __init__(self, seed: int, climate: Climate) -> None:
        super().__init__(seed, climate, RULES)
        self.updates: list[Update] = []
        self._names = itertools.count(1)

    def start_client(self) -> tuple[Connection, asyncio.Task[None]]:
        connection = self.connect()
        return connection, asyncio.create_task(self.write(f"writer-{next(self._names)}", connection))

    async def write(self, name: str, connection: Connection) -> None:
        """Changes one workflow after the other, for ever."""
        seen: dict[str, int] = {}
        for number in itertools.count():
            workflow_id = self.chance.choice(WORKFLOWS)
            command_id = f"{name}-{number}"
            expected = seen.get(workflow_id)
            command: CreateWorkflow | UpdateWorkflowState
            if expected is None:
                command = CreateWorkflow(command_id=command_id, workflow_id=workflow_id, workflow_type="t")
            else:
                command = UpdateWorkflowState(
                    command_id=command_id, workflow_id=workflow_id, updates="{}",
                    expected_version=self.chance.choice([expected, expected, expected, None]),
                )  # fmt: skip
            seen[workflow_id] = await self.tried(name, command, connection) or expected or 1
            await asyncio.sleep(self.chance.uniform(0, 0.5))

    async def tried(
        self, name: str, command: CreateWorkflow | UpdateWorkflowState, connection: Connection
    ) -> int | None:
        """The version there is now, where anybody was told."""
        called_s, is_update = self.now_s(), isinstance(command, UpdateWorkflowState)
        expected = command.expected_version if isinstance(command, UpdateWorkflowState) else None
        at = len(self.updates)  # told at once: whoever is killed meanwhile leaves something unknown behind
        whole = Update(
            name, command.workflow_id, "update" if is_update else "create", called_s, None, "unknown", expected
        )
        self.updates.append(whole)

        def ended(outcome: str, version: int) -> int:
            self.updates[at] = Update(
                name, command.workflow_id, whole.kind, called_s, self.now_s(), outcome, expected, version  # type: ignore[arg-type]
            )  # fmt: skip
            return version

        try:
            event = await connection.ask(command, timeout=ANSWER_S)
        except VersionConflict as conflict:
            return ended("no", conflict.current)
        except Refused:
            return None if is_update else ended("no", 0) or None
        except DiurnaError:
            return None
        return ended("ok", event.version if isinstance(event, WorkflowStateUpdated) else 1)

    async def judged(self) -> tuple[list[Update], dict[str, Found]]:
        await self.live()
        _, wrong = await self.audited()
        wrong |= {"deciders_go_on": fallen} if (fallen := await self.end()) else {}
        return self.updates, wrong


def simulate_versions(seed: int, climate: Climate | None = None) -> tuple[list[Update], dict[str, Found]]:
    """What writers were told in one seed, and what the auditor says of the log."""
    weathered = climate or Climate(has_clock_steps=seed % 2 == 0)
    found: tuple[list[Update], dict[str, Found]] = lived(seed, lambda: VersionSimulation(seed, weathered).judged())
    return found
