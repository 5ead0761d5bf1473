"""The state of workflows from Python: every change is decided on the log, every version can be read again."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final, Self

from diurna import workflow_commands as commands
from diurna.api_client import ApiClient
from diurna.client import Client
from diurna.commands import Answer
from diurna.connection import Connection
from diurna.differences import Operation, json_patch
from diurna.documents import json_object, validated
from diurna.event import Event
from diurna.past_reads import AsOf, as_of_text
from diurna.settings import ClientSettings, api_url
from diurna.workflow_reads import PAGE, ApiReads, TableReads, When, WorkflowReads
from diurna.workflow_retention import age_ms, remove
from diurna_schemas.envelope import iso
from diurna_schemas.errors import InvalidInput, NotFound
from diurna_schemas.ids import Position, checked_id
from diurna_schemas.message import Command
from diurna_schemas.shapes import WorkflowCheckpoint, WorkflowState
from diurna_schemas.topics import partition_of
from diurna_schemas.workflows import (
    CancelWorkflow,
    PauseWorkflow,
    ResumeWorkflow,
    WorkflowRestored,
)

JsonObject = dict[str, Any]

_COMPARED: Final = ("status", "current_step", "state_data", "result", "error_message")


class WorkflowStateManager(Client):
    """Creates, changes, checkpoints and restores workflows. Reads see what this manager has written before.

    Writes go to the log. Reads come from `address`: the API (`http://…`) or the tables (`postgresql://…`); without it,
    from the environment's API. Each change of a workflow is one version; `expected_version` makes a change count only
    at that version, else `WorkflowConflict` names the current one.

    Reads take `as_of`, a time or the position of an event as text, and answer what would have been answered then. A
    datetime needs a zone, a text without one is UTC; a time to come is now. Raises `InvalidInput` where it is neither,
    `NotFound` for a position at which no event stands.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        connection: Connection | None = None,
        api: ApiClient | None = None,
        settings: ClientSettings | None = None,
    ) -> None:
        super().__init__(connection, settings=settings)
        if address is not None and not address.startswith(("http://", "https://", "postgresql://", "postgres://")):
            raise InvalidInput("address", address, "an address that begins with http:// or postgresql:// is expected")
        self._address = address
        self._api = api
        self._reads: WorkflowReads | None = None
        self._opening = asyncio.Lock()
        self._written: dict[int, Position] = {}

    async def connect(self) -> Self:
        """Connects. Raises `Unavailable` where the log, or who is to be read from, does not answer."""
        await super().connect()
        await (await self._reading()).connect()
        return self

    async def close(self) -> None:
        """Gives up the connections. The manager may connect again."""
        reads, self._reads = self._reads, None
        if reads is not None:
            await reads.close()
        await super().close()

    # --- changes ----------------------------------------------------------------------------------------

    async def create_workflow(
        self,
        workflow_type: str,
        initial_state: Mapping[str, Any],
        participating_agents: Iterable[str],
        workflow_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Begins a workflow at version 1 and returns its id. Raises `Conflict` where the id is in use."""
        workflow_id = str(uuid.uuid4()) if workflow_id is None else workflow_id
        command = commands.creation(
            _new_id(),
            workflow_id,
            workflow_type,
            initial_state=initial_state,
            participating_agents=participating_agents,
            metadata=metadata,
        )
        await self._write(command)
        return workflow_id

    async def update_state(
        self,
        workflow_id: str,
        updates: Mapping[str, Any],
        agent_id: str | None = None,
        expected_version: int | None = None,
    ) -> int:
        """Merges updates into the state and returns the new version.

        Objects are merged level by level, `None` takes a key away, anything else replaces what was there (RFC 7396).
        Raises `WorkflowConflict`, `NotFound`, `Conflict` where it is paused or over, `TooLarge` above 256 KiB.
        """
        return await self._change(commands.state_update(_new_id(), workflow_id, updates, agent_id, expected_version))

    async def update_step(
        self,
        workflow_id: str,
        current_step: str,
        agent_id: str | None = None,
        expected_version: int | None = None,
    ) -> int:
        """Says which step the workflow is at, and returns the new version. Raises as `update_state` does."""
        return await self._change(
            commands.step_update(_new_id(), workflow_id, current_step, agent_id, expected_version)
        )

    async def complete_workflow(
        self,
        workflow_id: str,
        final_state: Mapping[str, Any] | None = None,
        error_message: str | None = None,
        *,
        result: object = None,
    ) -> int:
        """Ends the workflow, with last updates of its state; with an `error_message`, it failed."""
        command = commands.ending(_new_id(), workflow_id, error=error_message, result=result, updates=final_state)
        return await self._change(command)

    async def fail_workflow(
        self, workflow_id: str, error_message: str, final_state: Mapping[str, Any] | None = None
    ) -> int:
        """Ends the workflow as failed."""
        return await self.complete_workflow(workflow_id, final_state, error_message)

    async def pause(self, workflow_id: str, paused_by: str = "unknown", reason: str = "") -> int:
        """Nobody may work on it until it is resumed; it can still be cancelled, restored, and its approvals decided."""
        said = {"workflow_id": workflow_id, "paused_by": paused_by, "reason": reason}
        return await self._change(validated(PauseWorkflow, {"command_id": _new_id(), **said}))

    async def resume(self, workflow_id: str, resumed_by: str = "unknown", reason: str = "") -> int:
        """It goes on."""
        said = {"workflow_id": workflow_id, "resumed_by": resumed_by, "reason": reason}
        return await self._change(validated(ResumeWorkflow, {"command_id": _new_id(), **said}))

    async def cancel(self, workflow_id: str, cancelled_by: str = "unknown", reason: str = "") -> int:
        """Ends it because nobody wants it any more."""
        said = {"workflow_id": workflow_id, "cancelled_by": cancelled_by, "reason": reason}
        return await self._change(validated(CancelWorkflow, {"command_id": _new_id(), **said}))

    # --- checkpoints ------------------------------------------------------------------------------------

    async def checkpoint(
        self,
        workflow_id: str,
        step_name: str,
        agent_id: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> str:
        """Keeps the state as it is, with `data` beside it, and returns the checkpoint's id. The version stays."""
        checkpoint_id = _new_id()
        await self._write(
            commands.checkpoint(_new_id(), workflow_id, checkpoint_id, step_name, agent_id=agent_id, data=data)
        )
        return checkpoint_id

    async def restore_checkpoint(
        self,
        workflow_id: str,
        checkpoint_id: str,
        agent_id: str | None = None,
        expected_version: int | None = None,
    ) -> JsonObject:
        """Takes the workflow back to a checkpoint and returns the checkpoint's data.

        The state becomes what it was then with the data merged in, the step the checkpoint's, and that is a new
        version. Raises `NotFound` for an unknown checkpoint, `Conflict` where the workflow is over: fork it instead.
        """
        command = commands.restoration(_new_id(), workflow_id, checkpoint_id, agent_id, expected_version)
        event = (await self._write(command)).event
        return json_object(event.data) if isinstance(event, WorkflowRestored) else {}

    async def get_checkpoints(
        self, workflow_id: str, limit: int = 100, *, as_of: AsOf = None
    ) -> list[WorkflowCheckpoint]:
        """The newest checkpoints, the newest first, without their states."""
        commands.whole_number("limit", limit, PAGE)
        checked_id("workflow_id", workflow_id)
        when = self._when(workflow_id, as_of)
        found = await (await self._reading()).checkpoints(workflow_id, limit, when)
        return [validated(WorkflowCheckpoint, one) for one in found]

    async def get_checkpoint(self, workflow_id: str, checkpoint_id: str, *, as_of: AsOf = None) -> WorkflowCheckpoint:
        """A checkpoint with its state. Raises `NotFound`."""
        return validated(WorkflowCheckpoint, await self._taken(workflow_id, checkpoint_id, as_of))

    async def get_latest_checkpoint(self, workflow_id: str, *, as_of: AsOf = None) -> WorkflowCheckpoint | None:
        """The newest checkpoint; none where none was taken."""
        found = await self.get_checkpoints(workflow_id, limit=1, as_of=as_of)
        return found[0] if found else None

    async def fork(
        self,
        workflow_id: str,
        checkpoint_id: str | None = None,
        updates: Mapping[str, Any] | None = None,
        new_workflow_id: str | None = None,
    ) -> str:
        """Begins a new workflow where a checkpoint (the newest, where none is named) was taken; returns its id.

        Its state is the checkpoint's as `restore_checkpoint` would make it, with `updates` merged in; its metadata's
        `forked_from` names workflow, checkpoint and version. The other workflow may be over, and is left as it is.
        """
        if checkpoint_id is None:
            latest = await self.get_latest_checkpoint(workflow_id)
            if latest is None:
                raise NotFound("checkpoint of a workflow", workflow_id)
            checkpoint_id = latest.checkpoint_id
        new_id = _new_id() if new_workflow_id is None else new_workflow_id
        reads = await self._reading()
        source = await reads.workflow(workflow_id, None, self._when(workflow_id))
        taken = await self._taken(workflow_id, checkpoint_id)
        await self._write(commands.fork_of(_new_id(), new_id, source, taken, updates))
        return new_id

    # --- reads ------------------------------------------------------------------------------------------

    async def get_workflow(self, workflow_id: str, version: int | None = None, *, as_of: AsOf = None) -> WorkflowState:
        """A workflow as it is, as it was at a version, or as it was at a moment. Raises `NotFound`."""
        checked_id("workflow_id", workflow_id)
        commands.whole_number("version", version)
        when = self._when(workflow_id, as_of)
        if version is not None and when.as_of is not None:
            raise InvalidInput("as_of", when.as_of, f"version {version} is one moment already: give one of both")
        return validated(WorkflowState, await (await self._reading()).workflow(workflow_id, version, when))

    async def list_workflows(
        self, status: str | None = None, workflow_type: str | None = None, *, as_of: AsOf = None
    ) -> list[WorkflowState]:
        """All workflows, or those of a status or type, the newest first."""
        filters = {"status": status, "workflow_type": workflow_type}
        when = self._when(None, as_of)
        found = await (await self._reading()).workflows(filters, when)
        return [validated(WorkflowState, one) for one in found]

    async def list_active_workflows(self, *, as_of: AsOf = None) -> list[WorkflowState]:
        """Those that run or are paused, the newest first."""
        active = [one for status in ("running", "paused") for one in await self.list_workflows(status, as_of=as_of)]
        return sorted(active, key=lambda one: (one.started_at, one.workflow_id), reverse=True)

    async def get_workflow_statistics(self, *, as_of: AsOf = None) -> list[JsonObject]:
        """For each type how many there are in which status, and `average_seconds` of the completed ones."""
        when = self._when(None, as_of)
        return await (await self._reading()).statistics(when)

    async def history(self, workflow_id: str, *, as_of: AsOf = None) -> list[Event]:
        """Every event of a workflow, the oldest first. Raises `NotFound`."""
        checked_id("workflow_id", workflow_id)
        when = self._when(workflow_id, as_of)
        return [Event.from_document(one) for one in await (await self._reading()).history(workflow_id, when)]

    async def diff(self, workflow_id: str, version_a: int, version_b: int) -> list[Operation]:
        """What changed from one version to another, as a JSON Patch (RFC 6902) over status, step, state and end."""
        before, after = [
            (await self.get_workflow(workflow_id, version)).model_dump(mode="json", include=set(_COMPARED))
            for version in (version_a, version_b)
        ]
        return json_patch(before, after)

    async def cleanup_old_workflows(self, days: float = 30) -> int:
        """Forgets workflows that have been over for so many days, and returns how many. Their events stay."""
        older_than_ms = age_ms(days)
        before_ms = (await self._connected()).clock_ms() - older_than_ms
        found = await (await self._reading()).workflows({"ended_before": iso(before_ms)}, self._when())
        return await remove(self._write, [str(one["workflow_id"]) for one in found], older_than_ms=older_than_ms)

    # --- inside -----------------------------------------------------------------------------------------

    async def _change(self, command: Command) -> int:
        event = (await self._write(command)).event
        return int(getattr(event, "version", 0))

    async def _write(self, command: Command) -> Answer:
        answer = await (await self._connected()).answer(command)
        position = answer.position
        known = self._written.get(position.partition)
        if known is None or known.offset < position.offset:
            self._written[position.partition] = position
        return answer

    async def _reading(self) -> WorkflowReads:
        if self._reads is None:
            async with self._opening:
                if self._reads is None:
                    self._reads = await self._opened()
        return self._reads

    async def _opened(self) -> WorkflowReads:
        if self._api is not None:
            return ApiReads(self._api)
        if self._address is not None and self._address.startswith("postgres"):
            connection = await self._connected()
            return await TableReads.open(self._address, connection.codec, connection.clock_ms)
        known = None if self._settings is None else self._settings.api_url
        return ApiReads(ApiClient(self._address or known or api_url()))

    async def _taken(self, workflow_id: str, checkpoint_id: str, as_of: AsOf = None) -> JsonObject:
        checked_id("workflow_id", workflow_id)
        checked_id("checkpoint_id", checkpoint_id)
        when = self._when(workflow_id, as_of)
        return await (await self._reading()).checkpoint(workflow_id, checkpoint_id, when)

    def _when(self, workflow_id: str | None = None, as_of: AsOf = None) -> When:
        """After what this manager wrote where the workflow's events stand, or everywhere; as of a moment, or now.

        Of a partition the last position stands for all before it. Raises `InvalidInput` for what is no moment.
        """
        own = sorted(self._written) if workflow_id is None else {partition_of(workflow_id)} & self._written.keys()
        return When([self._written[partition] for partition in own], as_of_text(as_of))


def _new_id() -> str:
    return str(uuid.uuid4())
