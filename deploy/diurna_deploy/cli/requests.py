"""`diurna request …`: ask an agent, and look at what was asked."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from diurna_deploy.cli.completing import ids, words
from diurna_deploy.cli.session import Session, command, group, json_object

app = group("Ask an agent, and look at what was asked.")


def _request_types(incomplete: str) -> list[str]:
    from diurna_schemas.shapes import AgentRequestType  # only whoever presses the tab key waits for it

    return words(*map(str, AgentRequestType))(incomplete)


RequestId = Annotated[str, typer.Argument(help="The request's id.", autocompletion=ids("/requests", "request_id"))]
_PATIENCE_SECONDS = 15.0
TIMEOUT_SECONDS_MAX = 7 * 86_400.0
"""No request may take longer."""


@command(app, "send")
def send_request(
    session: Session,
    *,
    target: Annotated[
        str,
        typer.Argument(
            help="The agent's id; `any` is whoever has the capability.", autocompletion=ids("/agents", "agent_id")
        ),
    ],
    request_type: Annotated[
        str,
        typer.Argument(help="What it is asked for, such as get_status.", autocompletion=_request_types),
    ],
    payload: Annotated[str, typer.Option(help="A JSON object; @FILE reads one, - reads the input.")] = "{}",
    source: Annotated[str, typer.Option(help="Who asks.")] = "cli",
    priority: Annotated[str, typer.Option(help="low, normal, high or urgent.")] = "normal",
    timeout: Annotated[float, typer.Option(help="Seconds until which somebody may answer.")] = 30.0,
    correlation_id: Annotated[str | None, typer.Option(help="Ties this to other work.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the answer.")] = True,
) -> None:
    """Sends a request and waits for the answer; exits 1 where the answer is no success."""
    request: dict[str, Any] = {
        "source_agent": source,
        "target_agent": target,
        "request_type": request_type,
        "payload": json_object("--payload", payload),
        "priority": priority,
        "timeout_seconds": timeout,
    }
    if correlation_id is not None:
        request["correlation_id"] = correlation_id
    if not wait:
        answer = session.api.post("/requests", request)
        session.show(answer, lambda: session.fields(answer))
        return
    # A time that is none is for the API to refuse.
    patience = min(max(timeout, 0.0), TIMEOUT_SECONDS_MAX) + _PATIENCE_SECONDS
    response = session.api.post("/agent-request", request, timeout=patience)
    session.show(response, lambda: session.fields(response))
    if response.get("status") not in {"success", "partial"}:
        raise typer.Exit(1)


@command(app, "show", has_past=True)
def show_request(session: Session, request_id: RequestId) -> None:
    """Shows a request and its answer."""
    from diurna_deploy.cli.api import part

    session.fields(session.api.get(f"/requests/{part(request_id)}"))


@command(app, "list", has_past=True)
def list_requests(
    session: Session,
    *,
    status: Annotated[str | None, typer.Option(help="Only those in this status.")] = None,
    source_agent: Annotated[str | None, typer.Option("--source", help="Only from this agent.")] = None,
    target_agent: Annotated[str | None, typer.Option("--target", help="Only to this agent.")] = None,
    correlation_id: Annotated[str | None, typer.Option(help="Only of this work.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
) -> None:
    """Lists requests."""
    found = session.api.get(
        "/requests",
        status=status,
        source_agent=source_agent,
        target_agent=target_agent,
        correlation_id=correlation_id,
        limit=limit,
    )
    columns = ("request_id", "source_agent", "target_agent", "request_type", "status", "created_at")
    session.rows(found, columns, nothing="No such request.")


@command(app, "cancel")
def cancel_request(
    session: Session,
    request_id: RequestId,
    reason: Annotated[str, typer.Option(help="Why it is no longer wanted.")] = "",
) -> None:
    """Says that an answer is no longer wanted."""
    from diurna_deploy.cli.api import part

    body = {"cancelled_by": "cli", "reason": reason}
    answer = session.api.post(f"/requests/{part(request_id)}/cancel", body)
    session.show(answer, lambda: session.say(f"cancelled {request_id} at {answer.get('position')}"))
