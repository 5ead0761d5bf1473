"""`diurna dead-letter …`: what became of records nobody could understand."""

from __future__ import annotations

from typing import Annotated

import typer

from diurna_deploy.cli.completing import ids
from diurna_deploy.cli.session import Session, command, group

app = group("Records nobody could understand.")


LetterId = Annotated[
    str,
    typer.Argument(
        help="Its id: the position it stood at, topic:partition:offset.", autocompletion=ids("/dead-letters", "id")
    ),
]
By = Annotated[str, typer.Option("--by", help="Who decides.")]
Reason = Annotated[str, typer.Option(help="Why.")]


@command(app, "list")
def list_dead_letters(
    session: Session,
    status: Annotated[str | None, typer.Option(help="open, redriven or discarded [default: all].")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
) -> None:
    """Lists the records that could not be read: where they stood, what was wrong, what became of them."""
    found = session.api.get("/dead-letters", limit=limit, status=status)
    session.rows(found, ("id", "stage", "status", "error_type", "error", "at"), nothing="There are no dead letters.")


@command(app, "show")
def show(session: Session, letter_id: LetterId) -> None:
    """Shows one with all that is kept of its record."""
    from diurna_deploy.cli.api import part

    session.fields(session.api.get(f"/dead-letters/{part(letter_id)}"))


@command(app, "redrive")
def redrive(session: Session, letter_id: LetterId, by: By = "cli", reason: Reason = "") -> None:
    """Decides the command in it as a new one, now that it can be understood."""
    _settle(session, letter_id, "redrive", by, reason)


@command(app, "discard")
def discard(session: Session, letter_id: LetterId, by: By = "cli", reason: Reason = "") -> None:
    """Gives it up; it stays on the log."""
    _settle(session, letter_id, "discard", by, reason)


def _settle(session: Session, letter_id: str, verb: str, by: str, reason: str) -> None:
    from diurna_deploy.cli.api import part

    body = {"settled_by": by, "reason": reason}
    session.fields(session.api.post(f"/dead-letters/{part(letter_id)}/{verb}", body))
