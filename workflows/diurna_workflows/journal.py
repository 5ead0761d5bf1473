"""Writes down what a workflow does, as commands to the log that become facts.

A command's id is made from the workflow and the thing it says, so a workflow that is run again after a crash says
nothing twice.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from diurna_schemas.errors import Refused
from diurna_schemas.message import TEXT_CHARACTERS_MAX, Command
from diurna_schemas.workflows import (
    CompleteWorkflow,
    CreateWorkflow,
    DecideApproval,
    FailWorkflow,
    RequestApproval,
    UpdateWorkflowState,
    UpdateWorkflowStep,
)
from diurna_workflows.approvals import Matter
from diurna_workflows.policy import Decision
from diurna_workflows.ports import WritesCommands
from diurna_workflows.work import Scope, no_scope

_NAMESPACE: Final = uuid.UUID("0f0c2d2e-8f43-5a5e-9a3c-6a1f7c0de5b2")
ORCHESTRATOR: Final = "orchestrator"
SUMMARY_BYTES_MAX: Final = 32 * 1024
"""What a fact repeats of an agent's answer; the whole stands in `request.completed`."""
PAUSED: Final = "workflow_paused"
"""The code of a refusal that passes: the workflow is paused."""


def named_id(*parts: str) -> str:
    """The same id for the same parts, for ever."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(parts)))


def summary(result: Mapping[str, Any], *, bytes_max: int = SUMMARY_BYTES_MAX) -> dict[str, Any]:
    """The result, without its largest parts where it is too large to be repeated; those are named in `left_out`."""
    kept = dict(result)
    left_out: list[str] = []
    sizes = {key: len(json.dumps(value, default=str)) for key, value in kept.items()}
    for key in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        if sum(sizes[name] for name in kept) <= bytes_max:
            break
        del kept[key]
        left_out.append(key)
    return {**kept, "left_out": left_out} if left_out else kept


class Journal(Protocol):
    """What a graph tells while it runs."""

    def approval_id(self, name: str) -> str:
        """The id of an approval the workflow asks for."""
        ...

    async def step(self, step: str, agent_id: str, *, attempt: int = 1) -> None:
        """The workflow is at another step now, or at the same one again."""
        ...

    async def state(self, label: str, updates: Mapping[str, Any], agent_id: str | None = None) -> None:
        """Something is known now. `label` names the fact within the workflow."""
        ...

    async def ask_approval(self, matter: Matter) -> str:
        """A person, or a policy, is to decide, and the workflow is at that step; returns the approval's id."""
        ...

    async def decide(self, approval_id: str, decision: Decision) -> None:
        """A policy has decided."""
        ...

    async def complete(self, result: Mapping[str, Any]) -> None:
        """The workflow came to its end."""
        ...

    async def fail(self, error: str, result: Mapping[str, Any] | None) -> None:
        """The workflow could not go on."""
        ...


class LogJournal:
    """The journal that is kept on the log, through the decider of workflows.

    What a run before this one has written down already is left as it is, however long ago that was.
    """

    def __init__(self, connection: WritesCommands, workflow_id: str, *, scope: Scope = no_scope) -> None:
        self._connection = connection
        self._workflow_id = workflow_id
        self._scope = scope
        self._refused: Counter[str] = Counter()

    def approval_id(self, name: str) -> str:
        """The id of an approval the workflow asks for."""
        return named_id(self._workflow_id, name)

    async def create(self, workflow_type: str, given: Mapping[str, Any], agents: Iterable[str]) -> None:
        """The workflow begins."""
        await self._ask_once(
            CreateWorkflow(
                command_id=self._id("create"),
                workflow_id=self._workflow_id,
                workflow_type=workflow_type,
                state=json.dumps({"input": dict(given)}),
                participating_agents=list(agents),
            ),
            "workflow_exists",
        )

    async def step(self, step: str, agent_id: str, *, attempt: int = 1) -> None:
        await self._ask(
            UpdateWorkflowStep(
                command_id=self._id_of_work("step", step, *([] if attempt == 1 else [str(attempt)])),
                workflow_id=self._workflow_id,
                step=step,
                agent_id=agent_id,
            )
        )

    async def state(self, label: str, updates: Mapping[str, Any], agent_id: str | None = None) -> None:
        await self._ask(
            UpdateWorkflowState(
                command_id=self._id_of_work("state", label),
                workflow_id=self._workflow_id,
                updates=json.dumps(dict(updates), default=str),
                agent_id=agent_id,
            )
        )

    async def ask_approval(self, matter: Matter) -> str:
        approval_id = self.approval_id(matter.name)
        is_new = await self._ask_once(
            RequestApproval(
                command_id=self._id("ask", matter.name),
                workflow_id=self._workflow_id,
                approval_id=approval_id,
                question=matter.question[:TEXT_CHARACTERS_MAX],
                details=json.dumps(matter.details, default=str),
                expires_after_ms=matter.expires_after_ms,
                roles=list(matter.roles),
            ),
            "approval_exists",
        )
        if is_new:
            await self._ask(
                UpdateWorkflowStep(
                    command_id=self._id("step-of", matter.name),
                    workflow_id=self._workflow_id,
                    step=matter.step,
                    agent_id=ORCHESTRATOR,
                )
            )
        return approval_id

    async def decide(self, approval_id: str, decision: Decision) -> None:
        await self._ask_once(
            DecideApproval(
                command_id=self._id("decide", approval_id),
                workflow_id=self._workflow_id,
                approval_id=approval_id,
                is_approved=decision.is_approved,
                decided_by=decision.decided_by,
                reason=decision.reason,
            ),
            "approval_settled",
        )

    async def complete(self, result: Mapping[str, Any]) -> None:
        await self._end(
            CompleteWorkflow(
                command_id=self._id("end"), workflow_id=self._workflow_id, result=json.dumps(dict(result), default=str)
            ),
            "completed",
        )

    async def fail(self, error: str, result: Mapping[str, Any] | None) -> None:
        await self._end(
            FailWorkflow(
                command_id=self._id("end"),
                workflow_id=self._workflow_id,
                error=error[:TEXT_CHARACTERS_MAX],
                result=None if result is None else json.dumps(dict(result), default=str),
            ),
            "failed",
        )

    async def _ask(self, command: Command) -> None:
        """Says it under another id than before where it was refused because the workflow was paused.

        The decider remembers that answer, and would give it again after the workflow was resumed.
        """
        first_id = command.command_id
        if times := self._refused[first_id]:
            command = command.model_copy(update={"command_id": named_id(first_id, str(times))})
        try:
            await self._connection.ask(command)
        except Refused as error:
            if error.code == PAUSED:
                self._refused[first_id] += 1
            raise

    async def _ask_once(self, command: Command, done_before: str) -> bool:
        """The decider forgets a command after some minutes; then it is what it led to that is there already: False."""
        try:
            await self._ask(command)
        except Refused as error:
            if error.code != done_before:
                raise
            return False
        return True

    async def _end(self, command: CompleteWorkflow | FailWorkflow, status: str) -> None:
        try:
            await self._ask(command)
        except Refused as error:
            if error.code != "workflow_over" or not error.reason.endswith(f" is {status}"):
                raise

    def _id(self, *what: str) -> str:
        return named_id(self._workflow_id, *what)

    def _id_of_work(self, *what: str) -> str:
        """A node may be visited more than once: each visit is a piece of work of its own."""
        scope = self._scope()
        return self._id(*([scope] if scope else []), *what)


class NoJournal:
    """The journal of a graph that is run by itself: nothing is written down."""

    def approval_id(self, name: str) -> str:
        return name

    async def step(self, step: str, agent_id: str, *, attempt: int = 1) -> None: ...

    async def state(self, label: str, updates: Mapping[str, Any], agent_id: str | None = None) -> None: ...

    async def ask_approval(self, matter: Matter) -> str:
        return matter.name

    async def decide(self, approval_id: str, decision: Decision) -> None: ...

    async def complete(self, result: Mapping[str, Any]) -> None: ...

    async def fail(self, error: str, result: Mapping[str, Any] | None) -> None: ...
