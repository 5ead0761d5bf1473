"""The rules about approvals: how many may be asked for, and who may decide."""

from __future__ import annotations

from typing import Final

from diurna_schemas.workflows import ApprovalDecided, ApprovalRequested, DecideApproval, RequestApproval
from diurna_streams.deciders.workflows.draft import Draft, Refusal
from diurna_streams.deciders.workflows.state import Workflow

APPROVALS_MAX: Final = 100
"""Approvals one workflow may wait for at a time."""
APPROVALS_ASKED_MAX: Final = 10_000
"""Approvals one workflow may ask for in its life: their ids are remembered, so that none is decided twice."""


def request_approval(draft: Draft, command: RequestApproval, workflow: Workflow) -> None:
    """Raises `Refusal` where it was asked for before, or too many are."""
    if command.approval_id in workflow.approvals or command.approval_id in workflow.settled:
        raise Refusal("approval_exists", f"approval {command.approval_id} was asked for before")
    if len(workflow.approvals) >= APPROVALS_MAX:
        raise Refusal("too_many_approvals", f"{len(workflow.approvals)} approvals are open already")
    if len(workflow.approvals) + len(workflow.settled) >= APPROVALS_ASKED_MAX:
        raise Refusal("too_many_approvals", f"{APPROVALS_ASKED_MAX} approvals were asked for already")
    after_ms = command.expires_after_ms
    draft.emit(
        ApprovalRequested(
            **draft.about(command.workflow_id),
            approval_id=command.approval_id,
            question=command.question,
            details=command.details,
            expires_at_ms=None if after_ms is None else draft.now_ms + after_ms,
            roles=command.roles,
        )
    )


def decide_approval(draft: Draft, command: DecideApproval, workflow: Workflow) -> None:
    """Raises `Refusal` where nobody asks (any more), or somebody else must decide."""
    approval = workflow.approvals.get(command.approval_id)
    if approval is None and command.approval_id in workflow.settled:
        raise Refusal("approval_settled", f"approval {command.approval_id} is settled already")
    if approval is None:
        raise Refusal("not_found", f"no approval with id {command.approval_id!r}")
    if approval.roles and not set(approval.roles) & set(command.roles):
        has = f"has {', '.join(command.roles)}" if command.roles else "has none"
        reason = f"approval {command.approval_id} needs one of the roles {', '.join(approval.roles)}"
        raise Refusal("role_missing", f"{reason}: {command.decided_by} {has}")
    draft.emit(
        ApprovalDecided(
            **draft.about(command.workflow_id),
            approval_id=command.approval_id,
            is_approved=command.is_approved,
            decided_by=command.decided_by,
            reason=command.reason,
            roles=command.roles,
        )
    )
