"""`diurna lock …` against a scripted API, and commands run under a lock of a team in memory."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from diurna import LockLost, ResourceLockError
from diurna.testing import Team, team
from diurna_deploy import cli, holding
from diurna_deploy.cli.app import app
from diurna_deploy.holding import Held, run_under_lock, stopping_at_sigterm
from support.scripted_api import ScriptedApi, scripted_api
from support.teams import eventually

Run = Callable[..., tuple[int, str, str]]
LOCK = {
    "lock_id": "l-1",
    "resource_id": "repo:x",
    "agent_id": "me",
    "status": "granted",
    "fencing_token": 17,
    "expires_at": "2026-11-23T22:12:49.123Z",
    "is_provisional": False,
    "position": "locks.events:3:17",
}
QUEUED = {**LOCK, "status": "queued", "queue_position": 1, "locked_by": "other"}
HELD = Held("repo:x", "me", timeout=30, wait_timeout=0, reason="")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str, api: ScriptedApi) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["diurna", *arguments, "--api-url", api.url])
        code = cli.run(app)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    with scripted_api({}) as found:
        yield found


def test_a_lock_is_acquired_with_all_that_was_said(run: Run, api: ScriptedApi) -> None:
    api.answers["POST /locks"] = LOCK
    words = ("--agent", "me", "--timeout", "60", "--wait", "5", "--reason", "why", "--metadata", '{"pr": 7}')
    code, out, _ = run("lock", "acquire", "repo:x", *words, "--json", api=api)
    assert (code, json.loads(out)) == (0, LOCK)
    assert api.asked[-1][2] == {
        "resource_id": "repo:x",
        "agent_id": "me",
        "timeout": 60,
        "wait_timeout": 5,
        "reason": "why",
        "metadata": {"pr": 7},
    }
    assert "fencing_token" in run("lock", "acquire", "repo:x", api=api)[1]


def test_a_lock_of_another_exits_1_with_the_holder(run: Run, api: ScriptedApi) -> None:
    problem = {"title": "Conflict", "status": 409, "detail": "Resource repo:x is locked by other", "code": "locked"}
    api.answers["POST /locks"] = (409, problem)
    assert run("lock", "acquire", "repo:x", api=api) == (1, "", "diurna: Resource repo:x is locked by other\n")


@pytest.mark.parametrize(
    ("words", "field"), [(("--timeout", "nan"), "timeout"), (("--wait", "inf"), "wait_timeout"),
                         (("--metadata", '{"a": [NaN]}'), "metadata")],
)  # fmt: skip
def test_a_number_that_is_none_is_refused_and_named(
    run: Run, api: ScriptedApi, words: tuple[str, ...], field: str
) -> None:
    code, _, err = run("lock", "acquire", "repo:x", *words, api=api)
    assert (code, err.startswith(f"diurna: {field}: it cannot be written as JSON: "), api.asked) == (1, True, [])


def test_whoever_waits_claims_the_lock_when_its_turn_comes(run: Run, api: ScriptedApi) -> None:
    looks = [{**LOCK, "status": "queued"}, {**LOCK, "status": "held", "end_reason": None}]
    api.answers["POST /locks"] = (202, QUEUED)
    api.answers["GET /locks/l-1"] = lambda _: looks.pop(0)
    api.answers["POST /locks/l-1/renew"] = LOCK
    code, out, _ = run("lock", "acquire", "repo:x", "--wait", "5", "--json", api=api)
    assert (code, json.loads(out)) == (0, LOCK)
    assert [asked[0] for asked in api.asked][1:] == ["GET /locks/l-1", "GET /locks/l-1", "POST /locks/l-1/renew"]
    assert api.asked[1][1] == {"min_position": "locks.events:3:17"}


def test_a_wait_that_is_over_exits_1_and_leaves_nothing_behind(run: Run, api: ScriptedApi) -> None:
    api.answers["POST /locks"] = (202, QUEUED)
    api.answers["GET /locks/l-1"] = {**LOCK, "status": "wait_timed_out", "end_reason": "locked by other"}
    code, _, err = run("lock", "acquire", "repo:x", "--wait", "0.5", api=api)
    assert (code, err) == (1, "diurna: Resource repo:x is locked by other: waited 0.5 s\n")


def test_a_wait_that_breaks_off_leaves_the_queue(run: Run, api: ScriptedApi) -> None:
    api.answers["POST /locks"] = (202, QUEUED)
    api.answers["GET /locks/l-1"] = (503, {"title": "Service Unavailable", "detail": "the database is away"})
    api.answers["DELETE /locks/l-1"] = {"lock_id": "l-1"}
    code, _, err = run("lock", "acquire", "repo:x", "--wait", "5", api=api)
    assert code == 3
    assert "the database is away" in err
    assert api.asked[-1][0] == "DELETE /locks/l-1"


def test_a_lock_is_renewed_and_released_by_its_id_or_its_resource(run: Run, api: ScriptedApi) -> None:
    api.answers["GET /locks"] = []
    api.answers["POST /locks/l-1/renew"] = LOCK
    api.answers["DELETE /locks/l-1"] = {**LOCK, "status": "released"}
    assert run("lock", "renew", "l-1", "--timeout", "60", api=api)[0] == 0
    assert api.asked[-1][2] == {"timeout": 60}
    api.answers["GET /locks"] = [LOCK]
    code, out, _ = run("lock", "release", "repo:x", "--agent", "me", api=api)
    assert (code, out) == (0, "released repo:x at locks.events:3:17\n")
    assert api.asked[-1][:2] == ("DELETE /locks/l-1", {"agent_id": "me"})


def test_lists_are_columns_or_json(run: Run, api: ScriptedApi) -> None:
    for verb, path in (("list", ""), ("queue", "/queue"), ("history", "/history"), ("statistics", "/statistics")):
        api.answers[f"GET /locks{path}"] = [{**LOCK, "wishes": 3, "queue_position": 1, "asked_at": "now"}]
        code, out, _ = run("lock", verb, api=api)
        assert code == 0
        assert "repo:x" in out
        assert json.loads(run("lock", verb, "--json", api=api)[1])[0]["resource_id"] == "repo:x"
        api.answers[f"GET /locks{path}"] = []
        assert run("lock", verb, api=api)[1].startswith(("No", "Nobody"))


def test_taking_a_lock_away_needs_a_reason(run: Run, api: ScriptedApi) -> None:
    api.answers["POST /locks/force-release"] = {**LOCK, "free_at": "soon"}
    assert run("lock", "force-release", "repo:x", api=api)[0] == 2
    words = ("--reason", "it hangs", "--by", "ada", "--grace", "5")
    assert run("lock", "force-release", "repo:x", *words, api=api)[1] == "took repo:x from me; free at soon\n"
    assert api.asked[-1][2] == {
        "resource_id": "repo:x",
        "admin_agent_id": "ada",
        "reason": "it hangs",
        "grace": 5,
    }


def test_running_nothing_is_a_usage_error(run: Run, api: ScriptedApi) -> None:
    assert run("lock", "run", "repo:x", api=api)[0] == 2


def test_nothing_is_run_where_there_is_no_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    words = ["diurna", "lock", "run", "repo:x", "--state-dir", str(tmp_path), "--", "touch", str(mark)]
    monkeypatch.setattr(sys, "argv", words)
    assert cli.run(app) == 3
    assert "diurna up" in capsys.readouterr().err
    assert not mark.exists()


# --- commands under a lock ------------------------------------------------------------------------------


@pytest.fixture
async def memory() -> AsyncIterator[Team]:
    async with team() as found:
        yield found


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def types(memory: Team) -> list[str]:
    return [str(event["type"]) for event in memory.events("locks.events")]


async def test_a_command_runs_under_the_lock_with_its_token_and_its_code_is_passed_on(
    memory: Team, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    names = "'DIURNA_LOCK_TOKEN', 'DIURNA_LOCK_RESOURCE', 'DIURNA_LOCK_ID', 'MARK'"
    code = f"import os, sys; open({str(told)!r}, 'w').write(' '.join(os.environ[n] for n in ({names}))); sys.exit(7)"
    async with memory.locks() as locks:
        assert await run_under_lock(locks, HELD, python(code), {**os.environ, "MARK": "mine"}) == 7
    granted = next(event for event in memory.events("locks.events") if event["type"] == "resource.locked")
    assert told.read_text().split() == [str(granted["fencing_token"]), "repo:x", granted["lock_id"], "mine"]
    assert types(memory) == ["resource.locked", "resource.unlocked"]


async def test_nothing_is_run_where_another_has_the_lock(memory: Team, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    async with memory.locks() as locks, locks.acquire("repo:x", "other"):
        with pytest.raises(ResourceLockError, match="locked by other"):
            await run_under_lock(locks, HELD, ["touch", str(mark)], os.environ)
    assert not mark.exists()


async def test_a_command_that_cannot_be_run_exits_as_in_a_shell_and_says_why(
    memory: Team, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, unmarked = tmp_path / "plain", tmp_path / "unmarked"
    plain.write_text("no program")
    unmarked.write_text("no program")
    unmarked.chmod(0o755)
    wrong = {
        "no-such-command-anywhere": (127, "No such file or directory"),
        str(plain): (126, "Permission denied"),
        str(plain / "inside"): (126, "Not a directory"),
        str(unmarked): (126, "Exec format error"),
    }
    async with memory.locks() as locks:
        for command, (code, why) in wrong.items():
            assert await run_under_lock(locks, HELD, [command], os.environ) == code
            assert capsys.readouterr().err == f"diurna: '{command}' cannot be run: {why}\n"
        killed = python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
        assert await run_under_lock(locks, HELD, killed, os.environ) == 128 + 9
    assert types(memory).count("resource.unlocked") == 5


STUBBORN = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(600)
"""


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:1]
    except OSError:
        return False


async def test_a_command_whose_lock_is_taken_away_is_stopped_with_all_it_started(
    memory: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "_STOP_SECONDS", 0.3)
    told = tmp_path / "pid"
    async with memory.locks() as locks:
        running = asyncio.create_task(run_under_lock(locks, HELD, [*python(STUBBORN), str(told)], os.environ))
        await eventually(lambda: told.exists() and told.read_text() != "")
        child = int(told.read_text())
        assert is_alive(child)
        await locks.force_unlock("repo:x", "admin", "it hangs")
        with pytest.raises(LockLost, match="it hangs"):
            await running
        await eventually(lambda: not is_alive(child))


ORDERLY = """
import pathlib, signal, subprocess, sys, time
place = pathlib.Path(sys.argv[1])
child = '''
import pathlib, signal, sys, time
place = pathlib.Path(sys.argv[1])
def stop(*_):
    time.sleep(0.3)
    (place / "tidied").touch()
    sys.exit()
signal.signal(signal.SIGTERM, stop)
(place / "ready").touch()
time.sleep(600)
'''
subprocess.Popen([sys.executable, "-c", child, str(place)]).wait()
"""


async def test_what_a_command_has_started_has_its_time_to_stop_though_the_command_is_gone(
    memory: Team, tmp_path: Path
) -> None:
    async with memory.locks() as locks:
        running = asyncio.create_task(run_under_lock(locks, HELD, [*python(ORDERLY), str(tmp_path)], os.environ))
        await eventually((tmp_path / "ready").exists)
        await locks.force_unlock("repo:x", "admin", "it hangs")
        with pytest.raises(LockLost, match="it hangs"):
            await running
    assert (tmp_path / "tidied").exists(), "it was killed while it tidied up"


async def test_a_sigterm_stops_the_command_and_gives_the_lock_back(memory: Team, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
    async with memory.locks() as locks:

        async def work() -> int:
            return await run_under_lock(locks, HELD, [*python(code), str(told)], os.environ)

        running = asyncio.create_task(stopping_at_sigterm(work))
        await eventually(lambda: told.exists() and told.read_text() != "")
        os.kill(os.getpid(), signal.SIGTERM)
        assert await running == 128 + 15
    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
    await eventually(lambda: not is_alive(int(told.read_text())))
    assert types(memory) == ["resource.locked", "resource.unlocked"]


def test_the_words_of_help_name_what_the_command_finds(run: Run, api: ScriptedApi) -> None:
    out = run("lock", "run", "--help", api=api)[1]
    assert all(name in out for name in (holding.TOKEN, holding.RESOURCE, holding.LOCK_ID))
