"""A team that has something to show on every page, saying what it is told to say: in tests, something hostile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from diurna import Agent, AgentCapability
from support.paged_team import PagedTeam


@dataclass
class Seeded:
    """The ids of what there is."""

    workflow_id: str
    waiting_id: str
    over_id: str
    approval_id: str
    checkpoint_id: str
    request_id: str
    correlation_id: str
    lock_id: str
    resource_id: str
    positions: list[str] = field(default_factory=list[str])

    @property
    def one_of_each(self) -> list[str]:
        """A page of every kind; of events, whose pages differ in what they say alone, three."""
        return self.paths[: len(self.paths) - len(self.positions) + 3]

    @property
    def paths(self) -> list[str]:
        """Every page there is something on."""
        parts = [
            ("agents", "code-review"),
            ("requests", self.request_id),
            ("workflows", self.workflow_id),
            ("workflows", self.waiting_id),
            ("workflows", self.over_id),
            ("locks", self.lock_id),
            ("timeline", self.correlation_id),
            *(("events", position) for position in self.positions),
        ]
        ways = ["/" + "/".join(quote(part, safe="") for part in one) for one in parts]
        plain = ["/", "/agents", "/requests", "/workflows", "/locks", "/events", "/projections", "/asyncapi"]
        return [*plain, "/capabilities/search?q=", f"/locks?resource_id={quote(self.resource_id, safe='')}", *ways]


@asynccontextmanager
async def seeded(team: PagedTeam, words: str, *, mark: str = "") -> AsyncGenerator[Seeded]:
    """Has everything happen once; `words` is said wherever there is free text, `mark` is part of each free id.

    The agents are there for as long as the block lasts.
    """
    async with AsyncExitStack() as stack:
        for name, can in (("code-review", "review_code"), ("cicd", "run_pipeline")):
            agent = Agent(
                name,
                capabilities=[AgentCapability(name=can, description=words, tags=[words], parameters={words: words})],
                agent_name=words if mark else name.replace("-", " ").capitalize(),
                metadata={words: words},
                port=None,
                connection=team.connection,
            )
            agent.on_request("review_code")(_answering(words))
            await stack.enter_async_context(agent.running())
        workflow_id, waiting_id, over_id = await _workflows(team, words, mark)
        checkpoint = await team.write("POST", _at("workflows", workflow_id, "checkpoints"), {"step_name": "test"})
        approval = await team.write(
            "POST",
            _at("workflows", waiting_id, "approvals"),
            {"question": words if mark else "Deploy 4f2a91c to production?", "details": {words: words}},
        )
        request_id = await _requests(team, words, f"work{mark}")
        lock_id, resource_id = await _locks(team, words, mark)
        await team.write("POST", "/events", {"event_type": "task.delegated", "data": {words: words}, "source": "cicd"})
        events = await team.json("/events", limit=1000)
        latest: dict[str, str] = {event["type"]: event["position"] for event in events}
        yield Seeded(
            workflow_id=workflow_id,
            waiting_id=waiting_id,
            over_id=over_id,
            approval_id=approval["approval_id"],
            checkpoint_id=checkpoint["checkpoint_id"],
            request_id=request_id,
            correlation_id=f"work{mark}",
            lock_id=lock_id,
            resource_id=resource_id,
            positions=list(latest.values()),
        )


def _answering(words: str) -> Any:
    async def answer(request: Any) -> dict[str, Any]:
        return {"summary": words, words: [words]}

    return answer


async def _workflows(team: PagedTeam, words: str, mark: str) -> tuple[str, str, str]:
    """One that goes on, one that waits for somebody, and one that failed."""
    ids = f"deploy-1042{mark}", f"deploy-1043{mark}", f"deploy-1041{mark}"
    for workflow_id in ids:
        body = {
            "workflow_type": "pr_deployment",
            "workflow_id": workflow_id,
            "initial_state": {"repository": words, words: words},
            "participating_agents": ["code-review", "cicd"],
            "metadata": {words: words},
        }
        await team.write("POST", "/workflows", body)
        for step, agent_id in (("review", "code-review"), ("test", "cicd")):
            await team.write("POST", _at("workflows", workflow_id, "steps"), {"step": step, "agent_id": agent_id})
    await team.write("POST", _at("workflows", ids[1], "steps"), {"step": "approval"})
    await team.write("POST", _at("workflows", ids[2], "fail"), {"error": words, "result": {words: words}})
    return ids


async def _requests(team: PagedTeam, words: str, correlation_id: str) -> str:
    """One that is answered, and one that nobody answers."""
    body = {
        "source_agent": "orchestrator",
        "target_agent": "code-review",
        "request_type": "review_code",
        "payload": {"repository": words, words: [words]},
        "priority": "high",
        "correlation_id": correlation_id,
        "metadata": {words: words},
    }
    done = await team.write("POST", "/requests", body)
    async with asyncio.timeout(10):
        while (await team.json(f"/requests/{done['request_id']}"))["status"] != "completed":  # noqa: ASYNC110 - the tables tell nobody
            await asyncio.sleep(0.02)
    return str(done["request_id"])


async def _locks(team: PagedTeam, words: str, mark: str) -> tuple[str, str]:
    """One that is held and waited for."""
    resource_id = f"deploy:production{mark}"
    wish = {
        "resource_id": resource_id,
        "timeout": 300,
        "wait_timeout": 300,
        "reason": words,
        "metadata": {words: words},
    }
    held = await team.write("POST", "/locks", {**wish, "agent_id": "cicd"})
    await team.write("POST", "/locks", {**wish, "agent_id": "code-review"})
    return str(held["lock_id"]), resource_id


def _at(*parts: str) -> str:
    return "/" + "/".join(quote(part, safe="") for part in parts)
