"""The doctor sees what is wrong and says what to do."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from diurna_deploy.settings import Settings
from diurna_deploy.stack import doctor, down, up
from diurna_deploy.stack.doctor import Check, examine
from diurna_deploy.stack.jars import JarCache
from diurna_deploy.stack.processes import supervisor
from diurna_deploy.stack.state import StateDirectory
from support.stack import own_settings


async def checks_of(settings: Settings) -> dict[str, Check]:
    return {check.name: check for check in await examine(settings)}


async def test_a_machine_where_nothing_ran_yet_has_no_problem(tmp_path: Path) -> None:
    found = await examine(own_settings(tmp_path / "state", cache_dir=tmp_path / "cache"))
    assert [check for check in found if check.verdict == "problem"] == []
    by_name = {check.name: check for check in found}
    assert by_name["stack"].advice.startswith("`diurna up")
    assert "45 of 45 are not fetched" in by_name["kafka's jars"].detail
    assert not (tmp_path / "state").exists()


async def test_a_stack_that_ran_and_was_killed_is_seen_with_all_that_does_not_answer(tmp_path: Path) -> None:
    settings = own_settings(tmp_path)
    await up(settings)
    try:
        well = await checks_of(settings)
        assert {well[name].verdict for name in ("stack", "kafka", "postgres", "supervisor")} == {"ok"}
        assert well["api"].verdict == "problem"  # no process serves it in this stack
        watching = supervisor(StateDirectory(tmp_path))
        assert watching is not None
        watching.send(signal.SIGKILL)
        assert await watching.ended(5)
        hurt = await checks_of(settings)
        assert hurt["stack"].verdict == "problem"
        assert "all data is kept" in hurt["stack"].advice
    finally:
        await down(settings)


async def test_a_spoilt_jar_is_named(tmp_path: Path) -> None:
    cache = JarCache(Settings().cache_dir / "jars")
    await cache.ensure()
    spoilt = tmp_path / "cache/jars"
    await asyncio.to_thread(shutil.copytree, cache.folder, spoilt)
    (spoilt / "slf4j-api-1.7.36.jar").write_bytes(b"not a jar")
    found = (await checks_of(own_settings(tmp_path / "state", cache_dir=tmp_path / "cache")))["kafka's jars"]
    assert (found.verdict, found.detail) == ("problem", "spoilt: slf4j-api-1.7.36.jar")


async def test_a_taken_api_port_is_a_problem_only_where_it_was_asked_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = (await checks_of(own_settings(tmp_path, api_port=port)))["api port"]
    assert found.verdict == "problem"
    assert f"{port} is taken by process" in found.detail


async def test_too_little_space_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SPACE_MB_MIN", 2**40)
    found = (await checks_of(own_settings(tmp_path)))["space for state"]
    assert found.verdict == "problem"
    assert "DIURNA_STATE_DIR" in found.advice


async def test_a_clock_that_went_back_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateDirectory(tmp_path)
    state.make()
    (state.logs / "kafka.log").touch()
    now = time.time()
    monkeypatch.setattr(doctor.time, "time", lambda: now - 3600)
    found = (await checks_of(own_settings(tmp_path)))["clock"]
    assert found.verdict == "problem"
    assert "in the future" in found.detail


async def test_an_open_state_directory_is_a_problem(tmp_path: Path) -> None:
    opened = tmp_path / "state"
    opened.mkdir(mode=0o755)
    found = (await checks_of(own_settings(opened)))["state directory"]
    assert found.verdict == "problem"
    assert found.advice == f"chmod 700 {opened}"


async def test_a_file_in_the_place_of_a_directory_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch(mode=0o600)
    found = await checks_of(own_settings(tmp_path / "file", cache_dir=tmp_path / "file" / "cache"))
    for name in ("state directory", "kafka's jars"):
        assert found[name].verdict == "problem", name
        assert f"{tmp_path / 'file'} is not a directory" in found[name].detail


@pytest.mark.parametrize("below", ["", "state"])
async def test_a_directory_that_may_not_be_written_to_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    # Root may write everywhere but to a disk that is read only, which a test has not got.
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: path != tmp_path or not mode & os.W_OK)
    found = (await checks_of(own_settings(tmp_path / below)))["state directory"]
    assert (found.verdict, found.advice) == ("problem", "set DIURNA_STATE_DIR to a directory of your own")
    assert f"{tmp_path} may not be written to" in found.detail


@pytest.mark.parametrize("system", ["win32", "freebsd14"])
def test_a_platform_the_stack_cannot_run_on_is_told_what_to_use(monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    monkeypatch.setattr(doctor.sys, "platform", system)
    found = doctor._platform(Settings())
    assert found.verdict == "problem"
    assert ("WSL2" if system == "win32" else "DIURNA_KAFKA_BOOTSTRAP_SERVERS") in found.advice


async def test_a_check_that_breaks_is_a_problem_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Settings) -> Check:
        raise OSError("disk gone")

    broken.__name__ = "_clock"
    monkeypatch.setattr(doctor, "_clock", broken)
    found = await checks_of(own_settings(tmp_path))
    assert found["clock"] == Check("clock", "problem", "disk gone", "see the message")
    assert "stack" in found
