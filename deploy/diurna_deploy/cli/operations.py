"""`diurna projection …` and `diurna dead-letter …`: how the tables stand to the log."""

from __future__ import annotations

from typing import Annotated

import typer

from diurna_deploy.cli.session import Session, command, group

projection = group("How the tables stand to the log.")
dead_letter = group("Records nobody could understand.")


@command(projection, "status")
def projection_status(session: Session) -> None:
    """Shows how far the tables are, and their checksums."""
    found = session.api.get("/projections")
    if session.as_json:
        session.show(found)
        return
    for one in found:
        session.fields(one)


@command(dead_letter, "list")
def list_dead_letters(
    session: Session, limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50
) -> None:
    """Lists the records that could not be read, with where they stood and what was wrong."""
    found = session.api.get("/dead-letters", limit=limit)
    session.rows(found, ("id", "stage", "error_type", "error", "at"), nothing="There are no dead letters.")
