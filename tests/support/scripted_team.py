"""The agents of the workflows, answering from a script: they count what is really done."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from diurna.agent import Agent
from diurna_schemas.shapes import AgentRequestEvent
from support.workflow_fakes import GOOD_ANSWERS

WORKERS = {
    "code-review": ("review_code",),
    "cicd": ("run_pipeline",),
    "infrastructure": ("deploy_service",),
    "documentation": ("generate_docs", "merge_docs"),
}
"""Who does what."""


@dataclass
class ScriptedTeam:
    """What was done, request by request. Answers to a request type in `held_back` wait for its event."""

    requests: list[AgentRequestEvent] = field(default_factory=list[AgentRequestEvent])
    held_back: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])

    @property
    def done(self) -> Counter[str]:
        """How often each kind of work was done."""
        return Counter(str(request.request_type) for request in self.requests)

    async def work(self, request: AgentRequestEvent) -> dict[str, Any]:
        self.requests.append(request)
        if (until := self.held_back.get(str(request.request_type))) is not None:
            await until.wait()
        answer: dict[str, Any] = GOOD_ANSWERS[str(request.request_type)]
        return answer


@asynccontextmanager
async def scripted_team(make: Callable[[str], Agent]) -> AsyncIterator[ScriptedTeam]:
    """The agents at work; `make` makes an agent of a name."""
    found = ScriptedTeam()
    async with AsyncExitStack() as stack:
        for agent_id, request_types in WORKERS.items():
            agent = make(agent_id)
            for request_type in request_types:
                agent.on_request(request_type)(found.work)
            await stack.enter_async_context(agent.running())
        yield found
