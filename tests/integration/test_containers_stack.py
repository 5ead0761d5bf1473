"""What containers run, run here against the shared stack; and the compose file itself where Docker answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from diurna_deploy.lifecycle import AGENTS
from diurna_deploy.stack.ports import free_ports
from support.compose import FILE
from support.containers import docker_answers

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


def environment(diurna: Any) -> dict[str, str]:
    """What a container is told: addresses, and no state directory to find them in."""
    status = diurna.json("status")
    names = ("kafka_bootstrap_servers", "database_url", "schema_registry_url", "api_url")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DIURNA_")}
    return kept | {f"DIURNA_{name.upper()}": status[name] for name in names} | {"DIURNA_STATE_DIR": "/nowhere"}


def test_provisioning_what_is_ready_changes_nothing(diurna: Any) -> None:
    before = diurna.json("schema", "list")
    done = subprocess.run(
        [sys.executable, "-m", "diurna_deploy.provision"],
        env=environment(diurna), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert diurna.json("schema", "list") == before


def test_an_agent_listens_where_it_is_told_and_says_where_others_find_it(diurna: Any, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    ready, url = tmp_path / "ready", f"http://localhost:{port}"
    words = ("agent", "documentation", "--port", str(port), "--base-url", url, "--ready-file", str(ready))
    process = subprocess.Popen(
        [sys.executable, "-m", "diurna_deploy.worker", *words, "--host", "0.0.0.0", "--work-dir", str(tmp_path / "w")],
        env=environment(diurna),
    )
    check = [sys.executable, "-m", "diurna_deploy.healthy", str(ready)]
    try:
        waiting = Retrying(
            retry=retry_if_result(lambda code: code != 0), stop=stop_after_delay(90), wait=wait_fixed(0.5)
        )
        waiting(lambda: subprocess.run(check, capture_output=True, check=False).returncode)
        assert json.loads(ready.read_text()) == {"metrics_url": f"{url}/metrics"}
        instances = diurna.json("agent", "show", "documentation")["instances"]
        assert url in {instance["base_url"] for instance in instances}
    finally:
        process.terminate()
        assert process.wait(60) == 0
    assert subprocess.run(check, capture_output=True, check=False).returncode == 1


@pytest.mark.skipif(not docker_answers(), reason="no Docker daemon answers")
@pytest.mark.timeout(1800)
def test_compose_brings_everything_up() -> None:
    compose = ["docker", "compose", "--file", str(FILE), "--project-name", f"diurna-test-{os.getpid()}"]
    ports = ("KAFKA", "POSTGRES", "APICURIO", "DIURNA_API", "KAFKA_UI", "PROMETHEUS", "GRAFANA")
    told = os.environ | {f"{name}_PORT": "0" for name in ports}
    try:
        up = subprocess.run(
            [*compose, "up", "--build", "--detach", "--wait", "--wait-timeout", "900"],
            env=told, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert up.returncode == 0, up.stderr
        listed = subprocess.run(
            [*compose, "exec", "-T", "server", "diurna", "agent", "list", "--json"],
            env=told, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert {agent["agent_id"] for agent in json.loads(listed.stdout)} == set(AGENTS)
    finally:
        subprocess.run([*compose, "down", "--volumes"], env=told, capture_output=True, check=False)
