"""Children within limits."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import psutil
import pytest
from tenacity import retry, stop_after_delay, wait_fixed

from diurna_agents import process
from diurna_agents.errors import ToolFailed


async def python(code: str, tmp_path: Path, **options: object) -> process.Finished:
    settings: dict[str, object] = {"timeout_seconds": 30, "environment": {"PATH": "/usr/bin:/bin"}, **options}
    return await process.run([sys.executable, "-c", code], cwd=tmp_path, **settings)  # type: ignore[arg-type]


@retry(stop=stop_after_delay(10), wait=wait_fixed(0.05), reraise=True)
def gone(pid: int) -> None:
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@retry(stop=stop_after_delay(20), wait=wait_fixed(0.02), reraise=True)
def written_pid(path: Path) -> int:
    return int(path.read_text())


async def test_output_and_errors_come_back_in_order_with_the_exit_code(tmp_path: Path):
    done = await python("import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(3)", tmp_path)
    assert (done.exit_code, done.output, done.timed_out, done.succeeded) == (3, "out\nerr\n", False, False)


async def test_long_output_keeps_its_two_ends_and_says_what_was_cut(tmp_path: Path):
    done = await python("print('begin'); print('x' * 1_000_000); print('end')", tmp_path, output_bytes_max=4_000)
    assert done.output.startswith("begin")
    assert done.output.endswith("end\n")
    assert done.output_bytes_cut == 1_000_011 - 4_000
    assert f"{done.output_bytes_cut} bytes cut" in done.output
    assert len(done.output) < 4_100


async def test_the_environment_is_the_one_given_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECRET_OF_OURS", "1")
    done = await python("import os; print(sorted(os.environ))", tmp_path)
    assert "SECRET_OF_OURS" not in done.output
    assert "PATH" in done.output


async def test_after_the_time_limit_nobody_of_the_family_is_left(tmp_path: Path):
    code = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
same = subprocess.Popen([sys.executable, "-c", stubborn])
apart = subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True)
print(os.getpid(), same.pid, apart.pid, flush=True)
time.sleep(600)
"""
    done = await python(code, tmp_path, timeout_seconds=1.5)
    assert done.timed_out
    assert not done.succeeded
    pids = [int(word) for word in done.output.split()]
    assert len(pids) == 3
    for pid in pids:
        gone(pid)


async def test_a_grandchild_that_keeps_the_output_open_is_not_waited_for(tmp_path: Path):
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid)"
    done = await python(code, tmp_path, timeout_seconds=60)
    assert done.succeeded
    assert done.duration_ms < 30_000
    gone(int(done.output))


async def test_a_cancelled_run_takes_its_child_with_it(tmp_path: Path):
    code = "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(600)"
    task = asyncio.create_task(python(code, tmp_path, timeout_seconds=600))
    pid = await asyncio.to_thread(written_pid, tmp_path / "pid")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gone(pid)


async def test_a_program_that_is_not_there_is_an_error_of_ours(tmp_path: Path):
    with pytest.raises(ToolFailed, match="nothing-of-the-kind"):
        await process.run(["/nothing-of-the-kind"], cwd=tmp_path, environment={}, timeout_seconds=5)


async def test_a_child_ended_by_a_signal_says_which(tmp_path: Path):
    done = await python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", tmp_path)
    assert done.exit_code == -11


async def test_no_descriptor_is_closed_twice(tmp_path: Path):
    """In between it may have become another thread's, who then has a bad one, or the loop's, which ends the process."""
    crowd = [sys.executable, str(Path(__file__).parents[1] / "support" / "descriptors_process.py")]
    done = await process.run(crowd, cwd=tmp_path, timeout_seconds=120, environment=os.environ)
    assert (done.exit_code, done.output) == (0, "0\n"), done.output
