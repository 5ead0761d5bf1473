"""What the decider of workflows remembers: versions, statuses, approvals that wait."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from immutables import Map

from diurna_schemas.workflows import WorkflowStatus
from diurna_streams.deciders.heap import Heap
from diurna_streams.deciders.window import Window


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow's version and status, and its open approvals with the time each expires (none: never)."""

    version: int
    status: WorkflowStatus
    approvals: Map[str, int | None] = field(default_factory=lambda: cast("Map[str, int | None]", Map()))
    settled: frozenset[str] = frozenset()

    @property
    def is_over(self) -> bool:
        return self.status in {"completed", "failed", "cancelled"}


class Due(NamedTuple):
    """An approval that expires at `at_ms` unless it is decided before."""

    at_ms: int
    workflow_id: str
    approval_id: str


@dataclass(frozen=True, slots=True)
class WorkflowsState:
    """One partition's workflows. Their state documents are not here: events carry them, nobody decides by them."""

    now_ms: int = 0
    workflows: Map[str, Workflow] = field(default_factory=lambda: cast("Map[str, Workflow]", Map()))
    open_approvals: int = 0
    due: Heap[Due] = Heap()  # noqa: RUF009 - frozen
    seen: Window[int] = field(default_factory=lambda: cast("Window[int]", Window()))

    def is_due_live(self, due: Due) -> bool:
        """Whether an expiry still means something."""
        workflow = self.workflows.get(due.workflow_id)
        return workflow is not None and workflow.approvals.get(due.approval_id) == due.at_ms


def next_due_ms(state: WorkflowsState) -> int | None:
    """When the next approval expires."""
    due = state.due.first
    return None if due is None else due.at_ms


def dump(state: WorkflowsState) -> dict[str, Any]:
    """The state as JSON. The heap is left out: it follows from the rest."""
    return {
        "now_ms": state.now_ms,
        "workflows": {
            workflow_id: [
                workflow.version,
                workflow.status,
                dict(sorted(workflow.approvals.items())),
                sorted(workflow.settled),
            ]
            for workflow_id, workflow in sorted(state.workflows.items())
        },
        "seen": state.seen.dump(),
    }


def load(dumped: dict[str, Any]) -> WorkflowsState:
    """The state from JSON."""
    workflows: Map[str, Workflow] = Map(
        {
            workflow_id: Workflow(version, status, Map(approvals), frozenset(settled))
            for workflow_id, (version, status, approvals, settled) in dumped["workflows"].items()
        }
    )
    dues = [
        Due(at_ms, workflow_id, approval_id)
        for workflow_id, workflow in workflows.items()
        for approval_id, at_ms in workflow.approvals.items()
        if at_ms is not None
    ]
    return WorkflowsState(
        now_ms=dumped["now_ms"],
        workflows=workflows,
        open_approvals=sum(len(workflow.approvals) for workflow in workflows.values()),
        due=Heap[Due].of(iter(dues)),
        seen=Window[int].load(dumped["seen"]),
    )
