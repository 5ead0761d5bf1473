"""A deployment whose orchestrator is killed in the middle: its successor goes on, and asks nothing twice."""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

from diurna_deploy.following import Event, end_of, follow_workflow
from diurna_deploy.narration import progress

if TYPE_CHECKING:
    from diurna_deploy.demo.deployment import Subject
    from diurna_deploy.demo.stage import Stage


def succeed(stage: Stage, subject: Subject) -> dict[str, Any]:
    """Deploys once more; as soon as the tests are at work, the orchestrator is killed with SIGKILL."""
    stage.heading("Succession: a second deployment, and the orchestrator is killed in the middle of it")
    deploy_to = stage.folder / "succession"
    given = {"repo": subject.repo, "base": subject.base, "head": subject.head, "deploy_to": str(deploy_to)}
    started = stage.api.post("/workflows", {"workflow_type": "pr_deployment", "input": given})
    killed: list[int] = []

    def tell(event: Event) -> None:
        stage.session.say(f"  {progress(event)}")
        if not killed and event["type"] == "request.dispatched" and _asked(event) == "run_pipeline":
            killed.append(stage.pid_of("orchestrator"))
            os.kill(killed[0], signal.SIGKILL)
            stage.session.say(f"  Killed the orchestrator, process {killed[0]}.", style="bold")

    events = follow_workflow(stage.api, started, tell=tell)
    end = end_of(stage.api, started)
    questions = Counter(_asked(event) for event in events if event["type"] == "request.submitted")
    attempts = sum(event["type"] == "request.dispatched" and _asked(event) == "execute_task" for event in events)
    is_once = bool(killed) and set(questions.values()) == {1}
    told = ", ".join(f"{name} ({count})" for name, count in questions.items())
    stage.session.say(f"  Asked: {told}. Orchestrators that drove it: {attempts}.")
    if is_once:
        stage.session.say("  Its successor went on from the last checkpoint and asked nothing twice.", style="green")
    else:
        stage.session.say("  Something was asked twice, or nobody was killed.", style="bold red")
    stage.session.say(f"  {end.in_words()}", style="green" if end.is_success else "bold red")
    return {
        **end.as_json(),
        "killed": killed[0] if killed else None,
        "questions": dict(questions),
        "orchestrators": attempts,
        "asked_once": is_once,
    }


def _asked(event: Event) -> str:
    return str(event["data"]["request"]["request_type"])
