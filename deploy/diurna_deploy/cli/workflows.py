"""`diurna workflow …`: start one, watch it, decide what it asks, take it back, fork it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from diurna_deploy.cli.completing import ids
from diurna_deploy.cli.session import Session, command, group
from diurna_deploy.cli.workflow_start import Follow, follow_to_its_end, start_workflow

app = group("Start a workflow, watch it, decide what it asks, take it back to a checkpoint, fork it.")
WorkflowId = Annotated[str, typer.Argument(help="The workflow's id.", autocompletion=ids("/workflows", "workflow_id"))]
Checkpoint = Annotated[str | None, typer.Option("--checkpoint", help="The checkpoint's id [default: the newest].")]
Roles = Annotated[list[str] | None, typer.Option("--role", help="A role of who decides; may be repeated.")]
By = Annotated[str, typer.Option("--by", help="Who says so.")]

command(app, "start")(start_workflow)


@command(app, "list", has_past=True)
def list_workflows(
    session: Session,
    status: Annotated[str | None, typer.Option(help="running, paused, completed, failed or cancelled.")] = None,
    workflow_type: Annotated[str | None, typer.Option("--type", help="Only of this type.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
) -> None:
    """Lists workflows."""
    found = session.api.get("/workflows", status=status, workflow_type=workflow_type, limit=limit)
    columns = ("workflow_id", "workflow_type", "status", "current_step", "started_at")
    session.rows(found, columns, nothing="No such workflow.")


@command(app, "show", has_past=True)
def show_workflow(
    session: Session,
    workflow_id: WorkflowId,
    version: Annotated[int | None, typer.Option(min=1, help="As it was at this version [default: now].")] = None,
) -> None:
    """Shows a workflow's state."""
    from diurna_deploy.cli.api import part

    session.fields(session.api.get(f"/workflows/{part(workflow_id)}", version=version))


@command(app, "history", has_past=True)
def workflow_history(session: Session, workflow_id: WorkflowId) -> None:
    """Shows every fact of a workflow, in order, with positions."""
    from diurna_deploy.cli.api import part
    from diurna_deploy.narration import line

    found = session.api.get_all(f"/workflows/{part(workflow_id)}/history")
    session.show(found, lambda: session.lines(line(event) for event in found))


@command(app, "checkpoints", has_past=True)
def workflow_checkpoints(
    session: Session,
    workflow_id: WorkflowId,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
) -> None:
    """Lists a workflow's checkpoints, the newest first."""
    from diurna_deploy.cli.api import part

    found = session.api.get(f"/workflows/{part(workflow_id)}/checkpoints", limit=limit)
    columns = ("checkpoint_id", "step_name", "agent_id", "version", "created_at", "data")
    session.rows(found, columns, nothing="No checkpoint. What the orchestrator drives is forked at a step's name.")


@command(app, "restore")
def restore_workflow(
    session: Session,
    workflow_id: WorkflowId,
    *,
    checkpoint: Checkpoint = None,
    expected_version: Annotated[
        int | None, typer.Option(min=1, help="Only where the workflow is at this version.")
    ] = None,
    by: By = "cli",
) -> None:
    """Takes a workflow back to a checkpoint: its state as it was, as a new version."""
    from diurna_deploy.cli.api import part
    from diurna_deploy.cli.wire import checkpoint_id_of

    body: dict[str, Any] = {"checkpoint_id": checkpoint_id_of(session.api, workflow_id, checkpoint), "agent_id": by}
    if expected_version is not None:
        body["expected_version"] = expected_version
    answer = session.api.post(f"/workflows/{part(workflow_id)}/restore", body)
    words = f"restored {workflow_id} to {body['checkpoint_id']}: version {answer['version']} at {answer['position']}"
    session.show(answer, lambda: session.say(words))


@command(app, "fork")
def fork_workflow(
    session: Session,
    workflow_id: WorkflowId,
    *,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            help="The checkpoint's id [default: the newest]; where the orchestrator drives the workflow, the step that "
            "is done again, and all after it.",
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="KEY=VALUE, different in the new workflow's state; dots lead into objects, VALUE is JSON or else "
            "text, null takes KEY away; may be repeated.",
        ),
    ] = None,
    new_id: Annotated[str | None, typer.Option("--id", help="The new workflow's id [default: a new one].")] = None,
    follow: Follow = True,
) -> None:
    """Begins a new workflow where a checkpoint was taken; the other one stays as it is, and may be over.

    One that the orchestrator drives begins before the step you name, and is driven on from there: you see it go on.
    """
    from diurna_deploy.cli.api import part
    from diurna_deploy.cli.wire import changes_of, checkpoint_id_of

    body: dict[str, Any] = {"set": changes_of("--set", changes or [])}
    body["checkpoint_id"] = checkpoint_id_of(session.api, workflow_id, checkpoint)
    if new_id is not None:
        body["workflow_id"] = new_id
    answer = session.api.post(f"/workflows/{part(workflow_id)}/fork", body)
    if "request_id" in answer and follow:
        follow_to_its_end(session, answer)
        return
    words = f"forked {workflow_id} at {body['checkpoint_id']}: {answer['workflow_id']} at {answer['position']}"
    session.show(answer, lambda: session.say(words))


@command(app, "approve")
def approve_workflow(
    session: Session,
    workflow_id: Annotated[str, typer.Argument(help="The workflow's id, or its approval's.")],
    *,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    decided_by: Annotated[str, typer.Option("--by", help="Who decides.")] = "cli",
    roles: Roles = None,
) -> None:
    """Approves what a workflow asks."""
    _decide(session, workflow_id, "approve", {"decided_by": decided_by, "reason": reason, "roles": roles or []})


@command(app, "reject")
def reject_workflow(
    session: Session,
    workflow_id: Annotated[str, typer.Argument(help="The workflow's id, or its approval's.")],
    *,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    decided_by: Annotated[str, typer.Option("--by", help="Who decides.")] = "cli",
    roles: Roles = None,
) -> None:
    """Rejects what a workflow asks."""
    _decide(session, workflow_id, "reject", {"decided_by": decided_by, "reason": reason, "roles": roles or []})


@command(app, "pause")
def pause_workflow(
    session: Session, workflow_id: WorkflowId, reason: Annotated[str, typer.Option(help="Why.")] = "", by: By = "cli"
) -> None:
    """Has nobody work on a workflow until it is resumed."""
    _tell(session, workflow_id, "pause", {"paused_by": by, "reason": reason})


@command(app, "resume")
def resume_workflow(
    session: Session, workflow_id: WorkflowId, reason: Annotated[str, typer.Option(help="Why.")] = "", by: By = "cli"
) -> None:
    """Lets a paused workflow go on."""
    _tell(session, workflow_id, "resume", {"resumed_by": by, "reason": reason})


@command(app, "cancel")
def cancel_workflow(
    session: Session, workflow_id: WorkflowId, reason: Annotated[str, typer.Option(help="Why.")] = ""
) -> None:
    """Says that a workflow is no longer wanted; it stops where it is."""
    _tell(session, workflow_id, "cancel", {"cancelled_by": "cli", "reason": reason})


def _tell(session: Session, workflow_id: str, verb: str, body: dict[str, Any]) -> None:
    from diurna_deploy.cli.api import part

    answer = session.api.post(f"/workflows/{part(workflow_id)}/{verb}", body)
    done = {"pause": "paused", "resume": "resumed", "cancel": "cancelled"}[verb]
    session.show(answer, lambda: session.say(f"{done} {workflow_id} at {answer.get('position')}"))


def _decide(session: Session, about: str, verb: str, body: dict[str, Any]) -> None:
    from diurna_deploy.cli.api import part
    from diurna_deploy.cli.wire import approval_of

    approval_id, workflow_id = approval_of(session.api, about)
    if workflow_id is not None:
        body["workflow_id"] = workflow_id
    answer = session.api.post(f"/approvals/{part(approval_id)}/{verb}", body)
    done = "approved" if verb == "approve" else "rejected"
    session.show(answer, lambda: session.say(f"{done} {about} at {answer.get('position')}"))
