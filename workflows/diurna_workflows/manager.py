"""Runs workflows by their type, writes down how they went, and stops them when somebody cancels them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

from diurna_schemas.errors import Conflict, DiurnaError, InvalidInput, NotFound, Refused
from diurna_schemas.ids import checked_id
from diurna_schemas.workflows import CancelWorkflow, WorkflowCancelled
from diurna_workflows.approvals import BusDesk, Desk, Matter, ReadDecision, decided_by_people
from diurna_workflows.definitions import DEFINITIONS, Definition, load_all
from diurna_workflows.driving import PATIENCE_SECONDS, Graph, Step, config_of, drive, found_state, state_of
from diurna_workflows.forking import fork_thread
from diurna_workflows.journal import LogJournal, named_id
from diurna_workflows.observed import counted_run
from diurna_workflows.ports import Bus, Heard, WritesCommands
from diurna_workflows.state import JsonObject, initial_state, utc_now
from diurna_workflows.target_lock import Locks
from diurna_workflows.work import no_scope, task_scope

if TYPE_CHECKING:
    from diurna_workflows.checkpointer import KafkaCheckpointSaver

RUNNING_MAX: Final = 200
FORKED_FROM: Final = "forked_from"
"""Where the state of a fork says which workflow it is a copy of: under `partial_results`."""


class Stopped(NamedTuple):
    """Why a run ends before its graph does: the status it ends with, and the reason in words."""

    status: Literal["cancelled", "failed"]
    reason: str


@dataclass(frozen=True, slots=True)
class Running:
    """A workflow that runs in this process."""

    workflow_id: str
    workflow_type: str
    started_at: str
    task: asyncio.Task[JsonObject]
    stopped: asyncio.Future[Stopped]
    watchers: list[asyncio.Queue[Step | None]] = field(default_factory=list[asyncio.Queue[Step | None]])


def warm_up() -> None:
    """Loads what the first workflow would otherwise wait for; safe in a thread."""
    load_all()


class WorkflowManager:
    """Runs workflows on the bus. Their facts go to the log through `connection`, their checkpoints to `checkpointer`;
    `locks` hold what they change.

    A workflow that has a checkpoint goes on from there, whichever process ran it before. Without a `checkpointer` every
    run begins at the beginning. `definitions` are types of your own, beside those that come with Diurna.
    """

    def __init__(
        self,
        bus: Bus,
        connection: WritesCommands,
        *,
        read_decision: ReadDecision | None = None,
        locks: Locks | None = None,
        checkpointer: KafkaCheckpointSaver | None = None,
        definitions: Iterable[Definition] = (),
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._bus = bus
        self._definitions = {**DEFINITIONS, **{one.workflow_type: one for one in definitions}}
        self._connection = connection
        self._locks = locks
        self._read_decision = read_decision
        self._checkpointer = checkpointer
        self._patience_seconds = patience_seconds
        self._running: dict[str, Running] = {}

    def types(self) -> list[str]:
        """The registered types."""
        return sorted(self._definitions)

    def list(self) -> list[Running]:
        """The workflows that run in this process, oldest first."""
        return sorted(self._running.values(), key=lambda running: running.started_at)

    def start(self, workflow_type: str, workflow_id: str, given: Mapping[str, Any]) -> asyncio.Task[JsonObject]:
        """Runs a workflow in the background; the task's result is the workflow's final result.

        The same `workflow_id` twice is one run, and one that was stopped goes on. Raises `InvalidInput` where the type
        or the input is wrong, `Refused` where too many run already.
        """
        checked_id("workflow_id", workflow_id)
        definition = self._definition(workflow_type)
        known = definition.read(given)
        if (found := self._running.get(workflow_id)) is not None:
            return found.task
        if len(self._running) >= RUNNING_MAX:
            raise Refused(f"{RUNNING_MAX} workflows are running here already", code="too_many_workflows")
        stopped: asyncio.Future[Stopped] = asyncio.get_running_loop().create_future()
        work = self._run(definition, workflow_id, known, stopped)
        task = asyncio.create_task(work, name=f"workflow {workflow_id}")
        self._running[workflow_id] = Running(workflow_id, workflow_type, utc_now(), task, stopped)
        task.add_done_callback(lambda _: self._ended(workflow_id))
        return task

    async def run(
        self, workflow_type: str, workflow_id: str, given: Mapping[str, Any], *, seconds: float | None = None
    ) -> JsonObject:
        """Runs a workflow to its end, as `until_end` waits for it."""
        return await self.until_end(self.start(workflow_type, workflow_id, given), seconds=seconds)

    async def until_end(self, task: asyncio.Task[JsonObject], *, seconds: float | None = None) -> JsonObject:
        """The final result of a run; one that takes longer than `seconds` fails.

        Whoever cancels this call stops the run without a word to the log; another may take it up again.
        """
        timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._late, task, seconds)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    async def stream(self, workflow_type: str, workflow_id: str, given: Mapping[str, Any]) -> AsyncGenerator[Step]:
        """Runs a workflow, and yields from now on what each node adds; it goes on when nobody listens any more.

        Raises as `start` does, and whatever ends the run with an error.
        """
        task = self.start(workflow_type, workflow_id, given)
        watcher: asyncio.Queue[Step | None] = asyncio.Queue()
        self._running[workflow_id].watchers.append(watcher)
        while (step := await watcher.get()) is not None:
            yield step
        await task

    async def resume(self, workflow_id: str) -> asyncio.Task[JsonObject]:
        """Goes on with a workflow from its last checkpoint, with the input it was given.

        Raises `NotFound` where it has none, `Conflict` where nothing keeps checkpoints here.
        """
        checked_id("workflow_id", workflow_id)
        state = await state_of(self._keeper(), workflow_id)
        given: JsonObject = state["partial_results"]["input"]
        return self.start(str(state["workflow_type"]), workflow_id, given)

    async def fork(
        self,
        workflow_id: str,
        new_workflow_id: str,
        *,
        checkpoint_id: str | None = None,
        before: str | None = None,
        updates: Mapping[str, Any] | None = None,
    ) -> asyncio.Task[JsonObject]:
        """Goes on with a copy of a workflow from one of its checkpoints, the last unless told otherwise.

        `before` names the step that comes next there: the last time it did. The copy has an id of its own, asks the
        agents anew, and has `updates` in its state, a JSON Merge Patch; the original is left as it is. A fork that was
        interrupted is gone on with. Raises `NotFound` where there is no such workflow, checkpoint or step, `Conflict`
        where there is nothing left to do, or the new id has a thread that is no such fork.
        """
        checked_id("workflow_id", workflow_id)
        checked_id("new_workflow_id", new_workflow_id)
        saver = self._keeper()
        begun = await found_state(saver, new_workflow_id)
        if begun is None or begun["task_id"] == workflow_id:  # not there, or copied and not yet told what is different
            state = await state_of(saver, workflow_id, checkpoint_id)
            graph = self._graph(str(state["workflow_type"]), new_workflow_id)
            if before is not None:
                checkpoint_id = await _checkpoint_before(graph, workflow_id, before)
            if not (await graph.aget_state(config_of(workflow_id, checkpoint_id))).next:
                raise Conflict(f"workflow {workflow_id!r} has nothing left to do there: fork an earlier checkpoint")
            changed = _of_fork(state, updates or {}, workflow_id, new_workflow_id)
            await fork_thread(saver, workflow_id, new_workflow_id, checkpoint_id=checkpoint_id, updates=changed)
        elif begun["partial_results"].get(FORKED_FROM) != workflow_id:
            raise Conflict(f"workflow {new_workflow_id!r} is there already, and is no fork of {workflow_id!r}")
        return await self.resume(new_workflow_id)

    def has_step(self, workflow_type: str, step: str) -> bool:
        """Whether workflows of a type have a step of this name. Raises `InvalidInput` where there is no such type."""
        return step in self._graph(workflow_type, "").nodes

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

    def _definition(self, workflow_type: str) -> Definition:
        definition = self._definitions.get(workflow_type)
        if definition is None:
            raise InvalidInput("workflow_type", workflow_type, f"known types are {', '.join(self.types())}")
        return definition

    def _graph(self, workflow_type: str, workflow_id: str) -> Graph:
        """The graph of a workflow, to look at its checkpoints or to copy them."""
        return self._definition(workflow_type).build(
            self._bus,
            journal=LogJournal(self._connection, workflow_id),
            desk=BusDesk(self._bus),
            locks=self._locks,
            checkpointer=self._checkpointer,
        )

    def _keeper(self) -> KafkaCheckpointSaver:
        if self._checkpointer is None:
            raise Conflict("no checkpoints are kept here, so nothing can be resumed")
        return self._checkpointer

    def _late(self, task: asyncio.Task[JsonObject], seconds: float) -> None:
        for running in self._running.values():
            if running.task is task and not running.stopped.done():
                running.stopped.set_result(Stopped("failed", f"it was not done within {seconds:g} seconds"))

    def _ended(self, workflow_id: str) -> None:
        running = self._running.pop(workflow_id, None)
        for watcher in [] if running is None else running.watchers:
            watcher.put_nowait(None)

    def _tell(self, workflow_id: str, step: Step) -> None:
        running = self._running.get(workflow_id)
        for watcher in [] if running is None else running.watchers:
            watcher.put_nowait(step)

    async def _run(
        self, definition: Definition, workflow_id: str, given: JsonObject, stopped: asyncio.Future[Stopped]
    ) -> JsonObject:
        with counted_run(definition.workflow_type, workflow_id) as run:
            final = await self._driven(definition, workflow_id, given, stopped)
            run.ended(final)
            return final

    async def _driven(
        self, definition: Definition, workflow_id: str, given: JsonObject, stopped: asyncio.Future[Stopped]
    ) -> JsonObject:
        saver = self._checkpointer
        journal = LogJournal(self._connection, workflow_id, scope=no_scope if saver is None else task_scope)

        def hear(event: Heard) -> None:
            if event.data.get("workflow_id") == workflow_id and not stopped.done():
                by, reason = event.data.get("cancelled_by", "unknown"), event.data.get("reason", "")
                stopped.set_result(Stopped("cancelled", f"cancelled by {by}" + (f": {reason}" if reason else "")))

        self._bus.subscribe(WorkflowCancelled.type_name, hear)
        try:
            await self._bus.ready()
            await journal.create(definition.workflow_type, given, definition.agents)
            found = self._read_decision
            read = None if found is None else partial(found, workflow_id)
            desk = BusDesk(self._bus, read=read)
            graph = definition.build(self._bus, journal=journal, desk=desk, locks=self._locks, checkpointer=saver)
            work = asyncio.ensure_future(
                drive(
                    graph,
                    workflow_id,
                    dict(initial_state(definition.workflow_type, workflow_id, given)),
                    saver=saver,
                    told=partial(self._tell, workflow_id),
                    ask=partial(_ask_people, desk, journal),
                    patience_seconds=self._patience_seconds,
                )
            )
            return await self._first_of(work, stopped, journal, definition, workflow_id)
        finally:
            self._bus.unsubscribe(WorkflowCancelled.type_name, hear)
            stopped.cancel()

    async def _first_of(
        self,
        work: asyncio.Future[JsonObject],
        stopped: asyncio.Future[Stopped],
        journal: LogJournal,
        definition: Definition,
        workflow_id: str,
    ) -> JsonObject:
        """The graph's final result, or the word that it is to stop, whichever is first."""

        def ended(status: str, reason: str) -> JsonObject:
            return {
                "workflow_id": workflow_id,
                "workflow_type": definition.workflow_type,
                "status": status,
                **definition.said_at_end(status),
                "success": False,
                "reason": reason,
            }

        try:
            await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                why = stopped.result()
                if why.status == "failed":  # that it is cancelled, the log has said already
                    await _no_more(work)
                    await journal.fail(why.reason, None)
                return ended(why.status, why.reason)
            final: JsonObject = work.result()["final_result"]
        except Conflict as error:
            # The log no longer takes facts of this workflow: it was cancelled, or ended by another run.
            is_cancelled = _says_cancelled(error) or (stopped.done() and stopped.result().status == "cancelled")
            return ended("cancelled" if is_cancelled else "failed", str(error))
        except DiurnaError as error:
            await journal.fail(str(error), None)
            return ended("failed", str(error))
        finally:
            await _no_more(work)
        return final


async def _no_more(work: asyncio.Future[JsonObject]) -> None:
    """Returns once it has ended, or has been ended."""
    if not work.done():
        work.cancel()
        await asyncio.wait({work})


async def _ask_people(desk: Desk, journal: LogJournal, matter: JsonObject) -> JsonObject:
    """Answers what interrupted a graph: whoever drives it asks."""
    return (await decided_by_people(desk, journal, Matter.from_json(matter))).as_json()


async def _checkpoint_before(graph: Graph, workflow_id: str, step: str) -> str:
    """The last checkpoint at which this step came next. Raises `NotFound` where it never did."""
    async for snapshot in graph.aget_state_history(config_of(workflow_id)):
        if step in snapshot.next:
            return str(snapshot.config.get("configurable", {})["checkpoint_id"])
    raise NotFound(f"step of workflow {workflow_id}", step)


def _of_fork(state: JsonObject, updates: Mapping[str, Any], workflow_id: str, new_workflow_id: str) -> JsonObject:
    """The updates, and that this is another workflow now."""
    unknown = next((name for name in updates if name not in state), None)
    if unknown is not None:
        raise InvalidInput(f"updates.{unknown}", updates[unknown], f"the state holds {', '.join(sorted(state))}")
    results: object = updates.get("partial_results", {})
    if not isinstance(results, dict):
        raise InvalidInput("updates.partial_results", results, "an object")
    return {
        **updates,
        "task_id": new_workflow_id,
        "partial_results": {**cast("JsonObject", results), FORKED_FROM: workflow_id},
    }


def _says_cancelled(error: Conflict) -> bool:
    return error.code == "workflow_over" and error.reason.endswith(" is cancelled")
