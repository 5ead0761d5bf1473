"""`diurna schema …`: the words of the log and the registry that knows them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from diurna_deploy.cli.session import Session, command, group

app = group("The words of the log and the registry that knows them.")
RegistryUrl = Annotated[
    str | None,
    typer.Option("--registry-url", help="The registry [default: DIURNA_SCHEMA_REGISTRY_URL, else the stack's]."),
]


@command(app, "list")
def list_schemas(session: Session, registry_url: RegistryUrl = None) -> None:
    """Lists what the registry knows."""
    from diurna_deploy.cli.wire import registry_rows, registry_url_of

    rows = asyncio.run(registry_rows(registry_url_of(session, registry_url)))
    session.rows(rows, ("subject", "version", "id"), nothing="The registry is empty: `diurna schema register`.")


@command(app, "register")
def register_schemas(session: Session, registry_url: RegistryUrl = None) -> None:
    """Registers every schema of this version, which the registry may refuse as incompatible."""
    from diurna_deploy.cli.wire import registry_url_of
    from diurna_deploy.provision import register_schemas as register

    ids = asyncio.run(register(registry_url_of(session, registry_url)))
    session.show(ids, lambda: session.say(f"{len(ids)} schemas are registered"))


@command(app, "asyncapi")
def show_asyncapi(session: Session) -> None:
    """Prints every topic and every record on it as an AsyncAPI 3 document."""
    from importlib.metadata import version

    from diurna_schemas.asyncapi import asyncapi_document

    session.show(asyncapi_document(version("diurna")))


@command(app, "check")
def check_schemas(
    session: Session,
    registry_url: RegistryUrl = None,
    subject: Annotated[str | None, typer.Option(help="Check one subject; needs --file.")] = None,
    file: Annotated[Path | None, typer.Option(help="An .avsc to check instead of ours.", exists=True)] = None,
) -> None:
    """Asks the registry whether this version's schemas may follow what it knows; exits 1 where not."""
    from diurna_deploy.cli.wire import incompatible_subjects, registry_url_of

    if (subject is None) != (file is None):
        raise typer.BadParameter("--subject and --file go together")
    given = None if subject is None or file is None else {subject: file.read_text(encoding="utf-8")}
    wrong = asyncio.run(incompatible_subjects(registry_url_of(session, registry_url), given))
    session.show(
        {"compatible": not wrong, "incompatible": wrong},
        lambda: session.say("\n".join(f"incompatible: {name}" for name in wrong) or "every schema is compatible"),
    )
    if wrong:
        raise typer.Exit(1)
