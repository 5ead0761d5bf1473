"""Runs workflows by their type, writes down how they went, and stops them when somebody cancels them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Final, Protocol

from diurna_schemas.errors import Conflict, DiurnaError, InvalidInput, Refused
from diurna_schemas.ids import checked_id
from diurna_schemas.workflows import CancelWorkflow, WorkflowCancelled
from diurna_workflows.approvals import BusDesk, Desk, ReadDecision
from diurna_workflows.journal import LogJournal, named_id
from diurna_workflows.observed import running
from diurna_workflows.ports import Bus, Heard, WritesCommands
from diurna_workflows.pr_input import PrDeploymentInput
from diurna_workflows.state import JsonObject, initial_state, utc_now
from diurna_workflows.target_lock import Locks

RUNNING_MAX: Final = 200


class Graph(Protocol):
    """A compiled graph."""

    async def ainvoke(self, input: Any, config: Any = None) -> Any: ...  # noqa: A002 - LangGraph's own word


class Build(Protocol):
    """Makes the graph of one type for one run."""

    def __call__(self, bus: Bus, *, journal: LogJournal, desk: Desk, locks: Locks | None) -> Graph: ...


@dataclass(frozen=True, slots=True)
class Definition:
    """One type of workflow. `read` checks the input and raises `InvalidInput`."""

    workflow_type: str
    agents: tuple[str, ...]
    read: Callable[[object], JsonObject]
    build: Build


def _pr_input(given: object) -> JsonObject:
    return PrDeploymentInput.read(given).model_dump(mode="json", exclude_none=True)


def _pr_deployment(bus: Bus, *, journal: LogJournal, desk: Desk, locks: Locks | None) -> Graph:
    from diurna_workflows.pr_deployment import build_pr_deployment  # LangGraph takes a second to load

    return build_pr_deployment(bus, journal=journal, desk=desk, locks=locks)


DEFINITIONS: Final[dict[str, Definition]] = {
    "pr_deployment": Definition("pr_deployment", ("code-review", "cicd", "infrastructure"), _pr_input, _pr_deployment)
}
"""Every type of workflow there is."""


@dataclass(frozen=True, slots=True)
class Running:
    """A workflow that runs in this process."""

    workflow_id: str
    workflow_type: str
    started_at: str
    task: asyncio.Task[JsonObject]


def warm_up() -> None:
    """Loads what the first workflow would otherwise wait for; safe in a thread."""
    import_module("diurna_workflows.pr_deployment")


class WorkflowManager:
    """Starts workflows on the bus. Their facts go to the log through `connection`; `locks` hold what they change."""

    def __init__(
        self,
        bus: Bus,
        connection: WritesCommands,
        *,
        read_decision: ReadDecision | None = None,
        locks: Locks | None = None,
    ) -> None:
        self._bus = bus
        self._connection = connection
        self._locks = locks
        self._read_decision = read_decision
        self._running: dict[str, Running] = {}

    def types(self) -> list[str]:
        """The registered types."""
        return sorted(DEFINITIONS)

    def list(self) -> list[Running]:
        """The workflows that run in this process, oldest first."""
        return sorted(self._running.values(), key=lambda running: running.started_at)

    def start(self, workflow_type: str, workflow_id: str, given: Mapping[str, Any]) -> asyncio.Task[JsonObject]:
        """Runs a workflow in the background; the task's result is the workflow's final result.

        The same `workflow_id` twice is one run. Raises `InvalidInput` where the type or the input is wrong, `Refused`
        where too many run already.
        """
        checked_id("workflow_id", workflow_id)
        definition = DEFINITIONS.get(workflow_type)
        if definition is None:
            raise InvalidInput("workflow_type", workflow_type, f"known types are {', '.join(self.types())}")
        known = definition.read(given)
        if (found := self._running.get(workflow_id)) is not None:
            return found.task
        if len(self._running) >= RUNNING_MAX:
            raise Refused(f"{RUNNING_MAX} workflows are running here already", code="too_many_workflows")
        task = asyncio.create_task(self._run(definition, workflow_id, known), name=f"workflow {workflow_id}")
        self._running[workflow_id] = Running(workflow_id, workflow_type, utc_now(), task)
        task.add_done_callback(lambda _: self._running.pop(workflow_id, None))
        return task

    async def run(self, workflow_type: str, workflow_id: str, given: Mapping[str, Any]) -> JsonObject:
        """Runs a workflow to its end. Whoever cancels this call stops the run; another may take it up again."""
        task = self.start(workflow_type, workflow_id, given)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def cancel(self, workflow_id: str, *, cancelled_by: str = "unknown", reason: str = "") -> None:
        """Writes down that the workflow is no longer wanted; whoever runs it hears that and stops."""
        await self._connection.ask(
            CancelWorkflow(
                command_id=named_id(workflow_id, "cancel"),
                workflow_id=workflow_id,
                cancelled_by=cancelled_by,
                reason=reason,
            )
        )

    async def close(self) -> None:
        """Stops what runs here, without a word to the log: another process may take it up."""
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, definition: Definition, workflow_id: str, given: JsonObject) -> JsonObject:
        with running(definition.workflow_type) as run:
            final = await self._driven(definition, workflow_id, given)
            run.ended(final)
            return final

    async def _driven(self, definition: Definition, workflow_id: str, given: JsonObject) -> JsonObject:
        journal = LogJournal(self._connection, workflow_id)
        cancelled: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def hear(event: Heard) -> None:
            if event.data.get("workflow_id") == workflow_id and not cancelled.done():
                by, reason = event.data.get("cancelled_by", "unknown"), event.data.get("reason", "")
                cancelled.set_result(f"cancelled by {by}" + (f": {reason}" if reason else ""))

        self._bus.subscribe(WorkflowCancelled.type_name, hear)
        try:
            await self._bus.ready()
            await journal.create(definition.workflow_type, given, definition.agents)
            found = self._read_decision
            read = None if found is None else partial(found, workflow_id)
            desk = BusDesk(self._bus, read=read)
            graph = definition.build(self._bus, journal=journal, desk=desk, locks=self._locks)
            state = initial_state(definition.workflow_type, workflow_id, given)
            work = asyncio.ensure_future(graph.ainvoke(state, {"configurable": {"thread_id": workflow_id}}))
            return await self._first_of(work, cancelled, journal, definition, workflow_id)
        finally:
            self._bus.unsubscribe(WorkflowCancelled.type_name, hear)
            cancelled.cancel()

    async def _first_of(
        self,
        work: asyncio.Future[Any],
        cancelled: asyncio.Future[str],
        journal: LogJournal,
        definition: Definition,
        workflow_id: str,
    ) -> JsonObject:
        """The graph's final result, or the word that somebody cancelled it, whichever is first."""

        def ended(status: str, reason: str) -> JsonObject:
            return {
                "workflow_id": workflow_id,
                "workflow_type": definition.workflow_type,
                "deployment_status": status,
                "success": False,
                "reason": reason,
            }

        try:
            await asyncio.wait({work, cancelled}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                return ended("cancelled", cancelled.result())
            final: JsonObject = work.result()["final_result"]
        except Conflict as error:
            # The log no longer takes facts of this workflow: it was cancelled, or ended by another run.
            return ended("cancelled" if cancelled.done() else "failed", str(error))
        except DiurnaError as error:
            await journal.fail(str(error), None)
            return ended("failed", str(error))
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
        return final
