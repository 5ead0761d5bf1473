"""The whole command line: the commands of the stack, and the nouns."""

from __future__ import annotations

from typing import Annotated

import typer

from diurna_deploy.cli import (
    agents,
    audit,
    benches,
    dead_letters,
    events,
    locks,
    projections,
    replays,
    requests,
    schemas,
    stack,
    workflows,
)

app = typer.Typer(
    name="diurna",
    help="The record and the conductor of a team of agents. Exit codes: 0 done, 1 refused, 2 usage, 3 unavailable.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        print(version("diurna"))
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """The record and the conductor of a team of agents. Exit codes: 0 done, 1 refused, 2 usage, 3 unavailable."""


stack.add_to(app)
app.add_typer(agents.app, name="agent")
app.add_typer(requests.app, name="request")
app.add_typer(locks.app, name="lock")
app.add_typer(workflows.app, name="workflow")
app.add_typer(events.app, name="event")
app.add_typer(projections.app, name="projection")
app.add_typer(replays.app, name="replay")
app.add_typer(dead_letters.app, name="dead-letter")
app.add_typer(schemas.app, name="schema")
app.add_typer(audit.app, name="audit")
benches.add_to(app)
