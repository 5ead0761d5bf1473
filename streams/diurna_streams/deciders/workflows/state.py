"""What the decider of workflows remembers: versions, statuses, states, checkpoints, approvals that wait."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from immutables import Map

from diurna_schemas.workflows import WorkflowStatus
from diurna_streams.deciders.heap import Heap
from diurna_streams.deciders.window import Window
from diurna_streams.deciders.workflows.documents import EMPTY

CHECKPOINTS_MAX: Final = 100
CHECKPOINT_BYTES_MAX: Final = 1024 * 1024
"""How much of a workflow's checkpoints is remembered, the newest first and always the last one: to these it can be
restored. Older ones stand in the events, and can be forked from."""


class Checkpoint(NamedTuple):
    """The state as it was, and what was noted beside it."""

    checkpoint_id: str
    step: str
    state: bytes
    data: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.state) + len(self.data)


class Approval(NamedTuple):
    """A question that waits for somebody with one of the roles, or anybody; for ever without `expires_at_ms`."""

    expires_at_ms: int | None
    roles: tuple[str, ...]


class Workflow(NamedTuple):
    """A workflow. What is over keeps neither state nor checkpoints: nothing can be decided by them any more."""

    version: int
    status: WorkflowStatus
    state: bytes = EMPTY
    ended_ms: int | None = None
    checkpoints: tuple[Checkpoint, ...] = ()
    approvals: Map[str, Approval] = Map()
    settled: frozenset[str] = frozenset()

    @property
    def is_over(self) -> bool:
        return self.ended_ms is not None

    def checkpoint(self, checkpoint_id: str) -> Checkpoint | None:
        """The checkpoint of this id, where it is remembered."""
        return next((one for one in self.checkpoints if one.checkpoint_id == checkpoint_id), None)


class Due(NamedTuple):
    """An approval that expires at `at_ms` unless it is decided before."""

    at_ms: int
    workflow_id: str
    approval_id: str


class WorkflowsState(NamedTuple):
    """One partition's workflows."""

    now_ms: int = 0
    workflows: Map[str, Workflow] = Map()
    open_approvals: int = 0
    due: Heap[Due] = Heap()
    seen: Window[int] = Window()

    def is_due_live(self, due: Due) -> bool:
        """Whether an expiry still means something."""
        workflow = self.workflows.get(due.workflow_id)
        approval = None if workflow is None else workflow.approvals.get(due.approval_id)
        return approval is not None and approval.expires_at_ms == due.at_ms


def kept(checkpoints: tuple[Checkpoint, ...]) -> tuple[Checkpoint, ...]:
    """The checkpoints that are remembered of these, which are in order of time."""
    remembered = checkpoints[-CHECKPOINTS_MAX:]
    size_bytes = sum([one.size_bytes for one in remembered])
    first = 0
    while size_bytes > CHECKPOINT_BYTES_MAX and first < len(remembered) - 1:
        size_bytes -= remembered[first].size_bytes
        first += 1
    return remembered[first:]


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
                workflow.state.decode(),
                workflow.ended_ms,
                [[one.checkpoint_id, one.step, one.state.decode(), one.data.decode()] for one in workflow.checkpoints],
                {name: [one.expires_at_ms, list(one.roles)] for name, one in sorted(workflow.approvals.items())},
                sorted(workflow.settled),
            ]
            for workflow_id, workflow in sorted(state.workflows.items())
        },
        "seen": state.seen.dump(),
    }


def load(dumped: dict[str, Any]) -> WorkflowsState:
    """The state from JSON."""
    workflows: Map[str, Workflow] = Map(
        {workflow_id: _workflow(*fields) for workflow_id, fields in dumped["workflows"].items()}
    )
    dues = [
        Due(approval.expires_at_ms, workflow_id, approval_id)
        for workflow_id, workflow in workflows.items()
        for approval_id, approval in workflow.approvals.items()
        if approval.expires_at_ms is not None
    ]
    return WorkflowsState(
        now_ms=dumped["now_ms"],
        workflows=workflows,
        open_approvals=sum(len(workflow.approvals) for workflow in workflows.values()),
        due=Heap[Due].of(iter(dues)),
        seen=Window[int].load(dumped["seen"]),
    )


def _workflow(version: int, status: WorkflowStatus, state: str, ended_ms: int | None, *rest: Any) -> Workflow:
    checkpoints, approvals, settled = rest
    return Workflow(
        version,
        status,
        state.encode(),
        ended_ms,
        tuple(Checkpoint(name, step, then.encode(), data.encode()) for name, step, then, data in checkpoints),
        Map({name: Approval(expires_at_ms, tuple(roles)) for name, (expires_at_ms, roles) in approvals.items()}),
        frozenset(settled),
    )
