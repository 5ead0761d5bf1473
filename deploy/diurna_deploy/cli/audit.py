"""`diurna audit …`: is the history on the log what the rules say?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from diurna_deploy.cli.session import Session, command, group
from diurna_deploy.telling import telling

if TYPE_CHECKING:
    from diurna.settings import ClientSettings
    from diurna_streams.audit import Progress, Report

app = group("Whether the history on the log is what the rules say.")


class FamilyName(StrEnum):
    """The kinds of decisions there are."""

    AGENTS = "agents"
    LOCKS = "locks"
    WORKFLOWS = "workflows"


@command(app, "verify")
def verify_history(
    session: Session,
    family: Annotated[list[FamilyName] | None, typer.Option(help="Only these decisions [default: all].")] = None,
) -> None:
    """Decides every command on the log anew and compares; exits 1 where history is not what the rules say.

    Reads Kafka itself, in pieces: it takes the memory it takes, however long the log is.
    """
    with telling("audit", "records") as told:
        report = asyncio.run(audited(_client(session), [one.value for one in family or []], told))
    session.show(report.to_json(), lambda: _tell(session, report))
    if not report.is_clean:
        raise typer.Exit(1)


async def audited(client: ClientSettings, families: Sequence[str], told: Callable[[Progress], None]) -> Report:
    """Decides everything anew on the log these settings name. Raises `Unavailable` where a part does not answer."""
    from diurna.connection import Connection
    from diurna_deploy.collector import calm
    from diurna_streams.audit import verify
    from diurna_streams.conduct import ALL_RULES
    from diurna_streams.decide.follower import learns_nothing

    rules = [one for one in ALL_RULES if not families or one.family.name in families]
    calm()
    async with await Connection.open(client, source="/audit") as connection:
        learn = connection.learn or learns_nothing
        return await verify(connection.log, connection.codec, rules, learn=learn, told=told)


def _client(session: Session) -> ClientSettings:
    from diurna.settings import STATE_DIR, ClientSettings

    return ClientSettings.load(None if session.state_dir is None else {STATE_DIR: str(session.state_dir)})


def _tell(session: Session, report: Report) -> None:
    rows: list[dict[str, object]] = []
    for name in dict.fromkeys(found.family for found in report.partitions):
        partitions = [found for found in report.partitions if found.family == name]
        counts = [found.counts for found in partitions]
        versions = sorted({version for found in partitions for version in found.logic_versions})
        rows.append(
            {
                "family": name,
                "commands": sum(count.commands for count in counts),
                "decided_again": sum(count.redecided for count in counts),
                "only_folded": sum(count.folded for count in counts),
                "duplicates": sum(count.duplicates for count in counts),
                "aliens": sum(count.aliens for count in counts),
                "undecided": sum(found.undecided for found in partitions),
                "rules": ", ".join(f"version {version}" for version in versions),
                "snapshots": f"{sum(found.snapshot == 'equal' for found in partitions)} equal",
            }
        )
    columns = list(rows[0]) if rows else []
    session.rows(rows, columns, nothing="There is nothing to audit.")
    for divergence in report.divergences:
        session.say(f"\n{divergence.position}: {divergence.kind}", style="bold red")
        if divergence.command is not None:
            session.say(f"  command   {divergence.command}")
        session.say(f"  expected  {divergence.expected}")
        session.say(f"  found     {divergence.found}")
    verdict = "Clean" if report.is_clean else f"{len(report.divergences)} of {len(report.partitions)} partitions differ"
    rate = f"{report.total('commands'):,} commands in {report.seconds:.1f} s ({report.commands_per_second:,.0f}/s)"
    session.say(f"{verdict}: {rate}.", style="green" if report.is_clean else "bold red")
