"""Declared services: looked at, started, stopped, really restarted; and configuration that is taken back."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from diurna_agents import service_keeper
from diurna_agents.errors import ConfigurationBusy, ServiceBusy
from diurna_agents.infrastructure import execute_task, health_check, update_config
from diurna_agents.infrastructure.keeping import Kept
from diurna_agents.process_identity import ProcessIdentity
from diurna_agents.workspace import Workspace, report_nothing
from diurna_schemas.errors import InvalidInput, NotFound, Refused, StaleToken
from support.agents_repositories import workspace_below
from support.stack import eventually

SERVER = """
import http.server, json, os, pathlib, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        settings = json.loads(pathlib.Path(sys.argv[2]).read_text()) if len(sys.argv) > 2 else {"healthy": True}
        self.send_response(200 if settings["healthy"] else 503)
        self.end_headers()
        self.wfile.write(f"process {os.getpid()} {os.environ.get('GREETING')}".encode())
    def log_message(self, *_): pass
print("listening, GITHUB_TOKEN=abc123def", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Site:
    """An agent's workspace, and a service declared in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.workspace: Workspace = workspace_below(path)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.program = path / "server.py"
        self.program.write_text(SERVER)
        self.service: dict[str, Any] = {
            "command": [sys.executable, str(self.program), str(self.port)],
            "environment": {"GREETING": "hello"},
            "checks": [{"kind": "http", "url": f"http://127.0.0.1:{self.port}/", "contains": "hello"}],
            "start_seconds": 20,
            "stop_seconds": 3,
        }

    async def task(self, task: str, **more: Any) -> dict[str, Any]:
        payload = {"task": task, "service": "web", "services": {"web": self.service}, **more}
        answer = await execute_task(payload, workspace=self.workspace, report=report_nothing)
        assert json.loads(json.dumps(answer)) == answer, "an answer is plain JSON"
        return answer

    async def health(self, payload: Mapping[str, object]) -> dict[str, Any]:
        return await health_check(payload, workspace=self.workspace, report=report_nothing)

    async def update(self, file: Path, updates: Mapping[str, object], **more: object) -> dict[str, Any]:
        payload = {"file": str(file), "updates": updates, **more}
        answer = await update_config(payload, workspace=self.workspace, report=report_nothing)
        assert json.loads(json.dumps(answer)) == answer, "an answer is plain JSON"
        return answer


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    yield made
    await Kept("web", made.workspace).stop(1)


async def test_a_holder_that_was_overtaken_restarts_nothing(site: Site):
    lock = {"resource_id": "service:web", "token": 7}
    started = await site.task("restart_service", lock=lock)
    with pytest.raises(StaleToken):
        await site.task("restart_service", lock={**lock, "token": 6})
    assert (await site.task("service_status"))["after"]["pid"] == started["after"]["pid"]
    again = await site.task("restart_service", lock=lock)  # an agent that is asked again has the same token
    assert again["done"] is True


async def test_a_service_is_started_watched_restarted_and_stopped(site: Site):
    down = await site.health({"services": {"web": site.service}})
    assert (down["healthy"], [issue["service"] for issue in down["issues"]]) == (False, ["web"])
    started = await site.task("start_service")
    assert (started["done"], started["healthy"], started["after"]["state"]) == (True, True, "running")
    assert started["output"].startswith("listening")
    pid = started["after"]["pid"]
    assert (await site.task("start_service"))["after"]["pid"] == pid, "what runs is not started twice"
    up = await site.health({"services": {"web": site.service}})
    assert (up["healthy"], up["issues"]) == (True, [])
    again = await site.task("restart_service")
    assert (again["done"], again["before"]["pid"]) == (True, pid)
    assert again["after"]["pid"] != pid
    assert ProcessIdentity.of(pid) is None, "the old process is gone"
    status = await site.task("service_status")
    assert (status["after"]["pid"], status["healthy"]) == (again["after"]["pid"], True)
    stopped = await site.task("stop_service")
    assert (stopped["done"], stopped["after"]["state"], stopped["after"]["pid"]) == (True, "stopped", None)
    assert ProcessIdentity.of(again["after"]["pid"]) is None


async def test_a_killed_service_comes_back_and_a_killed_keeper_leaves_nothing_running_twice(site: Site):
    pid = (await site.task("start_service"))["after"]["pid"]
    os.kill(pid, signal.SIGKILL)

    async def is_back() -> bool:
        standing = Kept("web", site.workspace).standing()
        return standing.is_running and standing.pid != pid

    await eventually(is_back)
    status = (await site.task("service_status"))["after"]
    assert status["restarts"] == 1
    keeper = service_keeper.read_state(site.workspace.root / "services/web")["keeper"]["pid"]
    os.kill(keeper, signal.SIGKILL)
    restarted = await site.task("restart_service")
    assert restarted["done"], restarted
    assert ProcessIdentity.of(status["pid"]) is None


async def test_a_service_that_cannot_live_is_told_and_given_up(site: Site, monkeypatch: pytest.MonkeyPatch):
    site.service |= {"command": [sys.executable, "-c", "import sys; sys.exit('no configuration')"], "start_seconds": 1}
    answer = await site.task("start_service")
    assert (answer["done"], answer["healthy"]) == (False, False)
    assert "no configuration" in answer["output"]
    site.service["command"] = ["/nothing/of/the/kind"]
    with pytest.raises(Refused, match=r"service web: /nothing/of/the/kind cannot be started: No such file"):
        await site.task("restart_service")
    site.service["command"] = None
    with pytest.raises(Refused, match="it has no command"):
        await site.task("start_service")
    site.service |= {"command": [sys.executable, "-c", "pass"], "restart": "never", "start_seconds": 3}
    assert (await site.task("restart_service"))["after"]["state"] == "ended"


async def test_a_process_that_lives_for_a_moment_only_was_not_started(site: Site):
    site.service |= {"command": ["sh", "-c", "sleep 0.4"], "checks": [], "restart": "never", "start_seconds": 3}
    answer = await site.task("start_service")
    assert (answer["done"], answer["healthy"], answer["after"]["state"]) == (False, False, "ended")


async def test_two_tasks_at_once_do_not_meet(site: Site):
    async with Kept("web", site.workspace).alone(0):
        with pytest.raises(ServiceBusy, match="service: 'web' is held by another task"):
            await site.task("restart_service", wait_seconds=0.2)


async def test_services_are_declared_in_a_file_and_looked_at_in_every_way(site: Site, tmp_path: Path):
    fresh, pid_file = tmp_path / "heartbeat", tmp_path / "service.pid"
    fresh.touch()
    pid_file.write_text(str(os.getpid()))
    file = tmp_path / "services.toml"
    file.write_text(
        f"""
[services.web]
command = [{sys.executable!r}, {str(site.program)!r}, "{site.port}"]
start_seconds = 20
checks = [
    {{ kind = "tcp", port = {site.port} }},
    {{ kind = "process" }},
    {{ kind = "http", url = "http://127.0.0.1:{site.port}/", status = 200 }},
]

[services.batch]
checks = [
    {{ kind = "file_age", path = {str(fresh)!r}, age_seconds_max = 60 }},
    {{ kind = "process", pid_file = {str(pid_file)!r} }},
]
"""
    )
    payload: dict[str, Any] = {"services_file": str(file)}
    one = await site.health({**payload, "names": ["batch"]})
    assert (one["healthy"], list(one["services"])) == (True, ["batch"])
    every = await site.health(payload)
    assert {issue["check"] for issue in every["issues"]} == {
        f"tcp 127.0.0.1:{site.port}",
        "process",
        f"GET http://127.0.0.1:{site.port}/",
    }
    answer = await execute_task(
        {"task": "start_service", "service": "web", **payload}, workspace=site.workspace, report=report_nothing
    )
    assert answer["done"]
    assert (await site.health(payload))["healthy"]
    os.utime(fresh, (1, 1))
    pid_file.write_text("999999999")
    ill = await site.health({**payload, "names": ["batch"]})
    assert [issue["check"] for issue in ill["issues"]] == [f"file {fresh}", "process"]
    (site.workspace.root / "services.toml").write_text(file.read_text())
    assert list((await site.health({}))["services"]) == ["web", "batch"], "the agent's own file is the default"


async def test_wrong_declarations_are_named(site: Site, tmp_path: Path):
    wrong = tmp_path / "services.yaml"
    wrong.write_text("services:\n  web:\n    checks:\n      - {kind: tcp, port: 99999}\n")
    with pytest.raises(InvalidInput, match=r"services_file: .*services\.yaml: services\.web\.checks\.0\.port: "):
        await site.health({"services_file": str(wrong)})
    wrong.write_text("services: [")
    with pytest.raises(InvalidInput, match="it is no YAML"):
        await site.health({"services_file": str(wrong)})
    with pytest.raises(InvalidInput, match="cannot be read"):
        await site.health({})
    with pytest.raises(NotFound, match="no service with id 'db'"):
        await site.health({"services": {"web": site.service}, "names": ["db"]})
    with pytest.raises(InvalidInput, match="task"):
        await site.task("explode_service")
    with pytest.raises(InvalidInput, match="checks"):
        await site.health({"services": {"web": {"checks": [{"kind": "ping"}]}}})


TOML = '# the port\n[server]\nport = 80 # usual\nname = "web"\nratio = 1.5\n\n[other]\nx = [1, 2]\n'
YAML = "# the port\nserver:\n  port: 80  # usual\n  name: 'web'\n  ratio: 1.5\nother:\n  x: [1, 2]\n"
JSON = json.dumps({"server": {"port": 80, "name": "web", "ratio": 1.5}, "other": {"x": [1, 2]}}, indent=4) + "\n"


def text_of(path: str) -> str:
    return Path(path).read_text()


def found(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


@pytest.mark.parametrize(("suffix", "text"), [("toml", TOML), ("yaml", YAML), ("json", JSON)])
async def test_values_are_changed_and_everything_else_of_the_file_stays(
    site: Site, tmp_path: Path, suffix: str, text: str
):
    file = tmp_path / f"settings.{suffix}"
    file.write_text(text)
    file.chmod(0o640)
    answer = await site.update(file, {"server": {"port": 8080, "name": None}})
    assert answer["outcome"] == "updated"
    assert answer["changes"] == [
        {"path": "server.port", "kind": "changed", "type": "integer"},
        {"path": "server.name", "kind": "removed", "type": "string"},
    ]
    kept = [line for line in text.splitlines() if "name" not in line]
    if suffix != "json":
        written = [" ".join(line.split()) for line in file.read_text().splitlines()]
        assert written == [" ".join(line.replace("80", "8080").split()) for line in kept]
    else:
        assert json.loads(file.read_text())["server"] == {"port": 8080, "ratio": 1.5}
        assert file.read_text().splitlines()[1] == '    "server": {', "indented as it was"
    assert file.stat().st_mode & 0o777 == 0o640
    assert text_of(answer["backup"]) == text
    assert answer["sha256_after"] == hashlib.sha256(file.read_bytes()).hexdigest()
    again = await site.update(file, {"server": {"port": 8080}}, expected_sha256=answer["sha256_after"])
    assert (again["outcome"], again["backup"]) == ("unchanged", None)
    assert found(tmp_path, "*.partial") == []


async def test_what_must_not_be_written_is_named_and_nothing_is(site: Site, tmp_path: Path):
    file = tmp_path / "settings.toml"
    file.write_text(TOML)
    schema = {"properties": {"server": {"properties": {"port": {"maximum": 1024}}}}, "type": "object"}
    for updates, more, said in (
        ({"server": {"port": "80"}}, {}, "updates.server.port: the file has an integer there, this is a string"),
        ({"server": {"prot": 80}}, {}, "updates.server.prot: there is no such name in the file"),
        ({"server": 80}, {}, "updates.server: the file has an object there"),
        ({"server": {"port": 8080}}, {"schema": schema}, "updates.server.port: the schema does not allow it"),
        ({"server": {"port": 8080}}, {"schema": {"type": 7}}, "schema: it is no JSON Schema"),
        ({"server": {"port": 1}}, {"schema": {"$ref": "https://example.com/x"}}, "schema: it refers to something"),
        ({"other": {"x": [None]}}, {}, "updates: TOML cannot hold it"),
        ({}, {}, "updates"),
    ):
        with pytest.raises(InvalidInput) as refused:
            await site.update(file, updates, **more)
        assert said in str(refused.value)
    with pytest.raises(ConfigurationBusy, match="has the checksum"):
        await site.update(file, {"server": {"port": 81}}, expected_sha256="0" * 64)
    for path, said in ((tmp_path / "gone.toml", "cannot be read"), (site.program, "its name must end in one of")):
        with pytest.raises(InvalidInput, match=said):
            await site.update(path, {"a": 1})
    assert file.read_text() == TOML
    assert found(tmp_path, "*.bak-*") == []
    assert (await site.update(file, {"server": {"new": {"deep": 1}}}, allow_new=True))["outcome"] == "updated"
    assert (await site.update(file, {"server": {"ratio": 2}}))["outcome"] == "updated", "a whole number is a number"


async def test_a_change_that_does_harm_is_taken_back_and_the_service_restarted(site: Site, tmp_path: Path):
    file = tmp_path / "settings.json"
    file.write_text('{"healthy": true}')
    site.service["command"].append(str(file))
    await site.task("start_service")
    payload: dict[str, Any] = {"services": {"web": site.service}, "restart": "web", "health_seconds": 2}
    answer = await site.update(file, {"healthy": False}, **payload)
    assert answer["outcome"] == "rolled_back"
    assert "HTTP 503, not 2xx" in answer["reason"]
    assert (answer["health"]["healthy"], answer["health_after_rollback"]["healthy"]) == (False, True)
    assert file.read_text() == '{"healthy": true}'
    assert (await site.health({"services": {"web": site.service}}))["healthy"]


async def test_old_backups_go_a_link_stays_one_and_a_cancelled_change_is_taken_back(site: Site, tmp_path: Path):
    file, link = tmp_path / "real.json", tmp_path / "link.json"
    file.write_text('{"n": 0}')
    link.symlink_to(file)
    for number in range(1, 5):
        await site.update(link, {"n": number}, keep_backups=2)
    assert link.is_symlink()
    assert [json.loads(path.read_text())["n"] for path in found(tmp_path, "real.json.bak-*")] == [2, 3]
    reached = asyncio.Event()

    async def report(step: str, details: dict[str, object]) -> None:
        reached.set()

    checks = [{"kind": "tcp", "port": site.port, "timeout_seconds": 1}]
    payload = {"file": str(file), "updates": {"n": 9}, "checks": checks, "health_seconds": 60}
    task = asyncio.create_task(update_config(payload, workspace=site.workspace, report=report))
    async with asyncio.timeout(30):
        await reached.wait()
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert json.loads(file.read_text()) == {"n": 4}
