"""The demonstration from the first process to the last: which acts there are, and what became of them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from diurna_deploy.demo.deployment import Subject, demo_subject, deploy
from diurna_deploy.demo.documents import document
from diurna_deploy.demo.healing import heal
from diurna_deploy.demo.recovery import drop_and_recover
from diurna_deploy.demo.stage import Stage
from diurna_deploy.demo.succession import succeed

if TYPE_CHECKING:
    from diurna_deploy.cli.session import Session
    from diurna_deploy.settings import Settings

_FAILED: Final = 1


def run_demo(settings: Settings, session: Session, *, subject: Subject | None, keep: bool) -> int:
    """Runs the demonstration and returns the exit code: 0 where every act ended as it should."""
    from diurna_deploy.lifecycle import start_stack, stop_stack

    began = time.monotonic()
    session.say("")
    session.say(
        "Starting Kafka, Postgres, the registry, the deciders, the projector, the API and six agents", style="bold"
    )
    stack = asyncio.run(start_stack(settings))
    session.say(f"Everything answers after {time.monotonic() - began:.1f} s.")
    stage = Stage(settings, session, stack)
    try:
        code = _acts(stage, subject)
    except BaseException:
        session.say(f"The logs in {settings.state_dir / 'logs'} say why.", style="red")
        raise
    finally:
        # What ran before the demonstration goes on running after it.
        if not keep and not stack.get("joined"):
            asyncio.run(stop_stack(settings))
            session.say("Stopped; the log and the tables stay for the next time.")
    if keep:
        _tell_how_to_go_on(stage)
    return code


def _acts(stage: Stage, subject: Subject | None) -> int:
    session = stage.session
    chosen = subject or demo_subject(stage.folder)
    end, deployed = deploy(stage, chosen, is_own=subject is not None)
    acts: dict[str, Any] = {**deployed, "stack": stage.stack}
    is_well = end.is_success
    if stage.is_ours:
        if subject is None:  # a repository of the user's own is deployed as asked, and used for nothing else
            acts["documents"] = document(stage, chosen)
            acts["healing"] = heal(stage)
            acts["succession"] = succeed(stage, chosen)
            is_well = is_well and all(acts[name]["success"] for name in ("documents", "healing", "succession"))
            is_well = is_well and bool(acts["succession"]["asked_once"])
        acts["recovery"] = drop_and_recover(stage)
        is_well = is_well and bool(acts["recovery"]["equal"])
    if session.as_json:
        session.show(acts)
    else:
        session.say("")
        session.say(end.in_words(), style="bold green" if end.is_success else "bold red")
    if is_well:
        return 0
    session.say(f"The logs in {stage.settings.state_dir / 'logs'} say more.")
    return _FAILED


def _tell_how_to_go_on(stage: Stage) -> None:
    stage.heading("Left running")
    for name in ("api_url", "kafka_bootstrap_servers", "schema_registry_url"):
        stage.session.say(f"  {name:<24}{stage.stack.get(name)}")
    stage.session.say(f"  {'API documentation':<24}{stage.stack.get('api_url')}/docs")
    stage.session.say("  Stop it with `diurna down`.")
