"""Locks as their users have them, on the whole stack: the acceptance tests of the system Diurna replaces, and more."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from diurna import ResourceLockError, ResourceLockManager
from diurna_agents.demo_repository import BASE, HEAD, make_demo_repository
from support.stack import eventually

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture
def stack(diurna: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Where everything is; the environment says so too, as to any program of a user."""
    for name in [name for name in os.environ if name.startswith("DIURNA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DIURNA_STATE_DIR", str(diurna.state_dir))
    status: dict[str, Any] = diurna.json("status")
    return status


@pytest.fixture
def db_conn_string(stack: dict[str, Any]) -> str:
    return str(stack["database_url"])


@pytest.fixture
def resource() -> str:
    return f"test:{uuid.uuid4().hex[:8]}/main"


async def test_resource_locking_contention(db_conn_string: str) -> None:
    """Test distributed lock contention handling."""
    lock_manager = ResourceLockManager(db_conn_string)
    await lock_manager.connect()

    resource_id = "test:repo:owner/name"

    # Agent 1 acquires lock
    async with lock_manager.acquire(resource_id, "agent-1", timeout=10):
        # Agent 2 tries to acquire (should fail immediately with wait_timeout=0)
        with pytest.raises(Exception) as exc_info:
            async with lock_manager.acquire(resource_id, "agent-2", timeout=10, wait_timeout=0):
                pass

        assert "locked by" in str(exc_info.value).lower()

    # After release, agent 2 should succeed
    async with lock_manager.acquire(resource_id, "agent-2", timeout=10):
        assert await lock_manager.is_locked(resource_id) is True

    await lock_manager.close()


async def test_distributed_lock_timeout(db_conn_string: str) -> None:
    """Test lock auto-expires after timeout."""
    lock_mgr = ResourceLockManager(db_conn_string)
    await lock_mgr.connect()

    resource_id = "test:timeout-resource"

    # Agent 1 acquires lock with 2s timeout
    async with lock_mgr.acquire(resource_id, "agent-1", timeout=2):
        # Agent 2 waits for lock to expire
        await asyncio.sleep(3)

        # Lock should be auto-released
        assert await lock_mgr.is_locked(resource_id) is False

    await lock_mgr.close()


async def test_a_lock_persists_though_the_deciders_are_killed(
    diurna: Any, stack: dict[str, Any], resource: str
) -> None:
    """Persistence: what was granted stands on the log, and whoever decides next knows it."""
    async with ResourceLockManager() as locks:
        async with locks.acquire(resource, "agent-1", timeout=120) as lease:
            before = next(process for process in stack["processes"] if process["name"] == "decider")
            os.kill(before["pid"], signal.SIGKILL)

            async def is_back() -> bool:
                found = (await asyncio.to_thread(diurna.json, "status"))["processes"]
                return any(one["name"] == "decider" and one["pid"] != before["pid"] for one in found)

            await eventually(is_back, seconds=60)
            assert await locks.is_locked(resource) is True
            with pytest.raises(ResourceLockError, match="locked by agent-1"):
                async with locks.acquire(resource, "agent-2"):
                    pytest.fail("two hold one lock")
            await lease.renew()
            assert not lease.lost.is_set()
        async with locks.acquire(resource, "agent-2") as later:
            assert later.token > lease.token


@pytest.mark.parametrize("where", ["api", "database"])
async def test_what_is_read_is_true_right_after_what_was_done(stack: dict[str, Any], resource: str, where: str) -> None:
    address = stack["database_url"] if where == "database" else stack["api_url"]
    async with ResourceLockManager(address) as locks, ResourceLockManager() as others:
        for round_ in range(5):
            async with others.acquire(resource, f"agent-{round_}", timeout=30, reason="a round") as lease:
                info = await locks.get_lock_info(resource)
                assert info is not None
                assert (info.agent_id, info.fencing_token, info.reason) == (f"agent-{round_}", lease.token, "a round")
                assert resource in [one.resource_id for one in await locks.list_locks(f"agent-{round_}")]
            assert await locks.is_locked(resource) is False
        async with others.acquire(resource, "holder", timeout=30):
            waiting = asyncio.create_task(_hold(others, resource, "waiter"))

            async def is_queued() -> bool:
                return [one.agent_id for one in await locks.get_wait_queue(resource)] == ["waiter"]

            await eventually(is_queued)
        await waiting
        assert await locks.get_wait_queue(resource) == []
        history = await locks.get_lock_history(resource)
        assert [one.agent_id for one in history] == ["waiter", "holder", *(f"agent-{n}" for n in reversed(range(5)))]
        assert {one.status for one in history} == {"released"}
        (statistics,) = await locks.get_lock_statistics(resource)
        assert (statistics.wishes, statistics.queued, statistics.releases) == (7, 1, 7)
        with pytest.raises(ResourceLockError, match="agent-1 does not hold"):
            await locks.renew(resource, "agent-1")


async def _hold(locks: ResourceLockManager, resource: str, agent_id: str) -> None:
    async with locks.acquire(resource, agent_id, timeout=30, wait_timeout=30):
        pass


async def test_locks_over_http(stack: dict[str, Any], resource: str) -> None:
    async with httpx.AsyncClient(base_url=stack["api_url"], timeout=30) as api:
        body = {"resource_id": resource, "agent_id": "agent-1", "timeout": 60}
        granted = await api.post("/locks", json=body, headers={"Idempotency-Key": resource})
        again = await api.post("/locks", json=body, headers={"Idempotency-Key": resource})
        assert (granted.status_code, again.status_code) == (200, 200)
        assert again.json()["fencing_token"] == granted.json()["fencing_token"]
        refused = await api.post("/locks", json={**body, "agent_id": "agent-2"})
        assert (refused.status_code, refused.json()["code"]) == (409, "locked")
        queued = await api.post("/locks", json={**body, "agent_id": "agent-3", "wait_timeout": 60})
        assert (queued.status_code, queued.json()["queue_position"]) == (202, 1)
        lock_id, position = granted.json()["lock_id"], granted.json()["position"]
        held = await api.get("/locks", params={"resource_id": resource, "min_position": position})
        assert [one["lock_id"] for one in held.json()] == [lock_id]
        assert "locks.events:" in held.headers["Diurna-Positions"]
        other = await api.delete(f"/locks/{lock_id}", params={"agent_id": "agent-2"})
        assert (other.status_code, other.json()["code"]) == (409, "not_holder")
        assert (await api.delete(f"/locks/{lock_id}")).status_code == 200
        claimed = await api.post(f"{queued.headers['Location']}/renew")
        assert claimed.status_code == 200, claimed.text
        assert claimed.json()["fencing_token"] > granted.json()["fencing_token"]
        assert (await api.get("/locks/no-such-lock")).status_code == 404
        assert (await api.post("/locks", json={**body, "timeout": 0.1})).status_code == 422
        openapi = (await api.get("/openapi.json")).json()["paths"]
        assert {"get", "post"} <= set(openapi["/locks"])
        assert {"200", "202", "default"} == set(openapi["/locks"]["post"]["responses"])
        assert {"get", "delete"} <= set(openapi["/locks/{lock_id}"])
        assert "agent_id" in {one["name"] for one in openapi["/locks/{lock_id}"]["delete"]["parameters"]}
        assert "text/event-stream" in openapi["/events/stream"]["get"]["responses"]["200"]["content"]
        assert {"201", "202", "default"} == set(openapi["/workflows"]["post"]["responses"])
        registry = openapi["/schema-registry/subjects"]["get"]["responses"]
        assert "default" not in registry, "its errors are no problems"


def test_locks_on_the_command_line(diurna: Any, resource: str) -> None:
    lock = diurna.json("lock", "acquire", resource, "--agent", "ada", "--timeout", "60", "--reason", "a look")
    assert diurna.json("lock", "list", "--resource", resource)[0]["reason"] == "a look"
    refused = diurna.run("lock", "acquire", resource, "--agent", "bob")
    assert (refused.returncode, refused.stderr) == (1, f"diurna: Resource {resource} is locked by ada\n")
    waited = diurna.run("lock", "acquire", resource, "--agent", "bob", "--wait", "1")
    assert (waited.returncode, "locked by ada: waited 1 s" in waited.stderr) == (1, True)
    assert diurna.json("lock", "renew", lock["lock_id"], "--timeout", "120")["fencing_token"] == lock["fencing_token"]
    assert diurna.run("lock", "release", resource, "--agent", "bob").returncode == 1
    assert diurna.json("lock", "release", resource, "--agent", "ada")["status"] == "released"
    assert [one["status"] for one in diurna.json("lock", "history", resource)] == [
        "wait_timed_out", "denied", "released",
    ]  # fmt: skip
    assert diurna.json("lock", "statistics", resource)[0]["wishes"] == 3
    assert diurna.json("lock", "queue", resource) == []
    assert diurna.run("lock", "acquire", "two words").returncode == 1
    assert diurna.run("lock", "acquire", resource, "--timeout", "0.1").returncode == 1
    assert diurna.run("lock", "release", "no-such-lock").returncode == 1
    assert diurna.run("lock", "force-release", resource, "--reason", "nobody has it").returncode == 1


def test_a_command_runs_under_a_lock_and_is_stopped_when_it_is_taken_away(
    diurna: Any, resource: str, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    code = f"import os; open({str(told)!r}, 'w').write(os.environ['DIURNA_LOCK_TOKEN']); raise SystemExit(5)"
    done = diurna.run("lock", "run", resource, "--", sys.executable, "-c", code)
    assert done.returncode == 5, done.stderr
    assert int(told.read_text()) == diurna.json("lock", "history", resource)[0]["fencing_token"]

    taking = f"{sys.executable} -c 'from diurna_deploy.cli import main; main()' lock force-release {resource} "
    taking += f"--reason taken --state-dir {diurna.state_dir} && sleep 100"
    done = diurna.run("lock", "run", resource, "--", "sh", "-c", taking)
    assert (done.returncode, "taken away by cli: taken" in done.stderr) == (1, True), done.stderr
    assert [one["status"] for one in diurna.json("lock", "history", resource)] == ["force_released", "released"]


def test_a_pr_deployment_holds_its_target_and_shows_its_token_there(diurna: Any, tmp_path: Path) -> None:
    repository = make_demo_repository(tmp_path / "repository")
    target = tmp_path / "deployed"
    where = ("--repo", str(repository), "--base", BASE, "--head", HEAD, "--deploy-to", str(target))
    done = diurna.json("workflow", "start", "pr_deployment", *where)
    assert done["deployment_status"] == "deployed", done
    (wish,) = diurna.json("lock", "history", f"deploy:{target}")
    assert wish["status"] == "released"
    assert wish["agent_id"].startswith("orchestrator."), "the instance is named: its successor gives back what it held"
    assert wish["metadata"] == {"workflow_id": done["workflow_id"]}
    assert json.loads((target / ".fence.json").read_text()) == {f"deploy:{target}": wish["fencing_token"]}
    types = [event["type"] for event in diurna.json("event", "trace", done["workflow_id"])]
    assert types.count("resource.locked") == types.count("resource.unlocked") == 1


async def test_a_paused_holder_finds_its_lease_over_and_its_token_stale(stack: dict[str, Any], resource: str) -> None:
    """SIGSTOP, past its lease: another holds the lock with a larger token by then."""
    code = f"""
import asyncio, json, sys
from diurna import ResourceLockManager
async def main():
    async with ResourceLockManager() as locks, locks.acquire({resource!r}, "paused", timeout=2) as lease:
        print(json.dumps({{"token": lease.token}}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(json.dumps({{"remaining": lease.remaining, "lost": lease.lost.is_set()}}), flush=True)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    token = json.loads(await process.stdout.readline())["token"]
    process.send_signal(signal.SIGSTOP)
    async with (
        ResourceLockManager() as locks,
        locks.acquire(resource, "next", timeout=30, wait_timeout=30) as lease,
    ):
        assert lease.token > token
        process.send_signal(signal.SIGCONT)
        process.stdin.write(b"\n")
        assert json.loads(await process.stdout.readline()) == {"remaining": 0.0, "lost": True}
        assert await process.wait() == 0, "leaving a lease that is over is no error"
        assert await locks.is_locked(resource) is True
