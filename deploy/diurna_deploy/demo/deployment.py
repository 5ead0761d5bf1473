"""A change of a real git repository deployed, and every event of it shown."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from diurna_deploy.following import End, Event, end_of, follow_workflow
from diurna_deploy.narration import line, progress

if TYPE_CHECKING:
    from diurna_deploy.demo.stage import Stage

_PROGRAM: Final = "greeting-service"
_RUN_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Subject:
    """What is deployed: the repository and the two ends of the change."""

    repo: str
    base: str
    head: str


def deploy(stage: Stage, chosen: Subject, *, is_own: bool) -> tuple[End, dict[str, Any]]:
    """Deploys a change, somebody's own or the demonstration's; how it ended, and the document of it."""
    deploy_to = stage.folder / (f"deployed-{Path(chosen.repo).name}" if is_own else "deployed")
    stage.heading(f"Deploying {chosen.base}...{chosen.head} of {chosen.repo} to {deploy_to}")
    session, api = stage.session, stage.api
    given = {"repo": chosen.repo, "base": chosen.base, "head": chosen.head, "deploy_to": str(deploy_to)}
    started = api.post("/workflows", {"workflow_type": "pr_deployment", "input": given})
    events = follow_workflow(api, started, tell=lambda event: session.say(f"  {progress(event)}"))
    end = end_of(api, started)
    _tell_timeline(stage, events)
    _tell_where_it_stands(stage, started, end)
    said = _run_service(deploy_to) if end.is_success and not is_own else None
    if said is not None:
        stage.heading("The deployed service says")
        session.say(f"  {said}")
    return end, {**end.as_json(), "timeline": events, "service_says": said}


def demo_subject(folder: Path) -> Subject:
    """The repository of the demonstration, made anew."""
    from diurna_agents.demo_repository import BASE, HEAD, make_demo_repository

    repository = folder / "repository"
    if repository.exists():
        shutil.rmtree(repository)
    make_demo_repository(repository)
    return Subject(str(repository), BASE, HEAD)


def _tell_timeline(stage: Stage, events: list[Event]) -> None:
    stage.heading(f"The timeline: {len(events)} events, in order, with their positions on the log")
    stage.session.lines(f"  {line(event)}" for event in events)


def _tell_where_it_stands(stage: Stage, started: dict[str, Any], end: End) -> None:
    """The answer on the bus, the row in Postgres, and how to ask for both."""
    workflow_id, request_id = str(started["workflow_id"]), str(started["request_id"])
    session, api = stage.session, stage.api
    stage.heading("The answer, the row and the query")
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
