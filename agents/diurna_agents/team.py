"""The six agents as they run: who they are, what they can do, and which work function answers which request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Final

from diurna import Agent, AgentCapability, AgentRequestEvent, Rejected
from diurna.agent import Context
from diurna.connection import Connection
from diurna.settings import ClientSettings
from diurna_agents.workspace import Report, Workspace
from diurna_schemas.errors import InvalidInput, Refused

Work = Callable[..., Awaitable[dict[str, object]]]
"""`async def work(payload, *, workspace, report)`."""


@dataclass(frozen=True, slots=True)
class Member:
    """One agent of the team. `handlers_of` is the module that holds its `HANDLERS`."""

    agent_id: str
    name: str
    capabilities: tuple[tuple[str, str, tuple[str, ...]], ...]
    concurrency: int
    handlers_of: str | None = None

    def as_capabilities(self) -> list[AgentCapability]:
        """What the registry lists."""
        return [
            AgentCapability(name=name, description=description, tags=list(tags))
            for name, description, tags in self.capabilities
        ]


MEMBERS: Final[dict[str, Member]] = {
    member.agent_id: member
    for member in (
        Member(
            "orchestrator",
            "Orchestrator",
            (
                ("execute_task", "Drives a workflow from its first step to its last", ("workflow", "pr_deployment")),
                ("continue_fork", "Goes on with a copy of a workflow from one of its checkpoints", ("workflow",)),
            ),
            concurrency=100,
        ),
        Member(
            "code-review",
            "Code review",
            (("review_code", "Reviews what a branch changes, by a stated policy", ("git", "ruff", "bandit")),),
            concurrency=4,
            handlers_of="diurna_agents.code_review",
        ),
        Member(
            "cicd",
            "Continuous integration",
            (
                ("run_pipeline", "Runs a repository's own tests in an isolated environment", ("git", "pytest", "uv")),
                ("validate_build", "Builds a repository's distributions and checks their metadata", ("git", "uv")),
            ),
            concurrency=2,
            handlers_of="diurna_agents.cicd.handlers",
        ),
        Member(
            "infrastructure",
            "Infrastructure",
            (
                ("deploy_service", "Installs a release, checks its health, switches to it, or goes back", ("uv",)),
                ("health_check", "Looks at the current release", ("health",)),
                ("rollback", "Makes an older release current again", ("release",)),
            ),
            concurrency=2,
            handlers_of="diurna_agents.infrastructure.handlers",
        ),
        Member("feature-dev", "Feature development", (("get_status", "Says how it is", ()),), concurrency=4),
        Member("documentation", "Documentation", (("get_status", "Says how it is", ()),), concurrency=4),
    )
}
"""The team, by agent id. What feature-dev and documentation will do beside answering is not there yet."""


def build(
    agent_id: str,
    *,
    workspace: Workspace,
    connection: Connection | None = None,
    settings: ClientSettings | None = None,
    port: int | None = 0,
) -> Agent:
    """One agent of the team, ready to run. Raises `InvalidInput` where there is none of this name."""
    member = MEMBERS.get(agent_id)
    if member is None:
        raise InvalidInput("agent", agent_id, f"the team is {', '.join(MEMBERS)}")
    agent = Agent(
        member.agent_id,
        agent_name=member.name,
        capabilities=member.as_capabilities(),
        concurrency=member.concurrency,
        connection=connection,
        settings=settings,
        port=port,
    )
    if member.handlers_of is not None:
        handlers: Mapping[str, Work] = import_module(member.handlers_of).HANDLERS
        for request_type, work in handlers.items():
            agent.on_request(request_type)(handler_of(work, workspace))
    return agent


def handler_of(
    work: Work, workspace: Workspace
) -> Callable[[AgentRequestEvent, Context], Awaitable[dict[str, object]]]:
    """A work function as a handler: its refusals become the answer "rejected", with its own words."""

    async def handle(request: AgentRequestEvent, context: Context) -> dict[str, object]:
        async def report(step: str, details: dict[str, object]) -> None:
            await context.report(step, details)

        told: Report = report
        try:
            return await work(request.payload, workspace=workspace, report=told)
        except Refused as error:
            raise Rejected(str(error)) from error

    return handle
