"""`diurna lock …`: hold a resource alone, see who does, and take it away from whoever should not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from diurna_deploy.cli.session import Session, command, group, json_object

app = group("Hold a resource alone, see who does, and take it away from whoever should not.")
Resource = Annotated[str, typer.Argument(help="What is to be held, such as repo:owner/name.")]
Lock = Annotated[str, typer.Argument(help="The lock's id, or the resource it is on.")]
Agent = Annotated[str, typer.Option("--agent", help="In whose name.")]
Timeout = Annotated[float, typer.Option(help="Seconds after which the lock is over by itself, 1 to 3600.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait for the lock; 0 does not wait.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")]


@command(app, "acquire")
def acquire_lock(
    session: Session,
    *,
    resource: Resource,
    agent: Agent = "cli",
    timeout: Timeout = 300.0,
    wait: Wait = 0.0,
    reason: Annotated[str, typer.Option(help="Why, for whoever looks.")] = "",
    metadata: Annotated[str, typer.Option(help="A JSON object; @FILE reads one.")] = "{}",
) -> None:
    """Acquires a lock and leaves it held; exits 1 where another has it. `lock run` holds one around a command."""
    from diurna_deploy.cli.waiting import acquired

    body = {
        "resource_id": resource,
        "agent_id": agent,
        "timeout": timeout,
        "wait_timeout": wait,
        "reason": reason,
        "metadata": json_object("--metadata", metadata),
    }
    lock = acquired(session.api, body)
    session.show(lock, lambda: session.fields(lock))


@command(app, "renew")
def renew_lock(
    session: Session,
    lock: Lock,
    agent: Annotated[str | None, typer.Option(help="Whose the lock must be.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds from now [default: as it was asked for].")] = None,
) -> None:
    """Holds a lock on, from now."""
    from diurna_deploy.cli.api import part
    from diurna_deploy.cli.waiting import lock_id_of

    body: dict[str, Any] = {"agent_id": agent, "timeout": timeout}
    path = f"/locks/{part(lock_id_of(session.api, lock))}/renew"
    answer = session.api.post(path, {name: value for name, value in body.items() if value is not None})
    session.show(answer, lambda: session.say(f"{answer['resource_id']} is held until {answer['expires_at']}"))


@command(app, "release")
def release_lock(
    session: Session, lock: Lock, agent: Annotated[str | None, typer.Option(help="Whose the lock must be.")] = None
) -> None:
    """Gives a lock back, or a place in its queue."""
    from diurna_deploy.cli.api import part
    from diurna_deploy.cli.waiting import lock_id_of

    path = f"/locks/{part(lock_id_of(session.api, lock))}"
    answer = session.api.request("DELETE", path, parameters={"agent_id": agent})
    session.show(answer, lambda: session.say(f"released {answer['resource_id']} at {answer['position']}"))


@command(app, "list", has_past=True)
def list_locks(
    session: Session,
    resource: Annotated[str | None, typer.Option(help="Only this resource.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only this agent's.")] = None,
    limit: Limit = 100,
) -> None:
    """Lists the locks that are held."""
    found = session.api.get("/locks", resource_id=resource, agent_id=agent, limit=limit)
    columns = ("resource_id", "agent_id", "expires_at", "fencing_token", "lock_id", "reason")
    session.rows(found, columns, nothing="No lock is held.")


@command(app, "queue", has_past=True)
def show_queue(
    session: Session,
    resource: Annotated[str | None, typer.Argument(help="Only this resource.")] = None,
    limit: Limit = 200,
) -> None:
    """Lists who waits, the next one first."""
    found = session.api.get("/locks/queue", resource_id=resource, limit=limit)
    columns = ("resource_id", "queue_position", "agent_id", "queued_at", "waits_until", "lock_id")
    session.rows(found, columns, nothing="Nobody waits.")


@command(app, "history", has_past=True)
def show_history(
    session: Session,
    resource: Annotated[str | None, typer.Argument(help="Only this resource.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only this agent's.")] = None,
    status: Annotated[str | None, typer.Option(help="Only those that ended so, such as expired or denied.")] = None,
    limit: Limit = 50,
) -> None:
    """Shows every wish for a lock and how it ended, the newest first."""
    found = session.api.get("/locks/history", resource_id=resource, agent_id=agent, status=status, limit=limit)
    columns = ("asked_at", "resource_id", "agent_id", "status", "waited_seconds", "held_seconds", "end_reason")
    session.rows(found, columns, nothing="Nobody has asked for such a lock.")


@command(app, "statistics", has_past=True)
def show_statistics(
    session: Session,
    resource: Annotated[str | None, typer.Argument(help="Only this resource.")] = None,
    limit: Limit = 100,
) -> None:
    """Shows how resources are fought for."""
    found = session.api.get("/locks/statistics", resource_id=resource, limit=limit)
    columns = ("resource_id", "wishes", "acquisitions", "contention", "expirations", "held_seconds_mean")
    session.rows(found, columns, nothing="Nobody has asked for a lock.")


@command(app, "force-release")
def force_release_lock(
    session: Session,
    resource: Resource,
    reason: Annotated[str, typer.Option(help="Why; it is written down.")],
    by: Annotated[str, typer.Option("--by", help="Who takes it away.")] = "cli",
    grace: Annotated[float, typer.Option(help="Seconds for which nobody gets it, so that the holder can stop.")] = 0.0,
) -> None:
    """Takes a lock away from whoever holds it."""
    body = {"resource_id": resource, "admin_agent_id": by, "reason": reason, "grace": grace}
    answer = session.api.post("/locks/force-release", body)
    session.show(answer, lambda: session.say(f"took {resource} from {answer['agent_id']}; free at {answer['free_at']}"))


@command(app, "run")
def run_command(
    session: Session,
    *,
    resource: Resource,
    words: Annotated[list[str], typer.Argument(metavar="COMMAND", help="What to run, behind `--`.")],
    agent: Agent = "cli",
    timeout: Annotated[float, typer.Option(help="Seconds of the lease, renewed while the command runs.")] = 30.0,
    wait: Wait = 0.0,
    reason: Annotated[str, typer.Option(help="Why, for whoever looks.")] = "",
) -> None:
    """Holds a lock around a command and exits with the command's code.

    The command finds DIURNA_LOCK_TOKEN, DIURNA_LOCK_RESOURCE and DIURNA_LOCK_ID in its environment. Where the lock is
    lost the command is stopped, and the exit code is 1.
    """
    from diurna_deploy.holding import Held

    held = Held(resource, agent, timeout, wait, reason)
    raise typer.Exit(asyncio.run(_run(session.state_dir, held, words)))


async def _run(state_dir: Path | None, held: Any, words: list[str]) -> int:
    from diurna.locks import ResourceLockManager
    from diurna.settings import STATE_DIR, ClientSettings
    from diurna_deploy.environment import inherited
    from diurna_deploy.holding import run_under_lock, stopping_at_sigterm

    settings = ClientSettings.load(None if state_dir is None else {STATE_DIR: str(state_dir)})
    async with ResourceLockManager(settings=settings) as locks:
        return await stopping_at_sigterm(lambda: run_under_lock(locks, held, words, inherited()))
