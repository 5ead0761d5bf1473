"""Parallel documentation: three documents made side by side, then put together as one site with an index.

Each document ends as `made`, `absent` (the repository holds nothing it could be made from) or `failed`; a document that
fails does not stop the others. `partial_results["docs_status"]` and `final_result["status"]` say how it ended:

- `documented`: the site is there, with all that could be made from the repository
- `partial`: a document failed and `on_failure` is `publish`: the site is there without it, and says so
- `refused`: a document failed and `on_failure` is `refuse`: the site is as it was
- `failed`: no document was made, or the site could not be put together
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, cast

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from diurna_agents.documentation.site import draft_folder
from diurna_schemas.errors import InvalidInput
from diurna_workflows.agent_work import AgentWork
from diurna_workflows.approvals import Desk
from diurna_workflows.asking import Answer, Question
from diurna_workflows.docs_input import DOCUMENTS, DocumentName, ParallelDocsInput
from diurna_workflows.journal import Journal, NoJournal
from diurna_workflows.observed import observed, observed_as
from diurna_workflows.ports import Bus
from diurna_workflows.state import JsonObject, MultiAgentState, Node, utc_now
from diurna_workflows.steps import Update, ended, planned, written_down
from diurna_workflows.target_lock import Locks, resource_of
from diurna_workflows.work import no_scope, task_scope

# pyright: reportUnknownMemberType=false
# LangGraph's annotations leave the element types of its caches and checkpointers open.

Graph = CompiledStateGraph[MultiAgentState, None, MultiAgentState, MultiAgentState]

AGENT: Final = "documentation"
_NOTHING_THERE: Final = "nothing_to_document"
_PATIENCE_SECONDS: Final = 60.0
"""For the checkout and the writing, beside what the making may take."""
_MERGE_SECONDS: Final = 120.0
_ENDS_WELL: Final = frozenset({"documented", "partial", "refused"})
"""The ends at which the workflow did what its policy says."""
_ended: Final = partial(ended, "docs_status")


def build_parallel_docs(
    bus: Bus,
    *,
    journal: Journal | None = None,
    desk: Desk | None = None,
    locks: Locks | None = None,
    checkpointer: BaseCheckpointSaver[Any] | None = None,
) -> Graph:
    """The compiled graph. `locks` hold the site while it is published; nobody is asked, so `desk` is not used."""
    del desk
    told = journal or NoJournal()
    scope = no_scope if checkpointer is None else task_scope
    nodes = _Nodes(AgentWork(bus, told, scope), told, locks)
    graph = StateGraph(MultiAgentState)
    graph.add_node("plan", nodes.plan)
    for name in DOCUMENTS:
        graph.add_node(name, nodes.document(name))
        graph.add_edge(name, "merge")
    graph.add_node("merge", nodes.merge)
    graph.add_node("finish", nodes.finish)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", _to_the_documents, [*DOCUMENTS, "finish"])
    graph.add_edge("merge", "finish")
    graph.add_edge("finish", END)
    return graph.compile(checkpointer=checkpointer)


def _to_the_documents(state: MultiAgentState) -> list[str]:
    if "docs_status" in state["partial_results"]:
        return ["finish"]
    return [str(task["id"]) for task in state["subtasks"]]


class _Nodes:
    """The steps. Each returns what it adds to the state; a `docs_status` in it is the end."""

    def __init__(self, agents: AgentWork, journal: Journal, locks: Locks | None) -> None:
        self._agents = agents
        self._journal = journal
        self._locks = locks

    @observed
    async def plan(self, state: MultiAgentState) -> Update:
        """Reads the input and lays out one subtask a document; subtasks that were given name the documents."""
        try:
            given = ParallelDocsInput.read(state["partial_results"].get("input"))
            names = _wanted(state["subtasks"], given)
        except InvalidInput as error:
            return _ended("plan", "failed", str(error), error=str(error))
        subtasks: list[JsonObject] = [
            {"id": name, "agent": AGENT, "type": "generate_docs", "kind": DOCUMENTS[name].kind} for name in names
        ]
        merge: JsonObject = {"id": "merge", "agent": AGENT}
        plan = planned([*subtasks, merge], given.model_dump(mode="json", exclude_none=True))
        return plan | {"subtasks": subtasks}  # which documents: that they are merged goes without saying

    def document(self, name: DocumentName) -> Node:
        """The node that has one document made, as a draft beside the site."""

        @observed_as(name)
        async def make(state: MultiAgentState) -> Update:
            given = _input(state)
            payload = {
                "repo": given.repo,
                "head": given.head,
                "kind": DOCUMENTS[name].kind,
                "output": draft_folder(given.site, state["task_id"], name),
                "prose": given.prose,
                "timeout_seconds": given.timeout_seconds,
            }
            question = Question(name, AGENT, "generate_docs", payload, given.timeout_seconds + _PATIENCE_SECONDS)
            answer = await self._agents.done(state["task_id"], question)
            status = _status_of(answer)
            return {
                "subtask_status": {name: {"made": "completed", "absent": "skipped", "failed": "failed"}[status]},
                "agent_status": {AGENT: "error"} if status == "failed" else {},
                "partial_results": {name: {**answer.result, "status": status, "reason": answer.error}},
                "error_log": [f"{name}: {answer.error}"] if status == "failed" else [],
                "updated_at": utc_now(),
            }

        return make

    @observed
    async def merge(self, state: MultiAgentState) -> Update:
        """Has the drafts published as one site, or thrown away, by the policy; the site is held meanwhile."""
        given = _input(state)
        status, reason = _verdict(state, given)
        publish = status in {"documented", "partial"}
        payload = {**_site(state, given), "publish": publish}
        question = Question("merge", AGENT, "merge_docs", payload, _MERGE_SECONDS)
        answer, held = await self._agents.done_holding(
            state["task_id"], question, self._locks, resource_of(given.site, "docs"), reason=f"publishes {given.site}"
        )
        if answer.error is not None and publish:
            unknown = "" if answer.is_known else "; whether the site was changed is unknown"
            reason = f"{answer.error}{unknown}"
            return _ended("merge", "failed", reason, agent=AGENT, error=answer.error) | {"locks": held}
        return _ended("merge", status, reason, agent=AGENT, result=answer.result) | {"locks": held}

    @observed
    async def finish(self, state: MultiAgentState) -> Update:
        """Says how it ended, and writes it down."""
        final = _final_result(state)
        status = final["status"]
        return await written_down(self._journal, final, status, is_well=status in _ENDS_WELL)


def _wanted(subtasks: list[JsonObject], given: ParallelDocsInput) -> list[DocumentName]:
    if not subtasks:
        return [name for name in DOCUMENTS if name in given.documents]
    asked = [task.get("id") for task in subtasks]
    for name in asked:
        if name not in DOCUMENTS:
            raise InvalidInput("subtasks", name, f"the documents are {', '.join(DOCUMENTS)}")
    return [name for name in DOCUMENTS if name in asked]


def _status_of(answer: Answer) -> str:
    if answer.error is None:
        return "made"
    return "absent" if answer.code == _NOTHING_THERE else "failed"


def _input(state: MultiAgentState) -> ParallelDocsInput:
    return ParallelDocsInput.read(state["partial_results"]["input"])


def _documents(state: MultiAgentState) -> dict[DocumentName, JsonObject]:
    return {name: state["partial_results"][name] for name in DOCUMENTS if name in state["partial_results"]}


def _verdict(state: MultiAgentState, given: ParallelDocsInput) -> tuple[str, str]:
    """How it ends, by the policy, before anything is published."""
    found = _documents(state)
    made = [name for name, one in found.items() if one["status"] == "made"]
    failed = [f"{name}: {one['reason']}" for name, one in found.items() if one["status"] == "failed"]
    if not made:
        return "failed", "; ".join(failed) or "the repository holds nothing a document could be made from"
    if not failed:
        absent = [name for name, one in found.items() if one["status"] == "absent"]
        return "documented", ", ".join(made) + (f"; nothing to make {', '.join(absent)} from" if absent else "")
    if given.on_failure == "refuse":
        return "refused", f"nothing was published: {'; '.join(failed)}"
    return "partial", f"published without {'; '.join(failed)}"


def _site(state: MultiAgentState, given: ParallelDocsInput) -> JsonObject:
    parts: list[JsonObject] = []
    missing: list[JsonObject] = []
    for name, found in _documents(state).items():
        title = DOCUMENTS[name].title
        if found["status"] == "made":
            first = str(found["files"][0]["path"])
            parts.append({"name": name, "title": title, "first": first, "head": str(found["head"])})
        else:
            missing.append({"name": name, "title": title, "reason": str(found["reason"])[:2_000]})
    title = given.title or f"Documentation of {given.repo.rstrip('/').rpartition('/')[2].removesuffix('.git')}"
    return {"site": given.site, "build": state["task_id"], "title": title, "parts": parts, "missing": missing}


def _final_result(state: MultiAgentState) -> JsonObject:
    results = state["partial_results"]
    found = results.get("input")
    given = cast("JsonObject", found) if isinstance(found, dict) else {}
    documents = _documents(state)
    merged: JsonObject = results.get("merge", {})
    status = results.get("docs_status", "failed")
    heads = sorted({str(one["head"]) for one in documents.values() if one["status"] == "made"})
    return {
        "workflow_id": state["task_id"],
        "workflow_type": state["workflow_type"],
        "status": status,
        "success": status == "documented",
        "reason": results.get("reason", ""),
        "ended_at": results.get("ended_at"),
        "repo": given.get("repo"),
        "site": given.get("site"),
        "index": merged.get("index"),
        "pages_total": merged.get("pages_total", 0),
        "documents": {
            name: {"status": one["status"], "pages": one.get("files_total", 0), "reason": one["reason"]}
            for name, one in documents.items()
        },
        # More than one where the branch moved on while they were made: the index says which is of which.
        "commits": heads,
        "errors": state["error_log"],
    }
