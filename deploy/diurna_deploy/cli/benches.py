"""`diurna bench`: how fast it is, each figure beside its reference of the same round."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Annotated, Any, cast

import typer

from diurna_deploy.cli.completing import words
from diurna_deploy.cli.session import Session, command

NAMES = ("start", "w1", "w2", "w3", "w3-langgraph", "w4", "w4-rebuild", "w5")


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "bench")(bench)


def bench(
    session: Session,
    names: Annotated[
        list[str] | None,
        typer.Argument(help=f"{', '.join(NAMES)} [default: all].", autocompletion=words(*NAMES)),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Interleaved rounds.")] = 3,
) -> None:
    """Measures the running stack: medians of interleaved rounds, each beside its reference."""
    from diurna_deploy import logs
    from diurna_deploy.bench.suite import measure
    from diurna_deploy.settings import Settings
    from diurna_deploy.telling import telling

    # What is measured logs as it always does; the standard output is for the figures.
    logs.configure(process="bench", level="warning", as_json=False, stream=sys.stderr)
    settings = Settings.load(state_dir=session.state_dir)
    with telling("bench", "measurements") as told:
        found = asyncio.run(measure(names or [], settings=settings, rounds=rounds, told=told))
    session.show(found, lambda: session.rows(_rows(found), ("measurement", "figure", "value"), nothing="No figure."))


def _rows(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each figure; one within another is named by both."""

    def figures(name: str, value: Any) -> Iterator[tuple[str, Any]]:
        if not isinstance(value, dict):
            yield name, value
            return
        for inner, one in cast("dict[str, Any]", value).items():
            yield from figures(f"{name}.{inner}" if name else inner, one)

    return [
        {"measurement": measurement, "figure": figure, "value": value}
        for measurement, measured in found.items()
        for figure, value in figures("", measured)
    ]
