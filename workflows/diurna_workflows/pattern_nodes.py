"""The nodes of the ready-made workflows: a task each, what gathers many, and the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Send

from diurna_schemas.errors import InvalidInput
from diurna_workflows.agent_work import AgentWork
from diurna_workflows.approvals import Desk
from diurna_workflows.asking import Answer, Question
from diurna_workflows.journal import Journal, NoJournal
from diurna_workflows.observed import observed, observed_as
from diurna_workflows.pattern_tasks import ITEMS_MAX, AgentTask, Enough, Known
from diurna_workflows.ports import Bus
from diurna_workflows.state import JsonObject, MultiAgentState, utc_now
from diurna_workflows.steps import Update, written_down
from diurna_workflows.target_lock import Locks
from diurna_workflows.work import no_scope, task_scope

# pyright: reportUnknownMemberType=false
# LangGraph's annotations leave the element types of its caches and checkpointers open.

Graph = CompiledStateGraph[MultiAgentState, None, MultiAgentState, MultiAgentState]


class PatternNodes:
    """A graph that is being put together. Nobody is asked and nothing is held: `desk` and `locks` are not used."""

    def __init__(
        self,
        bus: Bus,
        *,
        enough: Enough,
        journal: Journal | None = None,
        desk: Desk | None = None,
        locks: Locks | None = None,
        checkpointer: BaseCheckpointSaver[Any] | None = None,
    ) -> None:
        del desk, locks
        self._journal = journal or NoJournal()
        self._agents = AgentWork(bus, self._journal, no_scope if checkpointer is None else task_scope)
        self._enough: Enough = enough
        self._checkpointer = checkpointer
        self._graph = StateGraph(MultiAgentState)
        self._graph.add_node("finish", self._finish)
        self._graph.add_edge("finish", END)

    def add(self, task: AgentTask, *, then: str, stops: bool = False) -> None:
        """A task, and what follows it; with `stops`, the end does where it was not done."""

        @observed_as(task.name)
        async def work(state: MultiAgentState) -> Update:
            answer = await self._done(state, task, task.name, _known(state))
            results = {} if answer.error is not None else {task.name: answer.result}
            return _told(task.name, task.agent_id, answer) | {"partial_results": results}

        self._graph.add_node(task.name, work)
        if stops and then != "finish":
            self._graph.add_conditional_edges(task.name, _unless_failed(task.name, then), [then, "finish"])
        else:
            self._graph.add_edge(task.name, then)

    def add_for_each(self, task: AgentTask, *, then: str) -> None:
        """A task that is begun with an item of its own."""

        @observed_as(task.name)
        async def work(state: MultiAgentState) -> Update:
            index, item = state["partial_results"]["index"], state["partial_results"]["item"]
            name = f"{task.name}-{index}"
            answer = await self._done(state, task, name, {**_known(state), "item": item})
            results = {} if answer.error is not None else {name: answer.result}
            return _told(name, task.agent_id, answer) | {"partial_results": results}

        self._graph.add_node(task.name, work)
        self._graph.add_edge(task.name, then)

    def add_gathering(self, task: AgentTask, *, then: str, enough: Enough) -> None:
        """What makes one list of all items' results, and ends it where too few were done."""

        @observed_as("gather")
        async def gather(state: MultiAgentState) -> Update:
            count = int(state["partial_results"]["count"])
            found = [state["partial_results"].get(f"{task.name}-{index}") for index in range(count)]
            return {"partial_results": {task.name: found}, "updated_at": utc_now()}

        def onwards(state: MultiAgentState) -> str:
            done = [one is not None for one in state["partial_results"][task.name]]
            is_enough = all(done) if enough == "all" else any(done)
            return then if is_enough else "finish"

        self._graph.add_node("gather", gather)
        self._graph.add_conditional_edges("gather", onwards, list({then, "finish"}))

    def begin_with(self, choose: Callable[[MultiAgentState], Any], targets: list[str]) -> None:
        """What comes first."""
        self._graph.add_conditional_edges(START, choose, targets)

    def begin_for_each(self, task: AgentTask, over: Callable[[Known], Sequence[Any]]) -> None:
        """Counts the items and begins the task with each; without any, what gathers them comes at once."""

        @observed
        async def plan(state: MultiAgentState) -> Update:
            items = list(over(_known(state)))
            if len(items) > ITEMS_MAX:
                raise InvalidInput("over", len(items), f"at most {ITEMS_MAX} items are taken")
            return {"partial_results": {"items": items, "count": len(items)}, "updated_at": utc_now()}

        def begin(state: MultiAgentState) -> list[Send] | str:
            results = state["partial_results"]
            sends = [
                Send(task.name, {**state, "partial_results": {**results, "index": index, "item": item}})
                for index, item in enumerate(results["items"])
            ]
            return sends or "gather"

        self._graph.add_node("plan", plan)
        self._graph.add_edge(START, "plan")
        self._graph.add_conditional_edges("plan", cast("Any", begin), [task.name, "gather"])

    def compiled(self) -> Graph:
        """The graph."""
        return self._graph.compile(checkpointer=self._checkpointer)

    async def _done(self, state: MultiAgentState, task: AgentTask, name: str, known: Known) -> Answer:
        question = Question(name, task.agent_id, task.request_type, dict(task.payload(known)), task.timeout_seconds)
        return await self._agents.done(state["task_id"], question)

    @observed
    async def _finish(self, state: MultiAgentState) -> Update:
        final = _final_result(state, self._enough)
        return await written_down(self._journal, final, final["status"], is_well=final["success"])


def _unless_failed(name: str, then: str) -> Callable[[MultiAgentState], str]:
    def choose(state: MultiAgentState) -> str:
        return then if state["subtask_status"].get(name) == "completed" else "finish"

    return choose


def _known(state: MultiAgentState) -> Known:
    return dict(state["partial_results"])


def _told(name: str, agent_id: str, answer: Answer) -> Update:
    is_done = answer.error is None
    return {
        "subtask_status": {name: "completed" if is_done else "failed"},
        "agent_assignments": {name: agent_id},
        "agent_status": {agent_id: "success" if is_done else "error"},
        "error_log": [] if is_done else [f"{name}: {answer.error}"],
        "updated_at": utc_now(),
    }


def _final_result(state: MultiAgentState, enough: Enough) -> JsonObject:
    errors = state["error_log"]
    is_any_done = "completed" in state["subtask_status"].values()
    status = "completed" if not errors else "partial" if enough == "any" and is_any_done else "failed"
    own = {"items", "count"}
    results = {name: value for name, value in state["partial_results"].items() if name not in own}
    return {
        "workflow_id": state["task_id"],
        "workflow_type": state["workflow_type"],
        "status": status,
        "success": status != "failed",
        "reason": "; ".join(errors) or "all was done",
        "results": results,
        "errors": errors,
    }
