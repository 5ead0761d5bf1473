"""The six agents as they run: who they are, what they can do, and which work function answers which request."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from diurna import Agent, AgentCapability, AgentRequestEvent, AgentResponseEvent, AgentResponseStatus
from diurna.agent import Context
from diurna.connection import Connection
from diurna.redaction import Redactor
from diurna.settings import ClientSettings
from diurna_agents.surroundings import Answer, Handlers, Surroundings, Work
from diurna_agents.workspace import Report, Workspace
from diurna_schemas.errors import InvalidInput, Refused


@dataclass(frozen=True, slots=True)
class Member:
    """One agent of the team. `handlers_of` is the module that holds its `handlers`."""

    agent_id: str
    name: str
    capabilities: tuple[tuple[str, str, tuple[str, ...]], ...]
    concurrency: int
    handlers_of: str
    shutdown_seconds: float = 20.0
    """How long work that has begun may go on once the agent is told to stop."""

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
                (
                    "execute_task",
                    "Drives a workflow, or does a task by its subtasks",
                    ("workflow", "pr_deployment", "parallel_docs", "self_healing"),
                ),
                ("decompose_task", "Takes a task apart into requests that agents can do", ("plan", "template")),
                ("route_request", "Finds the agent for a request, by capability, health and load", ("registry",)),
                ("aggregate_results", "Joins results by a policy: all, majority, best effort", ("vote", "policy")),
                ("query_capability", "Says who can do something", ("registry", "search")),
            ),
            concurrency=100,
            handlers_of="diurna_agents.orchestrator.handlers",
            shutdown_seconds=1.0,  # a workflow may wait for days, and goes on with the next orchestrator
        ),
        Member(
            "code-review",
            "Code review",
            (
                ("review_code", "Reviews what a branch changes, by a stated policy", ("git", "ruff", "bandit")),
                ("diagnose_service", "Says why a service is ill, from what it said", ("service", "vote")),
            ),
            concurrency=4,
            handlers_of="diurna_agents.code_review",
        ),
        Member(
            "cicd",
            "Continuous integration",
            (
                ("run_pipeline", "Runs a repository's own tests in an isolated environment", ("git", "pytest", "uv")),
                (
                    "validate_build",
                    "Builds distributions, checks their metadata, installs them",
                    ("git", "uv", "wheel"),
                ),
                ("deploy_artifact", "Deploys a wheel or sdist that was built", ("wheel", "release")),
                ("diagnose_service", "Says why a service is ill, from what it is made of", ("service", "vote")),
            ),
            concurrency=2,
            handlers_of="diurna_agents.cicd.handlers",
        ),
        Member(
            "infrastructure",
            "Infrastructure",
            (
                ("deploy_service", "Installs a release, checks its health, switches to it, or goes back", ("uv",)),
                ("health_check", "Looks at the current release, or at declared services", ("health", "monitoring")),
                ("rollback", "Makes an older release current again", ("release",)),
                ("update_config", "Changes a configuration file, and takes back what does harm", ("toml", "yaml")),
                ("diagnose_service", "Says why a service is ill, from its process and checks", ("service", "vote")),
                ("restart_service", "Starts, stops and restarts declared services (execute_task)", ("service",)),
            ),
            concurrency=4,
            handlers_of="diurna_agents.infrastructure.handlers",
        ),
        Member(
            "feature-dev",
            "Feature development",
            (
                ("refactor_code", "Tidies code on a branch, with its tests before and after", ("git", "ruff")),
                ("generate_code", "Writes code for a task on a branch; needs a language model", ("git", "llm")),
                ("explain_code", "Tells the structure of code; a language model adds words", ("git", "syntax")),
            ),
            concurrency=4,
            handlers_of="diurna_agents.feature_dev",
        ),
        Member(
            "documentation",
            "Documentation",
            (
                ("generate_docs", "Writes API reference, user guide, deployment guide", ("git", "markdown", "griffe")),
                ("merge_docs", "Puts documents together into one site with an index", ("markdown",)),
                ("update_readme", "Brings sections of a README up to date on a branch", ("git", "markdown")),
            ),
            concurrency=4,
            handlers_of="diurna_agents.documentation.handlers",
        ),
    )
}
"""The team, by agent id."""


def member_of_team(agent_id: str) -> Member:
    """Raises `InvalidInput` where there is none of this name."""
    member = MEMBERS.get(agent_id)
    if member is None:
        raise InvalidInput("agent", agent_id, f"the team is {', '.join(MEMBERS)}")
    return member


def build(
    agent_id: str,
    *,
    workspace: Workspace,
    surroundings: Surroundings | None = None,
    instance_id: str | None = None,
    connection: Connection | None = None,
    settings: ClientSettings | None = None,
    host: str = "127.0.0.1",
    port: int | None = 0,
    base_url: str | None = None,
) -> Agent:
    """One agent of the team, ready to run. Raises `InvalidInput` where there is none of this name.

    Without `surroundings` it has its workspace and nothing else: no model, no registry to answer from.
    """
    given = surroundings or Surroundings()
    member = member_of_team(agent_id)
    agent = Agent(
        member.agent_id,
        agent_name=member.name,
        capabilities=member.as_capabilities(),
        concurrency=member.concurrency,
        shutdown_seconds=member.shutdown_seconds,
        redactor=Redactor.knowing(workspace.environment),
        instance_id=instance_id,
        connection=connection,
        settings=settings,
        host=host,
        port=port,
        base_url=base_url,
    )
    for request_type, work in handlers_of(member)(given).items():
        agent.on_request(request_type)(handler_of(work, workspace))
    return agent


def handlers_of(member: Member) -> Handlers:
    """What the member's module offers."""
    found: Handlers = import_module(member.handlers_of).handlers
    return found


def handler_of(
    work: Work, workspace: Workspace
) -> Callable[[AgentRequestEvent, Context], Awaitable[dict[str, Any] | AgentResponseEvent]]:
    """A work function as a handler: its refusals become the answer "rejected", with its own words and its code."""
    takes = inspect.signature(work).parameters

    async def handle(request: AgentRequestEvent, context: Context) -> dict[str, Any] | AgentResponseEvent:
        async def report(step: str, details: dict[str, object]) -> None:
            await context.report(step, details)

        told: Report = report
        known = {"request": request, "seconds": context.deadline_seconds}
        more = {name: value for name, value in known.items() if name in takes}
        try:
            answer = await work(request.payload, workspace=workspace, report=told, **more)
        except Refused as error:
            return _response(request, "rejected", error=str(error), metadata={"code": error.code})
        if isinstance(answer, Answer):
            return _response(request, answer.status, result=answer.result, error=answer.error)
        return answer

    return handle


def _response(request: AgentRequestEvent, status: str, **more: Any) -> AgentResponseEvent:
    return AgentResponseEvent(
        request_id=request.request_id,
        source_agent=request.target_agent,
        target_agent=request.source_agent,
        status=AgentResponseStatus(status),
        **more,
    )
