"""`diurna dead-letter …`: what became of records nobody could understand."""

from __future__ import annotations

from typing import Annotated

import typer

from diurna_deploy.cli.session import Session, command, group

app = group("Records nobody could understand.")


@command(app, "list")
def list_dead_letters(
    session: Session, limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50
) -> None:
    """Lists the records that could not be read, with where they stood and what was wrong."""
    found = session.api.get("/dead-letters", limit=limit)
    session.rows(found, ("id", "stage", "error_type", "error", "at"), nothing="There are no dead letters.")
