"""The PR deployment: review, then test, then approval, then deploy; each end told as it was.

`partial_results["deployment_status"]` and `final_result["deployment_status"]` say how it ended:

- `deployed`: reviewed, tested, approved, installed, healthy, and switched to
- `rejected_by_review`, `tests_failed`, `approval_rejected`, `approval_expired`: an answer; nothing was touched
- `rolled_back`: the new release was not healthy, and what ran before runs again
- `failed`: a part could not do its work, or it is unknown whether it did
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, cast

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from diurna_schemas.errors import InvalidInput
from diurna_workflows.agent_work import AgentWork
from diurna_workflows.approvals import BusDesk, Desk, Matter, People
from diurna_workflows.asking import Answer, Question
from diurna_workflows.journal import Journal, NoJournal
from diurna_workflows.observed import observed
from diurna_workflows.policy import Decision, risk_of
from diurna_workflows.ports import Bus
from diurna_workflows.pr_input import PrDeploymentInput, decided_by_policy
from diurna_workflows.state import JsonObject, MultiAgentState, utc_now
from diurna_workflows.steps import Update, ended, planned, written_down
from diurna_workflows.target_lock import Locks, resource_of
from diurna_workflows.work import no_scope, task_scope

# pyright: reportUnknownMemberType=false
# LangGraph's annotations leave the element types of its caches and checkpointers open.

Graph = CompiledStateGraph[MultiAgentState, None, MultiAgentState, MultiAgentState]
_ENDS_WELL: Final = frozenset(
    {"deployed", "rejected_by_review", "tests_failed", "approval_rejected", "approval_expired"}
)
"""The ends at which the workflow did what it is there for: an honest no is one."""
_ended: Final = partial(ended, "deployment_status")
_ENVIRONMENT_SECONDS: Final = 900.0
"""How long the cicd agent may need to build the environment the tests run in."""
_DEPLOY_SECONDS: Final = 1_500.0
"""Building and installing, its checks, and the wait for another deployment to the same directory."""
_REVIEW_SECONDS: Final = 600.0


def build_pr_deployment(
    bus: Bus,
    *,
    journal: Journal | None = None,
    desk: Desk | None = None,
    locks: Locks | None = None,
    checkpointer: BaseCheckpointSaver[Any] | None = None,
) -> Graph:
    """The compiled graph.

    `bus` reaches the agents, `journal` writes the facts, `desk` hears people's decisions, `locks` hold the target while
    it is deployed to. With a `checkpointer` a run that was stopped goes on where it was.
    """
    scope = no_scope if checkpointer is None else task_scope
    told = journal or NoJournal()
    people = People(desk or BusDesk(bus), told, interrupts=checkpointer is not None)
    nodes = _Nodes(AgentWork(bus, told, scope), told, people, locks)
    graph = StateGraph(MultiAgentState)
    graph.add_node("plan", nodes.plan)
    graph.add_node("review", nodes.review)
    graph.add_node("test", nodes.test)
    graph.add_node("approval", nodes.approval)
    graph.add_node("deploy", nodes.deploy)
    graph.add_node("finish", nodes.finish)
    graph.add_edge(START, "plan")
    for node, following in (("plan", "review"), ("review", "test"), ("test", "approval"), ("approval", "deploy")):
        graph.add_conditional_edges(node, _onwards_to(following), [following, "finish"])
    graph.add_edge("deploy", "finish")
    graph.add_edge("finish", END)
    return graph.compile(checkpointer=checkpointer)


def _onwards_to(following: str) -> Any:
    def choose(state: MultiAgentState) -> str:
        return "finish" if "deployment_status" in state["partial_results"] else following

    return choose


class _Nodes:
    """The steps. Each returns what it adds to the state; a `deployment_status` in it is the end."""

    def __init__(self, agents: AgentWork, journal: Journal, people: People, locks: Locks | None) -> None:
        self._agents = agents
        self._journal = journal
        self._people = people
        self._locks = locks

    @observed
    async def plan(self, state: MultiAgentState) -> Update:
        """Reads the input and lays out the steps."""
        try:
            given = PrDeploymentInput.read(state["partial_results"].get("input"))
        except InvalidInput as error:
            return _ended("plan", "failed", str(error), error=str(error))
        subtasks: list[JsonObject] = [
            {"id": "review", "agent": "code-review", "type": "review_code"},
            {"id": "test", "agent": "cicd", "type": "run_pipeline"},
            {"id": "approval", "agent": given.policy, "type": "approval"},
            {"id": "deploy", "agent": "infrastructure", "type": "deploy_service"},
        ]
        return planned(subtasks, given.model_dump(mode="json", exclude_none=True))

    @observed
    async def review(self, state: MultiAgentState) -> Update:
        """Has the change reviewed. From here on `head` is the commit that was reviewed."""
        given = _input(state)
        payload = {"repo": given.repo, "base": given.base, "head": given.head, **_optional("policy", given.review)}
        question = Question("review", "code-review", "review_code", payload, _REVIEW_SECONDS)
        answer = await self._agents.done(state["task_id"], question)
        if answer.error is not None:
            return _failed(question, answer)
        if answer.result.get("approved") is not True:
            reason = str(answer.result.get("summary") or "the review requests changes")
            return _ended("review", "rejected_by_review", reason, agent=question.agent_id, result=answer.result)
        return _done("review", question.agent_id, answer.result)

    @observed
    async def test(self, state: MultiAgentState) -> Update:
        """Has the repository's own tests run. A repository without tests goes on to the approval, which knows."""
        given = _input(state)
        payload = {
            "repo": given.repo,
            "head": _reviewed_head(state),
            "timeout_seconds": given.test_timeout_seconds,
            **_optional("test_command", given.test_command),
        }
        patience = given.test_timeout_seconds + _ENVIRONMENT_SECONDS
        question = Question("test", "cicd", "run_pipeline", payload, patience)
        answer = await self._agents.done(state["task_id"], question)
        if answer.error is not None:
            return _failed(question, answer)
        outcome = str(answer.result.get("outcome", "unknown"))
        if answer.result.get("passed") is not True and outcome != "no_tests":
            return _ended(
                "test", "tests_failed", _tests_in_words(answer.result), agent=question.agent_id, result=answer.result
            )
        return _done("test", question.agent_id, answer.result)

    @observed
    async def approval(self, state: MultiAgentState) -> Update:
        """Has the deployment approved, by a policy or by a person; the question and the decision are facts."""
        given = _input(state)
        results = state["partial_results"]
        decision = await self._decided(state, given)
        update = _done("approval", decision.decided_by, decision.as_json(), is_agent=False)
        await self._journal.state("approval", {"approval": decision.as_json()})
        if not decision.is_approved:
            status = "approval_expired" if decision.decided_by == "expired" else "approval_rejected"
            reason = decision.reason or f"rejected by {decision.decided_by}"
            return _ended("approval", status, reason, result={**results.get("approval", {}), **decision.as_json()})
        return update

    @observed
    async def deploy(self, state: MultiAgentState) -> Update:
        """Has the reviewed commit installed, checked and switched to, while the target is held."""
        given, head = _input(state), _reviewed_head(state)
        payload = {
            "repo": given.repo,
            "head": head,
            "deploy_to": given.deploy_to,
            **_optional("service", given.service),
            **_optional("health", given.health),
            **_optional("keep", given.keep),
        }
        question = Question("deploy", "infrastructure", "deploy_service", payload, _DEPLOY_SECONDS)
        reason = f"deploys {head[:12]} of {given.repo}"
        answer, held = await self._agents.done_holding(
            state["task_id"], question, self._locks, resource_of(given.deploy_to), reason=reason
        )
        if answer.error is not None:
            return _failed(question, answer) | {"locks": held}
        status = str(answer.result.get("deployment_status", "failed"))
        if status not in {"deployed", "rolled_back"}:
            status = "failed"
        reason = str(answer.result.get("detail") or _DEPLOYED_WORDS[status])
        ended = _ended("deploy", status, reason, agent=question.agent_id, result=answer.result) | {"locks": held}
        if status != "deployed":
            ended["error_log"] = [f"deploy: {reason}"]
        return ended

    @observed
    async def finish(self, state: MultiAgentState) -> Update:
        """Says how it ended, and writes it down."""
        final = _final_result(state)
        status = final["deployment_status"]
        return await written_down(self._journal, final, status, is_well=status in _ENDS_WELL)

    async def _decided(self, state: MultiAgentState, given: PrDeploymentInput) -> Decision:
        results = state["partial_results"]
        decision = decided_by_policy(given, results.get("review", {}), results.get("test", {}))
        matter = _matter(state, given)
        if decision is None:
            return await self._people.decide(matter)
        # A policy has no roles: those that are asked for are for people.
        approval_id = await self._journal.ask_approval(replace(matter, roles=()))
        await self._journal.decide(approval_id, decision)
        return decision


_DEPLOYED_WORDS: Final = {
    "deployed": "the new release is healthy and current",
    "rolled_back": "the new release was not healthy; what ran before runs again",
    "failed": "the release could not be made",
}


def _matter(state: MultiAgentState, given: PrDeploymentInput) -> Matter:
    review, tests = state["partial_results"].get("review", {}), state["partial_results"].get("test", {})
    expires_after = given.approval_timeout_seconds
    risk = risk_of(review, tests)
    return Matter(
        "approval",
        "approval",
        f"Deploy {_reviewed_head(state)[:12]} of {given.repo} to {given.deploy_to}?",
        {
            "policy": given.policy,
            "review": review.get("summary"),
            "test": _tests_in_words(tests),
            "risk": risk.level,
            "risk_reasons": list(risk.reasons),
        },
        given.approval_roles,
        None if expires_after is None else int(expires_after * 1000),
    )


def _input(state: MultiAgentState) -> PrDeploymentInput:
    return PrDeploymentInput.read(state["partial_results"]["input"])


def _reviewed_head(state: MultiAgentState) -> str:
    """The commit that was reviewed: a branch may have moved on since."""
    review = state["partial_results"].get("review", {})
    return str(review.get("head") or _input(state).head)


def _optional(name: str, value: object) -> dict[str, object]:
    return {} if value is None else {name: value}


def _done(node: str, agent: str, result: Mapping[str, Any], *, is_agent: bool = True) -> Update:
    return {
        "subtask_status": {node: "completed"},
        "agent_status": {agent: "success"} if is_agent else {},
        "partial_results": {node: dict(result)},
        "updated_at": utc_now(),
    }


def _failed(question: Question, answer: Answer) -> Update:
    reason = answer.error or "no reason was given"
    if not answer.is_known:
        reason = f"{reason}; whether it was done is unknown"
    return _ended(question.node, "failed", reason, agent=question.agent_id, error=reason)


def _tests_in_words(result: Mapping[str, Any]) -> str:
    """The outcome, and why it is no better; the counts where any were counted."""
    outcome = str(result.get("outcome", "unknown"))
    counted = ("tests", "failures", "errors", "skipped")
    counts = ", ".join(f"{result[name]} {name}" for name in counted if result.get(name) is not None)
    reason = "" if result.get("passed") is True else str(result.get("reason") or "")
    told = f"{reason} ({counts})" if reason and counts else reason or counts
    return f"{outcome}: {told}" if told else outcome


def _final_result(state: MultiAgentState) -> JsonObject:
    results = state["partial_results"]
    found = results.get("input")
    given = cast("JsonObject", found) if isinstance(found, dict) else {}
    deploy: JsonObject = results.get("deploy", {})
    status = results.get("deployment_status", "failed")
    return {
        "workflow_id": state["task_id"],
        "workflow_type": state["workflow_type"],
        "status": status,
        "deployment_status": status,
        "success": status == "deployed",
        "reason": results.get("reason", ""),
        "ended_at": results.get("ended_at"),
        "repo": given.get("repo"),
        "base": given.get("base"),
        "head": given.get("head"),
        "commit": results.get("review", {}).get("head"),
        "deploy_to": given.get("deploy_to"),
        **{
            name: deploy[name]
            for name in ("service", "version", "release", "previous", "current", "health")
            if name in deploy
        },
        "review": results.get("review", {}).get("summary"),
        "test": _tests_in_words(results["test"]) if "test" in results else None,
        "approval": results.get("approval"),
        "errors": state["error_log"],
    }
