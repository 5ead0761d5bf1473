"""Every command in the README, the tutorial and the how-tos is run, here or where its own test is."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest

from diurna_agents.demo_repository import BASE, HEAD, make_demo_repository

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/tutorial/first-steps.md",
    "docs/how-to/run-pr-deployment.md",
    "docs/how-to/restore-and-fork.md",
    "docs/how-to/kafka-ui.md",
    "docs/how-to/rebuild-the-tables.md",
    "docs/how-to/read-the-past.md",
    "docs/how-to/look-at-it-in-the-browser.md",
    "docs/how-to/audit-the-log.md",
    "docs/how-to/runbook.md",
    "docs/how-to/use-the-command-line.md",
    "docs/how-to/dashboards-and-alerts.md",
    "docs/reference/metrics.md",
    "docs/RESOURCE_LOCKING.md",
    "docs/MULTI_AGENT_WORKFLOWS.md",
)
ELSEWHERE = {
    "uv run diurna demo": "test_demo.py",
    "uv run pytest": "this is it",
    "pipx install uv": "needs a machine without uv",
    "diurna up --detach": "the fixture `diurna`",
    "diurna down": "the fixture `diurna`",
    ".ci/run": "what runs this",
    "uv run pytest tests/unit -q": ".ci/run",
    "uv run ruff check": ".ci/run",
    "uv run ruff format": ".ci/run",
    "uv run mypy": ".ci/run",
    "uv run pyright": ".ci/run",
    "uv run lint-imports": ".ci/run",
    ".ci/renew-pins": "changes the working tree; what it writes is in pyproject.toml",
    "git diff pyproject.toml": "git's own",
    "uv sync": "uv's own",
    "python -m diurna_deploy.worker auditor --metrics-port 9464": "test_audit_process.py",
    "diurna --show-completion bash": "test_cli_comfort.py",
    "python -m diurna_deploy.dashboards deploy/grafana/dashboards": "test_grafana_dashboards.py",
}


def commands_of(document: str) -> list[str]:
    """Every line of every console block."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [
        line.partition("  #")[0].strip()
        for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
        if line.strip()
    ]


def places() -> dict[str, str]:
    """Every command, and the first document it stands in."""
    found: dict[str, str] = {}
    for document in DOCUMENTS:
        for line in commands_of(document):
            found.setdefault(line, document)
    return found


def all_commands() -> list[str]:
    return list(places())


class Reader:
    """Somebody who types what the documents say, with names of their own."""

    def __init__(self, diurna: Any, folder: Path) -> None:
        self.diurna = diurna
        repository = make_demo_repository(folder / "service")
        self.deploy_to = folder / "releases"
        status = diurna.json("status")
        services = folder / "services.toml"  # its one service is well: a file was written lately
        services.write_text(
            f'[services.web]\nchecks = [{{ kind = "file_age", path = "{services}", age_seconds_max = 3600 }}]\n'
        )
        self.words = {
            "~/src/service": str(repository),
            "~/docs-of-service": str(folder / "docs-of-service"),
            "~/services.toml": str(services),
            "~/releases": str(self.deploy_to),
            "my-branch": HEAD,
            "main": BASE,
            "KAFKA_BOOTSTRAP_SERVERS": status["kafka_bootstrap_servers"],
        }
        self.registry_url = status["schema_registry_url"]

    @cached_property
    def shown_workflow(self) -> str:
        """One that may be looked at as often as anybody likes."""
        return self.waiting_workflow()

    def waiting_workflow(self) -> str:
        repo, deploy_to = self.words["~/src/service"], str(self.deploy_to)
        where = ("--repo", repo, "--base", BASE, "--head", HEAD, "--deploy-to", deploy_to)
        started = self.diurna.json("workflow", "start", "pr_deployment", *where, "--policy", "human", "--no-follow")
        api_url = self.diurna.json("status")["api_url"]
        _wait_for_approval(api_url, started["workflow_id"])
        return str(started["workflow_id"])

    @cached_property
    def changed_workflow(self) -> tuple[str, str]:
        """One with two versions and a checkpoint, and that checkpoint: its commands are run in the order they stand."""
        url = self.diurna.json("status")["api_url"]
        body = {"workflow_type": "test", "initial_state": {"branch": "main"}, "participating_agents": ["cicd"]}
        made = httpx.post(f"{url}/workflows", json=body).json()
        path = f"{url}/workflows/{made['workflow_id']}"
        taken = httpx.post(f"{path}/checkpoints", json={"step_name": "review", "data": {"comments": 2}}).json()
        step = httpx.post(f"{path}/steps", json={"step": "testing"}).json()
        httpx.get(path, params={"min_position": step["position"]}).raise_for_status()
        return str(made["workflow_id"]), str(taken["checkpoint_id"])

    def translated(self, line: str, document: str) -> list[str]:
        if document.endswith("restore-and-fork.md"):
            workflow_id, checkpoint_id = self.changed_workflow
            line = line.replace("WORKFLOW_ID", workflow_id).replace("CHECKPOINT_ID", checkpoint_id)
            line = line.replace("DEPLOYMENT_ID", self.shown_workflow) if "DEPLOYMENT_ID" in line else line
        if "WORKFLOW_ID" in line or "CORRELATION_ID" in line:
            is_decided_by_it = any(f" {verb} " in line for verb in ("approve", "reject", "cancel"))
            workflow_id = self.waiting_workflow() if is_decided_by_it else self.shown_workflow
            line = line.replace("WORKFLOW_ID", workflow_id).replace("CORRELATION_ID", workflow_id)
        words = [self.words.get(word, word) for word in shlex.split(line)]
        return [word.replace("SCHEMA_REGISTRY_URL", self.registry_url) for word in words]


def _wait_for_approval(api_url: str, workflow_id: str) -> None:
    from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

    def pending() -> bool:
        found = httpx.get(f"{api_url}/approvals", params={"workflow_id": workflow_id}).json()
        return [one["status"] for one in found] == ["pending"]

    Retrying(retry=retry_if_result(lambda is_there: not is_there), stop=stop_after_delay(120), wait=wait_fixed(0.2))(
        pending
    )


@pytest.fixture(scope="module")
def reader(diurna: Any, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(diurna, tmp_path_factory.mktemp("reader"))


@pytest.fixture(scope="module")
def greeter(diurna: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tutorial's own agent, running as the tutorial says."""
    text = (ROOT / "docs/tutorial/first-steps.md").read_text(encoding="utf-8")
    program = tmp_path_factory.mktemp("tutorial") / "greeter.py"
    program.write_text(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0])
    environment = {**os.environ, "DIURNA_STATE_DIR": str(diurna.state_dir)}
    running = subprocess.Popen([sys.executable, str(program)], env=environment)
    try:
        deadline = time.monotonic() + 60
        while diurna.run("agent", "show", "greeter").returncode != 0:
            assert time.monotonic() < deadline
            assert running.poll() is None
        yield
    finally:
        running.terminate()
        assert running.wait(30) == 0


@pytest.mark.parametrize(
    "line", [line for line in all_commands() if line.startswith("diurna ") and line not in ELSEWHERE]
)
def test_a_command_of_the_documents_does_what_it_says(line: str, reader: Reader, request: Any) -> None:
    if "greeter" in line or "first-steps" in line:
        request.getfixturevalue("greeter")
    words = reader.translated(line, places()[line])[1:]
    if words[:2] == ["event", "tail"]:
        words += ["--count", "1"]
        _busy(reader.diurna)
    done = reader.diurna.run(*words)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip()


def _busy(diurna: Any) -> None:
    """Something for a tail to see, a moment later."""
    threading.Timer(5, lambda: diurna.run("request", "send", "cicd", "get_status")).start()


@pytest.mark.parametrize("line", [line for line in all_commands() if "kaskade" in line])
def test_kaskade_shows_the_log_decoded(line: str, reader: Reader) -> None:
    reader.diurna.run("request", "send", "code-review", "get_status")
    words = reader.translated(line, places()[line])[2:]
    expected = [b"agents.events"] if "admin" in words else [b"agents.events", b"command_id"]
    screen = _screen_of(words, expected)
    assert all(text in screen for text in expected), screen[-3000:]


def _screen_of(words: list[str], expected: list[bytes]) -> bytes:
    """What a terminal program has drawn by the time everything expected is there, or a minute has passed."""
    leader, follower = pty.openpty()
    program = subprocess.Popen(
        [str(Path(sys.executable).parent / words[0]), *words[1:]],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "200", "LINES": "60"},
        start_new_session=True,
    )
    os.close(follower)
    screen = bytearray()
    enough = threading.Event()

    def read() -> None:
        while True:
            try:
                found = os.read(leader, 65536)
            except OSError:
                return
            screen.extend(found)
            if all(text in screen for text in expected):
                enough.set()

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    enough.wait(60)
    program.terminate()
    program.wait(20)
    os.close(leader)
    return bytes(screen)


def test_no_command_of_the_documents_is_left_untested() -> None:
    tested = [line for line in all_commands() if line.startswith("diurna ") or "kaskade" in line]
    assert [line for line in all_commands() if line not in tested and line not in ELSEWHERE] == []
    assert [line for line in ELSEWHERE if line not in all_commands()] == []


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("README.md", r"success agents\.events:"),
        ("docs/reference/checkpoints.md", r"\['a1', 'reviewed'\] 1$"),
        ("docs/reference/workflow-state.md", r"4 review \{'pr_number': 123, .* \{'comments': 2\}$"),
    ],
)
def test_the_programs_of_the_documents_run(reader: Reader, document: str, said: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    program = re.findall(r"```python(?: program)?\n(.*?)```", text, re.DOTALL)[0]
    environment = {**os.environ, "DIURNA_STATE_DIR": str(reader.diurna.state_dir)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.match(said, done.stdout.strip()), done.stdout
