"""What a refusal by the decider of workflows means to the one who asked."""

from __future__ import annotations

from diurna_schemas.errors import Conflict, InvalidInput, NotFound, Refused, TooLarge, WorkflowConflict
from diurna_schemas.message import Command
from diurna_schemas.workflows import (
    STATE_BYTES_MAX,
    DecideApproval,
    RestoreWorkflow,
    WorkflowCommandRefused,
)


def workflow_refusal(command: Command, event: WorkflowCommandRefused) -> Refused:
    """The error a refusal is: `WorkflowConflict` names the current version, `TooLarge` the size, `NotFound` the id."""
    error: Refused
    match event.code:
        case "version_conflict":
            expected = getattr(command, "expected_version", None) or 0
            error = WorkflowConflict(event.workflow_id, expected=expected, current=event.version)
        case "too_large":
            error = TooLarge("state", event.size_bytes or 0, STATE_BYTES_MAX)
        case "invalid_json":
            field, _, reason = event.reason.partition(": ")
            error = InvalidInput(field, getattr(command, field, None), reason)
        case "checkpoint_not_found" if isinstance(command, RestoreWorkflow):
            error = NotFound("checkpoint", command.checkpoint_id)
        case "not_found" if isinstance(command, DecideApproval) and event.version > 0:
            error = NotFound("approval", command.approval_id)
        case "not_found":
            error = NotFound("workflow", event.workflow_id)
        case _:
            error = Conflict(event.reason)
    error.code = event.code
    error.reason = event.reason
    error.args = (event.reason,)
    return error
