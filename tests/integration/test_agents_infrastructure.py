"""Deployments into real directories: switched at once, watched, and taken back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import cast

import pytest

from diurna import FileFenceGuard, StaleToken
from diurna_agents import demo_repository
from diurna_agents.cicd import deploy_artifact, validate_build
from diurna_agents.demo_repository import make_demo_repository
from diurna_agents.errors import DeploymentBusy, ReleaseNotFound
from diurna_agents.infrastructure import deploy_service, health_check, rollback
from diurna_agents.infrastructure.releases import Releases
from diurna_agents.uv_tool import uv_program
from diurna_agents.workspace import report_nothing
from diurna_schemas.errors import InvalidInput
from support.agents_repositories import GitRepository, workspace_below


class Site:
    """A directory that is deployed to, and the repositories deployed there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.target = path / "app"
        self.workspace = workspace_below(path)
        self.good = make_demo_repository(path / "good")
        self.ill = make_demo_repository(path / "ill", variant="broken_health")

    async def deploy(self, repo: Path, head: str, **more: object) -> dict[str, object]:
        payload = {"repo": str(repo), "head": head, "deploy_to": str(self.target), **more}
        answer = await deploy_service(payload, workspace=self.workspace, report=report_nothing)
        assert json.loads(json.dumps(answer)) == answer, "an answer is plain JSON"
        return answer

    def says(self, *words: str) -> str:
        program = self.target / "current/environment/bin/greeting-service"
        return subprocess.run([program, *words], capture_output=True, text=True, check=True).stdout.strip()

    def releases(self) -> list[str]:
        return sorted(path.name for path in (self.target / "releases").iterdir())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_a_release_is_installed_switched_to_and_works(site: Site):
    first = await site.deploy(site.good, "main", service="greetings")
    assert (first["deployment_status"], first["version"], first["previous"]) == ("deployed", "1.0.0", None)
    assert site.says("Ada") == "Hello, Ada!"
    second = await site.deploy(site.good, demo_repository.HEAD)
    assert (second["version"], second["previous"]) == ("1.1.0", first["release"])
    assert second["current"] == second["release"]
    assert site.says("Ada", "--farewell") == "Goodbye, Ada!"
    assert site.releases() == sorted([str(first["release"]), str(second["release"])])
    record = json.loads((site.target / "current/release.json").read_text())
    assert (record["state"], record["version"], record["previous"]) == ("deployed", "1.1.0", first["release"])


def under(token: int) -> dict[str, object]:
    return {"lock": {"resource_id": "deploy:/srv/app", "token": token}}


async def test_a_stale_token_is_refused_and_nothing_is_switched(site: Site):
    first = await site.deploy(site.good, "main", **under(20))
    assert first["deployment_status"] == "deployed"
    with pytest.raises(StaleToken, match=r"fencing token 19 .* is stale: 20 was seen"):
        await site.deploy(site.good, demo_repository.HEAD, **under(19))
    assert site.releases() == [first["release"]]
    assert site.says("Ada") == "Hello, Ada!"
    second = await site.deploy(site.good, demo_repository.HEAD, **under(21))
    assert second["current"] == second["release"]
    payload = {"deploy_to": str(site.target), **under(20)}
    with pytest.raises(StaleToken):
        await rollback(payload, workspace=site.workspace, report=report_nothing)
    assert Releases(site.target).current() == second["release"]


async def test_a_deployment_that_was_overtaken_while_it_installed_does_not_switch(site: Site):
    """Its lock was lost; the next holder has arrived, and waits for the directory."""
    first = await site.deploy(site.good, "main", **under(1))
    arrived: list[asyncio.Task[dict[str, object]]] = []

    async def overtake(step: str, details: dict[str, object]) -> None:
        if step == "checkout":
            later = {"repo": str(site.good), "head": "main", "deploy_to": str(site.target), **under(3)}
            arrived.append(asyncio.create_task(deploy_service(later, workspace=site.workspace, report=report_nothing)))
            guard = FileFenceGuard(site.target / ".fence.json")
            async with asyncio.timeout(30):
                while guard.highest("deploy:/srv/app") != 3:  # noqa: ASYNC110 - it is a file
                    await asyncio.sleep(0.01)

    payload = {"repo": str(site.good), "head": demo_repository.HEAD, "deploy_to": str(site.target), **under(2)}
    with pytest.raises(StaleToken, match=r"fencing token 2 .* is stale: 3 was seen"):
        await deploy_service(payload, workspace=site.workspace, report=overtake)
    later = await arrived[0]
    assert (later["deployment_status"], later["previous"]) == ("deployed", first["release"])
    assert len(site.releases()) == 2, "what was overtaken left nothing behind"


@pytest.mark.parametrize("token", [-1, 2**53, "7"])
async def test_what_is_no_token_is_refused(site: Site, token: object):
    with pytest.raises(InvalidInput, match=r"lock\.token"):
        await site.deploy(site.good, "main", lock={"resource_id": "deploy:x", "token": token})
    assert not site.target.exists()


async def test_a_release_that_does_not_start_never_becomes_current(site: Site):
    first = await site.deploy(site.good, "main")
    answer = await site.deploy(site.ill, demo_repository.HEAD)
    assert (answer["deployment_status"], answer["current"]) == ("failed", first["release"])
    assert "farewells.json" in str(answer["detail"])
    assert "switched" not in {step["step"] for step in answer["steps"]}  # type: ignore[attr-defined, index, union-attr]
    assert site.says("Ada") == "Hello, Ada!"


async def test_a_release_found_ill_through_current_is_taken_back(site: Site, unused_port: int):
    first = await site.deploy(site.good, "main")
    health = {"url": f"http://127.0.0.1:{unused_port}/health", "attempts": 2, "timeout_seconds": 1}
    answer = await site.deploy(site.good, demo_repository.HEAD, health=health)
    assert (answer["deployment_status"], answer["current"]) == ("rolled_back", first["release"])
    assert site.says("--version") == "1.0.0"
    record = json.loads((site.target / "releases" / str(answer["release"]) / "release.json").read_text())
    assert record["state"] == "failed"


async def test_the_first_release_found_ill_leaves_nothing_current(site: Site, unused_port: int):
    health = {"url": f"http://127.0.0.1:{unused_port}/", "attempts": 1, "timeout_seconds": 1}
    answer = await site.deploy(site.good, "main", health=health)
    assert (answer["deployment_status"], answer["current"], answer["previous"]) == ("failed", None, None)
    assert not (site.target / "current").exists()


async def test_health_may_be_told_by_url_module_or_command(site: Site, served_health: str):
    for health in ({"url": served_health}, {"module": "greeting_service.health"}, {"command": "greeting-service Ada"}):
        answer = await site.deploy(site.good, "main", health=health)
        assert answer["deployment_status"] == "deployed", answer["detail"]
        seen = await health_check({"deploy_to": str(site.target)}, workspace=site.workspace, report=report_nothing)
        assert (seen["healthy"], seen["release"]) == (True, answer["release"])


async def test_old_releases_go_and_the_wanted_number_stays(site: Site):
    names = [(await site.deploy(site.good, "main", keep=2))["release"] for _ in range(4)]
    assert site.releases() == sorted(str(name) for name in names[-2:])


async def test_a_rollback_goes_to_the_release_before_and_can_be_named(site: Site):
    first = await site.deploy(site.good, "main")
    second = await site.deploy(site.good, demo_repository.HEAD)
    payload: dict[str, object] = {"deploy_to": str(site.target)}
    back = await rollback(payload, workspace=site.workspace, report=report_nothing)
    assert (back["deployment_status"], back["current"]) == ("rolled_back", first["release"])
    assert site.says("--version") == "1.0.0"
    forth = await rollback({**payload, "release": second["release"]}, workspace=site.workspace, report=report_nothing)
    assert forth["current"] == second["release"]
    with pytest.raises(ReleaseNotFound, match="release: no release 'nothing'"):
        await rollback({**payload, "release": "nothing"}, workspace=site.workspace, report=report_nothing)


async def test_a_rollback_to_an_ill_release_is_undone(site: Site):
    first = await site.deploy(site.good, "main")
    second = await site.deploy(site.good, demo_repository.HEAD)
    package = next((site.target / "releases" / str(first["release"])).rglob("greeting_service/greetings.py"))
    package.write_text("raise ImportError('spoiled')\n")
    answer = await rollback({"deploy_to": str(site.target)}, workspace=site.workspace, report=report_nothing)
    assert (answer["deployment_status"], answer["current"]) == ("failed", second["release"])
    assert "spoiled" in str(answer["detail"])


async def test_two_deployments_at_once_are_done_one_after_the_other(site: Site):
    answers = await asyncio.gather(site.deploy(site.good, "main"), site.deploy(site.good, demo_repository.HEAD))
    assert [answer["deployment_status"] for answer in answers] == ["deployed", "deployed"]
    later = max(answers, key=lambda answer: answer["previous"] is not None)
    assert {answer["previous"] for answer in answers} == {
        None,
        *(set(map(str, (a["release"] for a in answers))) - {str(later["release"])}),
    }


async def test_a_deployment_that_may_not_wait_is_refused_with_the_holder(site: Site):
    async with Releases(site.target).locked("somebody else's work", wait_seconds=0):
        with pytest.raises(DeploymentBusy, match=r"held by process \d+ for somebody else's work"):
            await site.deploy(site.good, "main", wait_seconds=0.2)
    assert (await site.deploy(site.good, "main"))["deployment_status"] == "deployed"


async def test_a_cancelled_deployment_leaves_current_and_no_debris(site: Site):
    first = await site.deploy(site.good, "main")
    reached = asyncio.Event()

    async def report(step: str, details: dict[str, object]) -> None:
        if step == "switched":
            reached.set()
            await asyncio.Event().wait()

    payload = {"repo": str(site.good), "head": demo_repository.HEAD, "deploy_to": str(site.target)}
    task = asyncio.create_task(deploy_service(payload, workspace=site.workspace, report=report))
    async with asyncio.timeout(60):
        await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert Releases(site.target).current() == first["release"]
    assert site.releases() == [first["release"]]


KILLED = """
import asyncio, os, sys
from pathlib import Path
from diurna_agents.infrastructure import deploy_service
from diurna_agents.workspace import Workspace

async def report(step, details):
    if step == sys.argv[4]:
        print("reached", flush=True)
        await asyncio.Event().wait()

workspace = Workspace(Path(sys.argv[3]), environment=os.environ)
payload = {"repo": sys.argv[1], "head": "feature/farewell", "deploy_to": sys.argv[2]}
asyncio.run(deploy_service(payload, workspace=workspace, report=report))
"""


@pytest.mark.parametrize("step", ["built", "installed", "switched"])
async def test_a_killed_deployment_leaves_a_valid_current_and_the_next_one_cleans_up(site: Site, step: str):
    first = await site.deploy(site.good, "main")
    words = [sys.executable, "-c", KILLED, str(site.good), str(site.target), str(site.path / "killed"), step]
    child = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    assert (await child.stdout.readline()).strip() == b"reached"
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()
    assert site.says("Ada") == "Hello, Ada!"
    left = [name for name in site.releases() if name != first["release"]]
    assert len(left) == 1
    answer = await site.deploy(site.good, "main")
    assert answer["deployment_status"] == "deployed"
    assert answer["previous"] == first["release"], "what was never seen healthy is not gone back to"
    if step != "switched":
        assert left[0] not in site.releases()


async def test_a_tree_without_build_metadata_is_deployed_as_it_is(site: Site, tmp_path: Path):
    git = GitRepository(tmp_path / "plain.git")
    git.commit({"serve.py": "print('served')\n", "static/index.html": "<p>hello\n"})
    answer = await site.deploy(git.path, "main", health={"command": "python serve.py"})
    assert answer["deployment_status"] == "deployed"
    assert (site.target / "current/app/static/index.html").read_text() == "<p>hello\n"
    assert not (site.target / "current/app/.git").exists()
    git.commit({"serve.py": "print('served'\n"}, branch="broken")
    broken = await site.deploy(git.path, "broken")
    assert (broken["deployment_status"], broken["current"]) == ("failed", answer["release"])


HATCHLING = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
INNER = {
    "packages/inner/pyproject.toml": f'{HATCHLING}[project]\nname = "inner"\nversion = "1.0"\n',
    "packages/inner/inner.py": "SAYS = 'inner'\n",
}
WORKSPACE = (
    '[project]\nname = "outer"\nversion = "1.0"\nrequires-python = ">=3.11"\ndependencies = ["inner"]\n'
    '[tool.uv.sources]\ninner = {workspace = true}\n[tool.uv.workspace]\nmembers = ["packages/*"]\n'
)


@pytest.mark.parametrize(
    ("files", "how"),
    [
        (
            {"requirements.txt": "-e ./packages/inner\n", "outer.py": "import inner\n"},
            "the requirements beside the tree",
        ),
        ({"pyproject.toml": WORKSPACE, "outer.py": "import inner\n"}, "the locked versions"),
        ({"pyproject.toml": HATCHLING + WORKSPACE, "outer.py": "import inner\n"}, "the locked versions"),
    ],
    ids=["requirements", "application", "package"],
)
async def test_what_is_installed_from_the_tree_is_there_when_the_checkout_is_gone(
    site: Site, tmp_path: Path, files: dict[str, str], how: str
):
    source = tmp_path / "source"
    for name, text in {**INNER, **files}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    if "pyproject.toml" in files:
        await asyncio.to_thread(subprocess.run, [uv_program(), "lock", "--quiet"], cwd=source, check=True)
    git = GitRepository(tmp_path / "mono.git")
    git.commit({str(path.relative_to(source)): path.read_text() for path in source.rglob("*") if path.is_file()})
    (tmp_path / "uv.toml").write_text("no settings of a tree that lies elsewhere")
    answer = await site.deploy(git.path, "main")
    assert answer["deployment_status"] == "deployed", answer["log_tail"]
    steps = cast("list[dict[str, object]]", answer["steps"])
    assert next(step["how"] for step in steps if step["step"] == "installed") == how
    python = site.target / "current/environment/bin/python"
    await asyncio.to_thread(subprocess.run, [python, "-c", "import inner"], check=True)


async def test_a_commit_that_does_not_build_fails_with_what_the_tools_said(site: Site, tmp_path: Path):
    git = GitRepository(tmp_path / "bad.git")
    build = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    git.commit({"pyproject.toml": f'{build}[project]\nname = "a"\n'})
    answer = await site.deploy(git.path, "main")
    assert (answer["deployment_status"], answer["current"]) == ("failed", None)
    assert "version" in str(answer["log_tail"])


async def test_what_was_never_deployed_has_no_health(site: Site):
    with pytest.raises(InvalidInput, match="deploy_to: nothing was deployed there"):
        await health_check({"deploy_to": str(site.target)}, workspace=site.workspace, report=report_nothing)


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def served_health() -> Iterator[str]:
    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/health"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_what_was_built_is_deployed_by_the_same_code_as_a_commit(site: Site):
    built = await validate_build(
        {"repo": str(site.good), "head": "main", "output": str(site.path / "dist")},
        workspace=site.workspace,
        report=report_nothing,
    )
    assert (built["valid"], [check["healthy"] for check in built["checks"]]) == (True, [True] * 3)  # type: ignore[attr-defined, union-attr]
    sdist, wheel = cast("list[dict[str, str]]", built["files"])
    for file, expected in ((wheel, None), (sdist, "previous")):
        payload = {"artifact": file["path"], "sha256": file["sha256"], "deploy_to": str(site.target)}
        answer = await deploy_artifact(payload, workspace=site.workspace, report=report_nothing)
        assert (answer["deployment_status"], answer["version"]) == ("deployed", "1.0.0")
        assert answer["head"] == file["sha256"]
        assert (answer["previous"] is not None) == (expected == "previous")
        assert site.says("Ada") == "Hello, Ada!"
    commit = await site.deploy(site.good, demo_repository.HEAD)
    assert commit["previous"] == answer["release"], "commits and artifacts are releases of one line"
    back = await rollback({"deploy_to": str(site.target)}, workspace=site.workspace, report=report_nothing)
    assert back["current"] == answer["release"]


async def test_an_artifact_that_is_none_is_refused_or_fails_and_nothing_becomes_current(site: Site):
    file = site.path / "greeting_service-1.0.0-py3-none-any.whl"
    payload: dict[str, object] = {"artifact": str(file), "deploy_to": str(site.target)}

    async def deployed(**more: object) -> dict[str, object]:
        return await deploy_artifact({**payload, **more}, workspace=site.workspace, report=report_nothing)

    with pytest.raises(InvalidInput, match="artifact: it cannot be read"):
        await deployed()
    file.write_bytes(b"no wheel")
    with pytest.raises(InvalidInput, match=r"sha256: the artifact .* has the checksum"):
        await deployed(sha256="0" * 64)
    with pytest.raises(InvalidInput, match=r"a wheel .* or an sdist"):
        await deployed(artifact="/srv/app.zip")
    answer = await deployed()
    assert (answer["deployment_status"], answer["current"]) == ("failed", None)
    assert "cannot be read" in str(answer["detail"])
