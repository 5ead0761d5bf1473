"""`diurna bench`: how fast it is, each figure beside its reference of the same round."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from diurna_deploy.cli.session import Session, command


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "bench")(bench)


def bench(
    session: Session,
    names: Annotated[
        list[str] | None, typer.Argument(help="start, w1, w2, w3, w3-langgraph, w4, w4-rebuild, w5 [default: all].")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Interleaved rounds.")] = 3,
) -> None:
    """Measures the running stack: medians of interleaved rounds, each beside its reference."""
    from diurna_deploy.bench.suite import measure
    from diurna_deploy.settings import Settings

    settings = Settings.load(state_dir=session.state_dir)
    session.show(asyncio.run(measure(names or [], settings=settings, rounds=rounds)))
