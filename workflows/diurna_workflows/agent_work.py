"""How a node of a graph has an agent work: the step is written down, the question asked once, the answer kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from diurna_schemas.errors import LockLost, ResourceLockError
from diurna_workflows.asking import Answer, Question, asked
from diurna_workflows.journal import Journal, summary
from diurna_workflows.ports import AsksAgents
from diurna_workflows.target_lock import Locks, held_target
from diurna_workflows.work import Scope


class AgentWork:
    """The agents, as the nodes of one run reach them."""

    def __init__(self, bus: AsksAgents, journal: Journal, scope: Scope) -> None:
        self._bus = bus
        self._journal = journal
        self._scope = scope

    async def done(self, workflow_id: str, question: Question) -> Answer:
        """The agent's answer, with the step it is written down before."""
        await self.begun(question)
        return await self.asked(workflow_id, question)

    async def begun(self, question: Question) -> None:
        """The workflow is at this question now."""
        await self._journal.step(question.node, question.agent_id)

    async def done_holding(
        self, workflow_id: str, question: Question, locks: Locks | None, resource_id: str, *, reason: str
    ) -> tuple[Answer, dict[str, Any]]:
        """The agent's answer to a question asked while the resource is held, and what was held: resource and token.

        The agent is told both, and refuses a token that was overtaken. A lock that is not to be had is a rejection. One
        that is lost in the middle is a timeout: what the agent did there is unknown, and nobody hears it.
        """
        await self.begun(question)
        held: dict[str, Any] = {}
        try:
            async with held_target(locks, workflow_id, resource_id, reason=reason) as lock:
                if lock is not None:
                    question = replace(question, payload={**question.payload, "lock": lock})
                    held = {lock["resource_id"]: lock["token"]}
                return await self.asked(workflow_id, question), held
        except ResourceLockError as error:
            return Answer("timeout" if isinstance(error, LockLost) else "rejected", error=str(error)), held

    async def asked(self, workflow_id: str, question: Question) -> Answer:
        """The agent's answer; what is known of it stands in the workflow's state under the question's name."""

        async def again(attempt: int) -> None:
            # A run before us was stopped: who restarts it may go on, who cancelled the workflow is heard here.
            await self._journal.step(question.node, question.agent_id, attempt=attempt)

        answer = await asked(self._bus, workflow_id, question, scope=self._scope(), again=again)
        known: dict[str, Any] = {"status": answer.status, **summary(answer.result)}
        if answer.error is not None:
            known["error"] = answer.error
        await self._journal.state(question.node, {question.node: known}, question.agent_id)
        return answer
