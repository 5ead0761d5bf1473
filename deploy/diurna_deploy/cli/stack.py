"""`diurna up|down|status|doctor|demo`: the stack on this machine."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from diurna_deploy.cli.session import Session, command

_ADDRESSES = ("api_url", "kafka_bootstrap_servers", "database_url", "schema_registry_url")


def add_to(app: typer.Typer) -> None:
    """Adds the commands of the stack."""
    command(app, "up")(start)
    command(app, "down")(stop)
    command(app, "status")(status)
    command(app, "doctor")(doctor)
    command(app, "demo")(demo)


def start(
    session: Session,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once everything answers, and leave it running.")
    ] = False,
) -> None:
    """Starts Kafka, Postgres, the registry, deciders, projector and auditor, the API and six agents."""
    from diurna_deploy.lifecycle import start_stack, stop_stack, wait_for_interrupt

    settings = _settings(session)
    running = asyncio.run(start_stack(settings))
    _show_addresses(session, running)
    if detach:
        return
    joined = running["joined"]
    end = "it ran before, and goes on running" if joined else "Ctrl-C stops it"
    session.say(f"Running until interrupted: {end}.")
    wait_for_interrupt()
    if joined:
        return
    asyncio.run(stop_stack(settings))
    session.say("Stopped.")


def stop(session: Session) -> None:
    """Stops what `up` started in this state directory; what is on the log stays."""
    from diurna_deploy.lifecycle import stop_stack

    stopped = asyncio.run(stop_stack(_settings(session)))
    session.show({"stopped": stopped}, lambda: session.say("Stopped." if stopped else "Nothing was running here."))


def status(
    session: Session,
    targets: Annotated[
        bool, typer.Option("--targets", help="Print where the metrics are, as Prometheus' file_sd_configs reads it.")
    ] = False,
) -> None:
    """Shows the addresses and the processes; exits 3 where nothing runs here."""
    from diurna_deploy.lifecycle import stack_status
    from diurna_schemas.errors import Unavailable

    found = asyncio.run(stack_status(_settings(session)))
    if not found.get("running"):
        if session.as_json:
            session.show(found)
        raise Unavailable("nothing is running in this state directory: `diurna up --detach` starts it")
    if targets:
        session.show(_targets(found["processes"]))
    else:
        session.show(found, lambda: _tell_status(session, found))
    if not found.get("healthy", True):
        raise typer.Exit(3)


def doctor(session: Session) -> None:
    """Looks at this machine and says what is wrong and what to do; exits 1 where something is."""
    from diurna_deploy.lifecycle import examine

    checks = asyncio.run(examine(_settings(session)))
    if session.as_json:
        session.show([check.as_json() for check in checks])
    else:
        for check in checks:
            session.say(f"{check.verdict:<8} {check.name}: {check.detail}", style=check.style)
            if check.advice:
                session.say(f"         → {check.advice}")
    if any(check.verdict == "problem" for check in checks):
        raise typer.Exit(1)


def demo(
    session: Session,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running afterwards.")] = False,
    repo: Annotated[
        str | None, typer.Option(help="Your own repository instead of the demo's: a path or a URL.")
    ] = None,
    base: Annotated[str, typer.Option(help="Where the change begins, in your own repository.")] = "HEAD~1",
    head: Annotated[str, typer.Option(help="What is to be deployed, of your own repository.")] = "HEAD",
) -> None:
    """Starts everything, deploys a change of a real git repository, and shows what happened."""
    from diurna_deploy.cli.workflow_start import located
    from diurna_deploy.demo import Subject, run_demo

    subject = None if repo is None else Subject(located(repo), base, head)
    raise typer.Exit(run_demo(_settings(session), session, subject=subject, keep=keep))


def _targets(processes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A target for each process that serves metrics, with the process's name as a label."""
    return [
        {"targets": [urlsplit(str(process["metrics_url"])).netloc], "labels": {"process": process["name"]}}
        for process in processes
        if process["metrics_url"] is not None
    ]


def _settings(session: Session) -> Any:
    from diurna_deploy.settings import Settings

    return Settings.load(state_dir=session.state_dir)


def _show_addresses(session: Session, found: dict[str, Any]) -> None:
    addresses = {name: found.get(name) for name in _ADDRESSES}
    session.show(found, lambda: session.fields(addresses))


def _tell_status(session: Session, found: dict[str, Any]) -> None:
    session.fields({name: found.get(name) for name in _ADDRESSES})
    session.rows(found.get("processes", []), ("name", "pid", "state", "log"), nothing="No process.")
