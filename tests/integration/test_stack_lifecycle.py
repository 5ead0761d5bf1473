"""A stack of small processes beside real servers: up, status, killed in every way, down."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from diurna_agents.process_identity import ProcessIdentity
from diurna_deploy.settings import Settings
from diurna_deploy.stack import Addresses, ProcessSpec, down, status, up
from diurna_deploy.stack.kafka import answers_api_versions
from diurna_deploy.stack.ports import is_free
from diurna_deploy.stack.processes import record_file, running_processes, supervisor
from diurna_deploy.stack.state import StateDirectory
from diurna_schemas.errors import Conflict, Unavailable
from support.stack import eventually, own_settings

SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(os.environ["DIURNA_DATABASE_URL"].encode())
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["DIURNA_API_PORT"])), Handler).serve_forever()
"""
WORKER = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(3600)"
CRASHER = "import sys; print('no luck', file=sys.stderr); sys.exit(7)"


@pytest.fixture(scope="module")
async def settings(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    made = own_settings(tmp_path_factory.mktemp("state"))
    yield made
    await down(made)


def specs_for(settings: Settings, addresses: Addresses) -> list[ProcessSpec]:
    ready = settings.state_dir / "worker.ready"
    return [
        ProcessSpec("server", (sys.executable, "-c", SERVER), ready=addresses.api_url),
        ProcessSpec("worker", (sys.executable, "-c", WORKER, str(ready)), ready=ready, stage=1),
    ]


async def test_up_starts_everything_in_order_and_says_where(settings: Settings) -> None:
    seen: list[str] = []

    async def prepare(addresses: Addresses) -> None:
        host, _, port = addresses.kafka_bootstrap_servers.rpartition(":")
        assert await answers_api_versions(host, int(port))
        seen.append("prepare")

    async def populate(addresses: Addresses) -> None:
        async with httpx.AsyncClient() as client:
            assert (await client.get(addresses.api_url)).text == addresses.database_url
        assert [process.name for process in running_processes(StateDirectory(settings.state_dir))] == ["server"]
        seen.append("populate")

    stack = await up(settings, lambda found: specs_for(settings, found), prepare=prepare, populate=populate)

    assert seen == ["prepare", "populate"]
    assert not stack.joined
    names = [process.name for process in stack.processes]
    assert names == ["kafka", "postgres", "supervisor", "server", "worker"]
    told = await status(settings)
    assert told["running"] is told["healthy"] is True
    assert told["api_url"] == stack.addresses.api_url
    assert told["schema_registry_url"] == f"{stack.addresses.api_url}/schema-registry"


async def test_a_second_up_joins_the_first(settings: Settings) -> None:
    before = pids(await status(settings))
    stack = await up(settings, lambda found: specs_for(settings, found))
    assert stack.joined
    assert pids(await status(settings)) == before


async def test_a_second_up_that_wants_more_is_refused(settings: Settings) -> None:
    more = ProcessSpec("another", (sys.executable, "-c", WORKER, "x"))
    with pytest.raises(Conflict, match="another"):
        await up(settings, [more])


async def test_nothing_in_the_state_directory_is_for_others_to_read(settings: Settings) -> None:
    entries = [settings.state_dir, *settings.state_dir.rglob("*")]
    # a folder nobody else may enter hides what is in it
    open_to_others = [path for path in entries if path.is_dir() and path.stat().st_mode & 0o077]
    assert settings.state_dir not in open_to_others
    named = {path.name: path.stat().st_mode & 0o777 for path in entries if path.suffix == ".json"}
    assert set(named.values()) == {0o600}
    assert (settings.state_dir / "postgres/password").stat().st_mode & 0o777 == 0o600
    assert (settings.state_dir / "orders.json").stat().st_mode & 0o777 == 0o600


async def test_a_killed_process_is_started_again(settings: Settings) -> None:
    before = pids(await status(settings))["worker"]
    os.kill(before, signal.SIGKILL)

    async def is_back() -> bool:
        return pids(await status(settings)).get("worker", before) != before

    await eventually(is_back)


@pytest.mark.parametrize("name", ["kafka", "postgres"])
async def test_a_killed_server_is_started_again_at_the_same_address(settings: Settings, name: str) -> None:
    told = await status(settings)
    os.kill(pids(told)[name], signal.SIGKILL)

    async def is_back() -> bool:
        return (await status(settings))["healthy"] is True and pids(await status(settings))[name] != pids(told)[name]

    await eventually(is_back, seconds=30)
    again = await status(settings)
    assert again["kafka_bootstrap_servers"] == told["kafka_bootstrap_servers"]
    assert again["database_url"] == told["database_url"]


async def test_after_a_killed_supervisor_up_starts_anew_and_leaves_no_double(settings: Settings) -> None:
    state = StateDirectory(settings.state_dir)
    before = pids(await status(settings))
    watching = supervisor(state)
    assert watching is not None
    os.kill(watching.pid, signal.SIGKILL)
    assert await watching.ended(5)
    assert (await status(settings))["healthy"] is False

    stack = await up(settings, lambda found: specs_for(settings, found))

    after = {process.name: process.pid for process in stack.processes}
    assert after["kafka"] == before["kafka"]
    assert after["server"] != before["server"]
    assert ProcessIdentity.of(before["server"]) is None
    assert ProcessIdentity.of(before["worker"]) is None


async def test_down_stops_all_of_it_and_only_that(settings: Settings) -> None:
    told = await status(settings)
    bystander = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)")
    # a record whose process number now belongs to somebody else
    state = StateDirectory(settings.state_dir)
    record_file(state, "recycled").write_text(
        f'{{"process": {{"pid": {bystander.pid}, "birth": "another boot:1"}}, "state": "running"}}'
    )
    try:
        stopped = await down(settings)
        assert set(stopped) == {"server", "worker", "supervisor", "kafka", "postgres"}
        assert [pid for pid in pids(told).values() if ProcessIdentity.of(pid) is not None] == []
        assert bystander.returncode is None
        assert ProcessIdentity.of(bystander.pid) is not None
    finally:
        bystander.kill()
        await bystander.wait()
    assert (await status(settings))["api_url"] is None
    assert await down(settings) == []


@pytest.fixture
async def own_state(tmp_path: Path) -> AsyncIterator[Path]:
    """A state directory in which nothing runs any more afterwards, however the test ends."""
    yield tmp_path
    await down(own_settings(tmp_path))


async def test_a_process_that_cannot_live_fails_the_start_and_takes_all_down_again(own_state: Path) -> None:
    settings = own_settings(own_state)
    with pytest.raises(Unavailable, match=r"(?s)broken ended .* with 7.*no luck"):
        await up(settings, [ProcessSpec("broken", (sys.executable, "-c", CRASHER))])
    told = await status(settings)
    assert told["running"] is False
    assert pids(told) == {}


async def test_modules_of_the_directory_it_is_started_in_are_none_of_its_own(
    own_state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = own_state / "somebody's project"
    foreign.mkdir()
    for name in ("queue", "secrets", "psutil"):
        (foreign / f"{name}.py").write_text("raise SystemExit('a module of the project')\n")
    monkeypatch.chdir(foreign)
    settings = own_settings(own_state / "state")
    try:
        stack = await up(settings, preload=True)
        assert {process.state for process in stack.processes} == {"running"}
    finally:
        await down(settings)


async def test_a_taken_port_that_was_asked_for_is_an_error_that_names_it(own_state: Path) -> None:
    listening = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        settings = own_settings(own_state, api_port=port)
        with pytest.raises(Conflict, match=f"DIURNA_API_PORT: port {port} is taken by process {os.getpid()}"):
            await up(settings)
        assert pids(await status(settings)) == {}
    finally:
        listening.close()
        await listening.wait_closed()
    assert is_free(port)


async def test_servers_of_your_own_that_do_not_answer_are_named(own_state: Path) -> None:
    settings = own_settings(
        own_state, kafka_bootstrap_servers="127.0.0.1:1", database_url="postgresql://nobody@127.0.0.1:1/none"
    )
    with pytest.raises(Unavailable, match=r"DIURNA_KAFKA_BOOTSTRAP_SERVERS.*127\.0\.0\.1:1"):
        await up(settings)
    left = [
        process.pid for process in psutil.process_iter(["cmdline"]) if str(own_state) in (process.info["cmdline"] or ())
    ]
    assert left == []  # not even a supervisor that had not said yet who it is


async def test_servers_of_your_own_are_used_and_not_started(
    own_state: Path, kafka_bootstrap: str, database_url: str
) -> None:
    settings = own_settings(own_state, kafka_bootstrap_servers=kafka_bootstrap, database_url=database_url)
    stack = await up(settings)
    try:
        assert stack.addresses.kafka_bootstrap_servers == kafka_bootstrap
        assert [process.name for process in stack.processes] == ["supervisor"]
    finally:
        assert await down(settings) == ["supervisor"]


async def test_a_stack_whose_state_directory_is_deleted_ends(own_state: Path) -> None:
    settings = own_settings(own_state)
    stack = await up(settings, lambda found: specs_for(settings, found))
    running = [ProcessIdentity.of(process.pid) for process in stack.processes if process.pid is not None]
    assert len(running) == 5
    # renamed, for deleting what others write to takes several tries; nobody finds it either way
    gone = await asyncio.to_thread(own_state.rename, own_state.with_name("gone"))

    async def is_over() -> bool:
        return not any(identity is not None and identity.is_alive() for identity in running)

    await eventually(is_over, seconds=60)
    assert not (own_state / "kafka").exists()
    await asyncio.to_thread(shutil.rmtree, gone)


def pids(told: dict[str, Any]) -> dict[str, int]:
    return {process["name"]: process["pid"] for process in told["processes"] if process["pid"] is not None}


async def test_a_damaged_word_of_a_stack_that_is_over_is_not_read_by_the_next(settings: Settings) -> None:
    await down(settings)
    state = StateDirectory(settings.state_dir)
    state.stack_file.write_text("{", encoding="utf-8")
    found: list[bool] = []

    async def prepare(addresses: Addresses) -> None:
        found.append(state.stack_file.exists())

    await up(settings, lambda addresses: specs_for(settings, addresses), prepare=prepare)
    assert found == [False]
    assert state.addresses() is not None
