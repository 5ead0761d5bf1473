"""Self-healing: detect, diagnose with several agents at once, fix under a lock, verify; at last ask a person.

`final_result["status"]` says how it ended, `final_result["is_resolved"]` whether the service is well:

- `healthy`: nothing was wrong
- `healed`: it was ill, and a look at it after the fix, or after a person's, says that it is well
- `unresolved`: it is ill still; a person was asked and does not want another round, or nobody was to be asked
- `failed`: the service could not be looked at: it is not declared, say

An attempt is a fix and the look after it; what could not be done, or is not known to have been done, counts as one. A
round has at most `attempts` of them, the wait before each twice as long as before. Then a person is asked; each yes is
another round, which begins with a look: the person may have healed it by hand.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from diurna_schemas.errors import InvalidInput, NotFound
from diurna_workflows.agent_work import AgentWork
from diurna_workflows.approvals import BusDesk, Desk, Matter, People
from diurna_workflows.asking import Answer, Question
from diurna_workflows.healing_input import SelfHealingInput
from diurna_workflows.healing_result import final_result, tried
from diurna_workflows.journal import Journal, NoJournal
from diurna_workflows.observed import observed, observed_as
from diurna_workflows.policy import Decision
from diurna_workflows.ports import Bus
from diurna_workflows.state import JsonObject, MultiAgentState, Node, utc_now
from diurna_workflows.steps import Update, ended, planned, written_down
from diurna_workflows.target_lock import Locks, resource_of
from diurna_workflows.votes import merged_votes
from diurna_workflows.work import no_scope, task_scope

# pyright: reportUnknownMemberType=false
# LangGraph's annotations leave the element types of its caches and checkpointers open.

Graph = CompiledStateGraph[MultiAgentState, None, MultiAgentState, MultiAgentState]

HEALER: Final = "infrastructure"
_ended: Final = partial(ended, "healing_status", next="finish")
DIAGNOSTICIANS: Final = ("infrastructure", "cicd", "code-review")
"""The process and its checks; what it is made of; what it said."""
_NO_SUCH_SERVICE: Final = frozenset({InvalidInput.code, NotFound.code})
"""Refusals that will be the same next time; an agent that is offline may be back by then."""
_LOOK_SECONDS: Final = 120.0
_DIAGNOSIS_SECONDS: Final = 120.0
_FIX_SECONDS: Final = 900.0
"""Stopping, starting, and until it is healthy, as a service may declare them; and the wait for another task on it."""


def build_self_healing(
    bus: Bus,
    *,
    journal: Journal | None = None,
    desk: Desk | None = None,
    locks: Locks | None = None,
    checkpointer: BaseCheckpointSaver[Any] | None = None,
) -> Graph:
    """The compiled graph. `locks` hold the service while it is fixed; `desk` hears what a person decides."""
    told = journal or NoJournal()
    scope = no_scope if checkpointer is None else task_scope
    people = People(desk or BusDesk(bus), told, interrupts=checkpointer is not None)
    nodes = _Nodes(AgentWork(bus, told, scope), told, people, locks)
    graph = StateGraph(MultiAgentState)
    graph.add_node("plan", nodes.plan)
    graph.add_node("detect", nodes.detect)
    for agent in DIAGNOSTICIANS:
        graph.add_node(_diagnosis_by(agent), nodes.diagnosis(agent))
        graph.add_edge(_diagnosis_by(agent), "vote")
    graph.add_node("vote", nodes.vote)
    graph.add_node("fix", nodes.fix)
    graph.add_node("verify", nodes.verify)
    graph.add_node("wait", nodes.wait)
    graph.add_node("escalate", nodes.escalate)
    graph.add_node("finish", nodes.finish)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", _next, ["detect", "finish"])
    graph.add_conditional_edges("detect", _next, [*map(_diagnosis_by, DIAGNOSTICIANS), "wait", "escalate", "finish"])
    graph.add_conditional_edges("vote", _next, ["fix", "verify", "escalate"])
    graph.add_edge("fix", "verify")
    graph.add_conditional_edges("verify", _next, ["wait", "escalate", "finish"])
    graph.add_edge("wait", "detect")
    graph.add_conditional_edges("escalate", _next, ["detect", "finish"])
    graph.add_edge("finish", END)
    return graph.compile(checkpointer=checkpointer)


def _diagnosis_by(agent: str) -> str:
    return f"diagnose_{agent.replace('-', '_')}"


def _next(state: MultiAgentState) -> list[str]:
    """Each node says under `next` where the way leads."""
    following = str(state["partial_results"]["next"])
    return list(map(_diagnosis_by, DIAGNOSTICIANS)) if following == "diagnose" else [following]


class _Nodes:
    """The steps. Each returns what it adds to the state; a `healing_status` in it is the end."""

    def __init__(self, agents: AgentWork, journal: Journal, people: People, locks: Locks | None) -> None:
        self._agents = agents
        self._journal = journal
        self._people = people
        self._locks = locks

    @observed
    async def plan(self, state: MultiAgentState) -> Update:
        """Reads the input and lays out the steps."""
        try:
            given = SelfHealingInput.read(state["partial_results"].get("input"))
        except InvalidInput as error:
            return _ended("plan", "failed", str(error), error=str(error))
        subtasks: list[JsonObject] = [
            {"id": "detect", "agent": HEALER, "type": "health_check"},
            *({"id": _diagnosis_by(agent), "agent": agent, "type": "diagnose_service"} for agent in DIAGNOSTICIANS),
            {"id": "fix", "agent": HEALER, "type": "execute_task"},
            {"id": "verify", "agent": HEALER, "type": "health_check"},
        ]
        understood = given.model_dump(mode="json", exclude_none=True)
        return planned(subtasks, understood, round=1, attempt=0, attempts=[], next="detect")

    @observed
    async def detect(self, state: MultiAgentState) -> Update:
        """Looks at the service. Where it is ill: how its process stands and what it said, for the diagnosis."""
        given = _input(state)
        answer = await self._look(state, "detect", given)
        if answer.error is not None:
            if answer.code in _NO_SUCH_SERVICE:
                return _ended("detect", "failed", answer.error, error=answer.error)
            return _counted(state, given, "detect", {"error": answer.error}, answer.error)
        issues = answer.result.get("issues", [])
        if not issues:
            was_ill = bool(state["partial_results"].get("issues"))
            reason = "it is well again" if was_ill else "nothing is wrong"
            return _ended("detect", "healed" if was_ill else "healthy", reason, result=answer.result)
        payload = {"task": "service_status", "service": given.service, **given.place}
        standing = await self._agents.asked(
            state["task_id"], Question("examine", HEALER, "execute_task", payload, _LOOK_SECONDS)
        )
        return {
            "subtask_status": {"detect": "completed"},
            "agent_status": {HEALER: "success"},
            "partial_results": {
                "detect": answer.result,
                "issues": issues,
                "examine": standing.result,  # without it, fewer agents have something to say
                "next": "diagnose",
            },
            "updated_at": utc_now(),
        }

    def diagnosis(self, agent: str) -> Node:
        """The node in which one agent says why the service is ill."""
        name = _diagnosis_by(agent)

        @observed_as(name)
        async def diagnose(state: MultiAgentState) -> Update:
            given, known = _input(state), state["partial_results"]["examine"]
            payload = {
                "service": given.service,
                **given.place,
                "issues": state["partial_results"]["issues"],
                "standing": known.get("after"),
                "declared": known.get("declared"),
                "output": known.get("output", ""),
            }
            question = Question(name, agent, "diagnose_service", payload, _DIAGNOSIS_SECONDS)
            answer = await self._agents.done(state["task_id"], question)
            return {
                "subtask_status": {name: "completed" if answer.error is None else "failed"},
                "agent_status": {agent: "success" if answer.error is None else "error"},
                "partial_results": {name: answer.result},
                "error_log": [] if answer.error is None else [f"{name}: {answer.error}"],
                "updated_at": utc_now(),
            }

        return diagnose

    @observed
    async def vote(self, state: MultiAgentState) -> Update:
        """Merges the diagnoses into one remedy."""
        found = merged_votes({agent: state["partial_results"][_diagnosis_by(agent)] for agent in DIAGNOSTICIANS})
        await self._journal.state("vote", {"diagnosis": found}, "orchestrator")
        following = {"none": "verify", "restart_service": "fix", "ask_person": "escalate"}[found["remedy"]]
        return {
            "partial_results": {
                "diagnosis": found,
                "fix": {},
                "reason": found["diagnosis"],
                "next": following,
            },
            "updated_at": utc_now(),
        }

    @observed
    async def fix(self, state: MultiAgentState) -> Update:
        """Has the service restarted, while it is held; the infrastructure agent refuses a token that was overtaken."""
        given = _input(state)
        payload: JsonObject = {"task": "restart_service", "service": given.service, **given.place}
        question = Question("fix", HEALER, "execute_task", payload, _FIX_SECONDS)
        reason = f"heals {given.service}: {state['partial_results']['diagnosis']['diagnosis']}"[:200]
        answer, held = await self._agents.done_holding(
            state["task_id"], question, self._locks, resource_of(given.service, "service"), reason=reason
        )
        done = answer.error is None and answer.result.get("done") is not False
        return {
            "subtask_status": {"fix": "completed" if done else "failed"},
            "agent_status": {HEALER: "success" if done else "error"},
            "locks": held,
            "partial_results": {"fix": {**answer.result, "done": done, "error": answer.error}},
            "error_log": [] if answer.error is None else [f"fix: {answer.error}"],
            "updated_at": utc_now(),
        }

    @observed
    async def verify(self, state: MultiAgentState) -> Update:
        """Looks again, whatever the fix said of itself."""
        given = _input(state)
        answer = await self._look(state, "verify", given)
        issues = answer.result.get("issues", [])
        if answer.error is None and not issues:
            ended = _ended(
                "verify", "healed", f"{state['partial_results']['diagnosis']['diagnosis']}: it is well again"
            )
            ended["partial_results"] |= {"verify": answer.result, "attempts": tried(state, "healed")}
            return ended
        reason = answer.error or "; ".join(f"{one.get('check')}: {one.get('detail')}" for one in issues)
        return _counted(state, given, "verify", answer.result, f"it is ill still: {reason}")

    @observed
    async def wait(self, state: MultiAgentState) -> Update:
        """Lets time pass before the next attempt: twice as much each time."""
        seconds = _input(state).wait_seconds(int(state["partial_results"]["attempt"]))
        await self._journal.step("wait", "orchestrator")
        await asyncio.sleep(seconds)
        return {"partial_results": {"waited_seconds": seconds}, "updated_at": utc_now()}

    @observed
    async def escalate(self, state: MultiAgentState) -> Update:
        """Asks a person whether to try again. Yes is another round; no, or nobody in time, is the end."""
        given, results = _input(state), state["partial_results"]
        decision = Decision(False, "policy-never", "nobody is to be asked")
        if given.escalate == "human":
            decision = await self._people.decide(_matter(state, given))
        # Written after the answer: a node that asks is run again when it is there.
        await self._journal.state("escalate", {"escalation": decision.as_json()}, "orchestrator")
        if decision.is_approved:
            update = {"round": int(results["round"]) + 1, "attempt": 0, "next": "detect"}
            return {"partial_results": {**update, "escalation": decision.as_json()}, "updated_at": utc_now()}
        ended = _ended("escalate", "unresolved", f"{results['reason']}; {decision.decided_by}: {decision.reason}")
        ended["partial_results"]["escalation"] = decision.as_json()
        return ended

    @observed
    async def finish(self, state: MultiAgentState) -> Update:
        """Says how it ended, and writes it down."""
        final = final_result(state)
        return await written_down(self._journal, final, final["status"], is_well=final["is_resolved"])

    async def _look(self, state: MultiAgentState, node: str, given: SelfHealingInput) -> Answer:
        payload = {"names": [given.service], **given.place}
        return await self._agents.done(state["task_id"], Question(node, HEALER, "health_check", payload, _LOOK_SECONDS))


def _counted(state: MultiAgentState, given: SelfHealingInput, node: str, result: JsonObject, reason: str) -> Update:
    """An attempt that did not help: another one, or a person."""
    attempt = int(state["partial_results"]["attempt"]) + 1
    return {
        "subtask_status": {node: "failed"},
        "partial_results": {
            node: result,
            "attempt": attempt,
            "attempts": tried(state, reason),
            "reason": reason,
            "next": "escalate" if attempt >= given.attempts else "wait",
        },
        "error_log": [f"{node}: {reason}"],
        "updated_at": utc_now(),
    }


def _matter(state: MultiAgentState, given: SelfHealingInput) -> Matter:
    results = state["partial_results"]
    expires_after = given.approval_timeout_seconds
    return Matter(
        f"escalation-{results['round']}",
        "escalate",
        f"{given.service} is ill ({results['reason']}). Try again?",
        {"service": given.service, "round": results["round"], "diagnosis": results.get("diagnosis")},
        given.approval_roles,
        None if expires_after is None else int(expires_after * 1000),
    )


def _input(state: MultiAgentState) -> SelfHealingInput:
    return SelfHealingInput.read(state["partial_results"]["input"])
