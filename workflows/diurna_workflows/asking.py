"""Asks an agent on behalf of a workflow, so that asking again after a crash finds the first answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from tenacity import AsyncRetrying, retry_if_result, stop_after_attempt, wait_exponential

from diurna_schemas.shapes import AgentRequestEvent, AgentResponseEvent, AgentResponseStatus
from diurna_workflows.journal import named_id
from diurna_workflows.ports import AsksAgents

Again = Callable[[int], Awaitable[None]]
ATTEMPTS_MAX: Final = 4
_PATIENCE_SECONDS: Final = 15.0
"""How much longer than the agent the bus may take, so that the agent's own word on its timeout arrives."""
_SOURCE: Final = "orchestrator"


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask of whom. `timeout_seconds` bounds the whole."""

    node: str
    agent_id: str
    request_type: str
    payload: Mapping[str, Any]
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `error` is none exactly when `result` can be relied on."""

    status: str
    result: dict[str, Any] = field(default_factory=dict[str, Any])
    error: str | None = None
    code: str | None = None
    """Of a refusal: which one."""

    @property
    def is_known(self) -> bool:
        """Whether it is known what the agent did: a timeout is no failure, it is unknown."""
        return self.status != AgentResponseStatus.TIMEOUT


async def asked(
    bus: AsksAgents, workflow_id: str, question: Question, *, scope: str = "", again: Again | None = None
) -> Answer:
    """The agent's answer. An agent that is not there is asked again a few times: it may be restarting.

    The request's id is made from workflow, scope, node and attempt: the same question after a crash is the same
    request, and its answer is the one that was given first. `again` is told which attempt it is before a question that
    was taken back is asked anew; what it raises ends this.
    """
    retrying = AsyncRetrying(
        retry=retry_if_result(_is_worth_another_try),
        stop=stop_after_attempt(ATTEMPTS_MAX),
        wait=wait_exponential(multiplier=0.5, max=5),
        retry_error_callback=lambda state: None if state.outcome is None else state.outcome.result(),
    )
    attempt = 0
    taken_back = False

    async def once() -> AgentResponseEvent:
        nonlocal attempt, taken_back
        attempt += 1
        if taken_back and again is not None:
            await again(attempt)
        response = await bus.request_agent(
            AgentRequestEvent(
                request_id=named_id(workflow_id, *([scope] if scope else []), question.node, str(attempt)),
                source_agent=_SOURCE,
                target_agent=question.agent_id,
                request_type=question.request_type,
                payload=dict(question.payload),
                timeout_seconds=question.timeout_seconds,
                correlation_id=workflow_id,
                metadata={"node": question.node, "workflow_id": workflow_id},
            ),
            timeout=question.timeout_seconds + _PATIENCE_SECONDS,
        )
        taken_back = _was_taken_back(response)
        return response

    return _understood(question, await retrying(once))


def _is_worth_another_try(response: AgentResponseEvent) -> bool:
    """Nobody was there; or a run of this workflow before us was stopped, and took its question back."""
    if response.status is AgentResponseStatus.REJECTED:
        return (response.error or "").startswith("agent offline")
    return _was_taken_back(response)


def _was_taken_back(response: AgentResponseEvent) -> bool:
    by_us = (response.error or "").startswith(f"cancelled by {_SOURCE}")
    return response.metadata.get("code") == "cancelled" and by_us


def _understood(question: Question, response: AgentResponseEvent) -> Answer:
    status = response.status.value
    if response.status is not AgentResponseStatus.SUCCESS:
        words = response.error or "no reason was given"
        said = f"{question.agent_id} answered {question.request_type} with {status}: {words}"
        code = response.metadata.get("code")
        return Answer(status, error=said, code=None if code is None else str(code))
    result = cast("object", response.result)
    if not isinstance(result, dict):
        kind = type(result).__name__
        return Answer("error", error=f"{question.agent_id} answered {question.request_type} with a {kind}, no object")
    return Answer(status, cast("dict[str, Any]", result))
