"""A service that really runs, really killed, and really healed."""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from diurna_deploy.following import end_of, follow_workflow
from diurna_deploy.narration import progress
from diurna_schemas.errors import Refused

if TYPE_CHECKING:
    from diurna_deploy.demo.stage import Stage

_NAME: Final = "pages"
_DEATH_SECONDS: Final = 30.0
_ANSWER_SECONDS: Final = 10.0


def heal(stage: Stage) -> dict[str, Any]:
    """Has a service started, kills it with SIGKILL, and lets a workflow find out why and start it again."""
    stage.heading("Healing: a service is started, killed with SIGKILL, and healed by three agents that vote")
    service = _Service(stage)
    killed = int(service.ask("start_service")["after"]["pid"])
    stage.session.say(f"  {service.url} answers {_status(service.url)}: process {killed}")
    try:
        os.kill(killed, signal.SIGKILL)
        service.wait_until_it_is_dead()
        stage.session.say(f"  Killed process {killed}.")
        given = {"service": _NAME, "services": service.declared, "escalate": "never"}
        started = stage.api.post("/workflows", {"workflow_type": "self_healing", "input": given})
        follow_workflow(stage.api, started, tell=lambda event: stage.session.say(f"  {progress(event)}"))
        end = end_of(stage.api, started)
        diagnosis: dict[str, Any] = end.final_result.get("diagnosis") or {}
        votes: dict[str, dict[str, Any]] = diagnosis.get("votes", {})
        for agent, vote in votes.items():
            stage.session.say(f"  {agent} votes {vote['remedy']} ({vote['confidence']}): {vote['diagnosis']}")
        if end.is_success:
            alive = end.final_result["process_after"]
            stage.session.say(f"  {service.url} answers {_status(service.url)}: process {alive}")
        stage.session.say(f"  {end.in_words()}", style="green" if end.is_success else "bold red")
        return {**end.as_json(), "killed": killed}
    finally:
        service.ask("stop_service")


class _Service:
    """A web server for the folder of the demonstration; nothing but a workflow starts it again."""

    def __init__(self, stage: Stage) -> None:
        self._api = stage.api
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"
        stage.folder.mkdir(parents=True, exist_ok=True)
        self.declared = {
            _NAME: {
                "command": [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
                "directory": str(stage.folder),
                "checks": [{"kind": "http", "url": self.url}],
                "restart": "never",
            }
        }

    def ask(self, task: str) -> dict[str, Any]:
        """What the infrastructure agent answers to a task on it. Raises `Refused` where it was not done."""
        answer = self._api.post(
            "/agent-request",
            {
                "source_agent": "demo",
                "target_agent": "infrastructure",
                "request_type": "execute_task",
                "payload": {"task": task, "service": _NAME, "services": self.declared},
                "timeout_seconds": 120,
            },
        )
        if answer["status"] != "success":
            raise Refused(f"{task}: {answer['error']}")
        found: dict[str, Any] = answer["result"]
        return found

    def wait_until_it_is_dead(self) -> None:
        Retrying(
            retry=retry_if_result(lambda state: state == "running"),
            stop=stop_after_delay(_DEATH_SECONDS),
            wait=wait_fixed(0.1),
        )(lambda: self.ask("service_status")["after"]["state"])


def _status(url: str) -> int:
    import httpx

    return httpx.get(url, timeout=_ANSWER_SECONDS, trust_env=False).status_code
