"""`diurna demo`: everything started, a change of a real git repository deployed, and what happened shown."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from diurna_deploy.following import End, Event, end_of, follow_workflow
from diurna_deploy.narration import line, progress

if TYPE_CHECKING:
    from diurna_deploy.cli.api import Api
    from diurna_deploy.cli.session import Session
    from diurna_deploy.settings import Settings

_PROGRAM: Final = "greeting-service"
_RUN_SECONDS: Final = 30
_FAILED: Final = 1


@dataclass(frozen=True, slots=True)
class Subject:
    """What is deployed: the repository and the two ends of the change."""

    repo: str
    base: str
    head: str


def run_demo(settings: Settings, session: Session, *, subject: Subject | None, keep: bool) -> int:
    """Runs the demonstration and returns the exit code: 0 where the change was deployed and runs."""
    from diurna_deploy.lifecycle import start_stack, stop_stack

    began = time.monotonic()
    _heading(session, "Starting Kafka, Postgres, the registry, the deciders, the projector, the API and six agents")
    stack = asyncio.run(start_stack(settings))
    session.say(f"Everything answers after {time.monotonic() - began:.1f} s.")
    try:
        code = _deploy(settings, session, stack, subject)
    except BaseException:
        session.say(f"The logs in {settings.state_dir / 'logs'} say why.", style="red")
        raise
    finally:
        # What ran before the demonstration goes on running after it.
        if not keep and not stack.get("joined"):
            asyncio.run(stop_stack(settings))
            session.say("Stopped; the log and the tables stay for the next time.")
    if keep:
        _tell_how_to_go_on(session, stack)
    return code


def _deploy(settings: Settings, session: Session, stack: dict[str, Any], subject: Subject | None) -> int:
    from diurna_deploy.cli.api import Api

    folder = settings.state_dir / "demo"
    chosen = subject or _demo_subject(folder)
    deploy_to = folder / ("deployed" if subject is None else f"deployed-{Path(subject.repo).name}")
    api = Api(str(stack["api_url"]))
    _heading(session, f"Deploying {chosen.base}...{chosen.head} of {chosen.repo} to {deploy_to}")
    given = {"repo": chosen.repo, "base": chosen.base, "head": chosen.head, "deploy_to": str(deploy_to)}
    started = api.post("/workflows", {"workflow_type": "pr_deployment", "input": given})
    events = follow_workflow(api, started, tell=lambda event: session.say(f"  {progress(event)}"))
    end = end_of(api, started)
    _tell_timeline(session, events)
    _tell_where_it_stands(session, api, started, end)
    said = _run_service(deploy_to) if end.is_success and subject is None else None
    if said is not None:
        _heading(session, "The deployed service says")
        session.say(f"  {said}")
    if session.as_json:
        session.show({**end.as_json(), "timeline": events, "service_says": said, "stack": stack})
    else:
        session.say("")
        session.say(end.in_words(), style="bold green" if end.is_success else "bold red")
    if not end.is_success:
        session.say(f"The logs in {settings.state_dir / 'logs'} say more.")
        return _FAILED
    return 0


def _demo_subject(folder: Path) -> Subject:
    from diurna_agents.demo_repository import BASE, HEAD, make_demo_repository

    repository = folder / "repository"
    if repository.exists():
        shutil.rmtree(repository)
    make_demo_repository(repository)
    return Subject(str(repository), BASE, HEAD)


def _tell_timeline(session: Session, events: list[Event]) -> None:
    _heading(session, f"The timeline: {len(events)} events, in order, with their positions on the log")
    session.lines(f"  {line(event)}" for event in events)


def _tell_where_it_stands(session: Session, api: Api, started: dict[str, Any], end: End) -> None:
    """The answer on the bus, the row in Postgres, and how to ask for both."""
    workflow_id, request_id = str(started["workflow_id"]), str(started["request_id"])
    _heading(session, "The answer, the row and the query")
    told = ("deployment_status", "service", "version", "release", "previous", "commit", "test")
    answer = {name: end.final_result[name] for name in told if end.final_result.get(name) is not None}
    session.say(f"  answer  {json.dumps(answer, ensure_ascii=False)}")
    row = api.get(f"/workflows/{workflow_id}")
    kept = ("workflow_id", "status", "current_step", "version", "updated_at")
    session.say(f"  row     {json.dumps({name: row.get(name) for name in kept}, ensure_ascii=False)}")
    for path in (f"/workflows/{workflow_id}", f"/requests/{request_id}", f"/timeline/{workflow_id}"):
        session.say(f"  query   curl {api.url}{path}")


def _run_service(deploy_to: Path) -> str:
    """Runs the program of the release that is current, as its users would."""
    program = next((deploy_to / "current").glob(f"**/bin/{_PROGRAM}"))
    done = subprocess.run(
        [program, "Ada"], capture_output=True, text=True, check=True, timeout=_RUN_SECONDS, cwd=deploy_to
    )
    return f"$ {program} Ada\n  {done.stdout.strip()}"


def _tell_how_to_go_on(session: Session, stack: dict[str, Any]) -> None:
    _heading(session, "Left running")
    for name in ("api_url", "kafka_bootstrap_servers", "schema_registry_url"):
        session.say(f"  {name:<24}{stack.get(name)}")
    session.say(f"  {'API documentation':<24}{stack.get('api_url')}/docs")
    session.say("  Stop it with `diurna down`.")


def _heading(session: Session, text: str) -> None:
    session.say("")
    session.say(text, style="bold")
