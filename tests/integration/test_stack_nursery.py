"""Workers forked from the nursery: they are as if started as programs, and any part of it may be killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from diurna_agents.process_identity import ProcessIdentity
from diurna_deploy.stack.nursery import WORKER, Forked, Nursery
from diurna_deploy.stack.processes import Order, Orders, ProcessRecord, log_file, record_file
from diurna_deploy.stack.state import StateDirectory
from diurna_deploy.stack.supervisor import Supervisor
from support.stack import eventually

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has reapers of descendants")

WAITS = {"DIURNA_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "DIURNA_SCHEMA_REGISTRY_URL": "http://127.0.0.1:1"}
"""An environment in which a worker lives for a while: nobody answers there."""


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    made = StateDirectory(tmp_path / "state")
    made.make()
    return made


@pytest.fixture
async def nursery(state: StateDirectory) -> AsyncIterator[Nursery]:
    made = Nursery(state)
    made.start()
    yield made
    made.stop()


def order(*words: str, name: str = "agent", env: dict[str, str] | None = None) -> Order:
    """A worker that waits for a server nobody started, and so lives for a while, unless other words are given."""
    return Order(name, (*WORKER, *(words or ("decider",))), WAITS if env is None else env, None, 0, 5.0)


async def forked(nursery: Nursery, wanted: Order) -> Forked:
    found = await nursery.fork(wanted)
    assert found is not None
    return found


async def test_a_forked_worker_is_a_child_in_a_session_of_its_own_with_its_own_environment_and_log(
    nursery: Nursery, state: StateDirectory
) -> None:
    worker = await forked(nursery, order(env=WAITS | {"OWN": "1"}))
    process = psutil.Process(worker.pid)
    try:
        assert process.ppid() == os.getpid()

        async def is_itself() -> bool:
            own = ["/dev/null", *[str(log_file(state, "agent"))] * 2]
            return os.getsid(worker.pid) == worker.pid and standard_files(worker.pid) == own

        await eventually(is_itself)
        assert process.cwd() == str(state.root)
    finally:
        os.kill(worker.pid, signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL


async def test_modules_of_the_directory_it_is_started_in_are_not_loaded(
    state: StateDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('a module of the project')\n")
    monkeypatch.chdir(tmp_path)
    made = Nursery(state)
    made.start()
    try:
        worker = await forked(made, order())
        os.kill(worker.pid, signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL
    finally:
        made.stop()


async def test_a_worker_leaves_with_its_own_exit_code(nursery: Nursery, state: StateDirectory) -> None:
    wrong = await forked(nursery, order("agent"))  # which agent?
    assert await asyncio.to_thread(wrong.wait) == 2
    assert "agent needs a name" in log_file(state, "agent").read_text()
    failing = await forked(nursery, order("agent", "nobody"))
    assert await asyncio.to_thread(failing.wait) == 1
    asked = await forked(nursery, order())

    async def has_handlers() -> bool:
        return catches(asked.pid, signal.SIGTERM)

    await eventually(has_handlers)
    os.kill(asked.pid, signal.SIGTERM)
    assert await asyncio.to_thread(asked.wait) == 0


async def test_a_worker_is_told_its_order_and_nothing_of_an_earlier_one(
    nursery: Nursery, state: StateDirectory
) -> None:
    first = await forked(nursery, order("server", "--port", "0", name="first", env={}))
    assert await asyncio.to_thread(first.wait) == 1
    assert "DIURNA_KAFKA_BOOTSTRAP_SERVERS" in log_file(state, "first").read_text()
    bad = {"DIURNA_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "DIURNA_API_PORT": "no port"}
    second = await forked(nursery, order("server", "--port", "0", name="second", env=bad))
    assert await asyncio.to_thread(second.wait) == 1
    assert "no port" in log_file(state, "second").read_text()
    assert "no port" not in log_file(state, "first").read_text()


async def test_a_worker_is_forked_once_what_it_needs_is_loaded(nursery: Nursery) -> None:
    """Earlier it would import for itself what the next one imports again. Only the cicd agent's part brings `rpds`."""
    worker = await forked(nursery, order("agent", "cicd", name="cicd"))
    try:
        assert "rpds" in libraries(nursery.pid)
    finally:
        os.kill(worker.pid, signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL


async def test_a_program_that_is_no_worker_is_not_forked(nursery: Nursery) -> None:
    other = replace(order(), argv=(sys.executable, "-c", "pass"))
    assert await nursery.fork(other) is None


async def test_a_killed_nursery_takes_no_worker_along_and_is_replaced(nursery: Nursery) -> None:
    worker = await forked(nursery, order())
    before = nursery.pid
    assert before is not None

    async def has_begun() -> bool:  # before that it ends with the nursery, having done nothing
        return os.getsid(worker.pid) == worker.pid

    await eventually(has_begun)
    os.kill(before, signal.SIGKILL)
    try:
        assert await nursery.fork(order(name="second")) is None  # to be started as a program
        assert nursery.pid not in {None, before}
        assert ProcessIdentity.of(worker.pid) is not None
        third = await forked(nursery, order(name="third"))
        os.kill(third.pid, signal.SIGKILL)
        assert third.wait() == -signal.SIGKILL
    finally:
        os.kill(worker.pid, signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL


async def test_a_nursery_ends_with_the_supervisor_that_is_killed(state: StateDirectory) -> None:
    script = (
        "import asyncio, os, signal, sys; from pathlib import Path\n"
        "from diurna_deploy.stack.nursery import Nursery; from diurna_deploy.stack.state import StateDirectory\n"
        "nursery = Nursery(StateDirectory(Path(sys.argv[1]))); nursery.start()\n"
        "print(nursery.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    dying = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(state.root), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await dying.communicate()
    identity = ProcessIdentity.of(int(said))

    async def is_gone() -> bool:
        return identity is None or not identity.is_alive()

    await eventually(is_gone, seconds=30)


async def test_the_supervisor_starts_a_killed_worker_again_and_stops_all(state: StateDirectory) -> None:
    Orders((order(name="decider"),), {}, str(state.root)).write(state)
    keeping = Supervisor(state, preload=True)
    task = asyncio.create_task(keeping.run())
    try:
        before = await a_life(state, "decider", other_than=None)
        assert psutil.Process(before.pid).ppid() == os.getpid()
        os.kill(before.pid, signal.SIGKILL)
        after = await a_life(state, "decider", other_than=before)
        record = ProcessRecord.read(record_file(state, "decider"))
        assert record is not None
        assert (record.restarts, record.exit_code) == (1, -signal.SIGKILL)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)  # the supervisor's own handler takes it
        await asyncio.wait_for(task, 30)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)
    assert not after.is_alive()
    assert not record_file(state, "decider").exists()
    assert keeping.nursery.pid is None


async def a_life(state: StateDirectory, name: str, *, other_than: ProcessIdentity | None) -> ProcessIdentity:
    found: list[ProcessIdentity] = []

    async def lives() -> bool:
        record = ProcessRecord.read(record_file(state, name))
        if record is None or record.identity is None or record.identity == other_than or not record.is_alive():
            return False
        found.append(record.identity)
        return True

    await eventually(lives, seconds=30)
    return found[0]


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for the signal."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    caught = next(line for line in lines if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def libraries(pid: int | None) -> str:
    """What the process has loaded, by the names of the files."""
    return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")


def standard_files(pid: int) -> list[str]:
    return [str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in range(3)]
