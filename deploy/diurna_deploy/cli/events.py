"""`diurna event …`: tell everyone something, and read the log."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from diurna_deploy.cli.session import Session, command, group, json_object

app = group("Tell everyone something, and read the log.")


@command(app, "publish")
def publish_event(
    session: Session,
    event_type: Annotated[str, typer.Argument(help="The event's type, such as task.delegated.")],
    data: Annotated[str, typer.Option(help="A JSON object; @FILE reads one, - reads the input.")] = "{}",
    source: Annotated[str, typer.Option(help="Who says it.")] = "cli",
    correlation_id: Annotated[str | None, typer.Option(help="Ties this to other work.")] = None,
) -> None:
    """Publishes an event to whoever listens."""
    from diurna_deploy.cli.wire import event_body

    answer = session.api.post("/events", event_body(event_type, json_object("--data", data), source, correlation_id))
    session.show(answer, lambda: session.say(f"published {event_type} at {answer.get('position')}"))


@command(app, "tail")
def tail_events(
    session: Session,
    *,
    topic: Annotated[str | None, typer.Option(help="Only of this topic.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Only of this type.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only about this.")] = None,
    correlation_id: Annotated[str | None, typer.Option(help="Only of this work.")] = None,
    after: Annotated[str | None, typer.Option(help="Begin after this position instead of now.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many events.")] = None,
) -> None:
    """Follows the events as they happen, until interrupted; with --json one object a line."""
    import json

    from diurna_deploy.narration import line

    filters = {"topic": topic, "type": event_type, "subject": subject, "correlation_id": correlation_id}
    seen = 0
    for event in session.api.stream("/events/stream", last_event_id=after, **filters):
        if not isinstance(event.data, dict):
            continue
        found: dict[str, Any] = event.data  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        if session.as_json:
            print(json.dumps(found, ensure_ascii=False), flush=True)
        else:
            session.say(line(found))
        seen += 1
        if seen == count:
            return


@command(app, "trace", has_past=True)
def trace_work(
    session: Session,
    correlation_id: Annotated[str, typer.Argument(help="A workflow's id, or any correlation id.")],
) -> None:
    """Shows everything that one piece of work caused, in order, with positions."""
    from diurna_deploy.cli.wire import timeline
    from diurna_deploy.narration import line
    from diurna_schemas.errors import NotFound

    found = timeline(session.api, correlation_id)
    if not found:
        raise NotFound("piece of work", correlation_id)
    session.show(found, lambda: session.lines(line(event) for event in found))
