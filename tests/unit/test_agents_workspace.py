"""Where handlers work: what is in use stays, what a killed process left behind goes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from diurna_agents.workspace import Workspace

_WORKER = """
import asyncio, sys
from pathlib import Path
from diurna_agents.workspace import Workspace

async def work():
    async with Workspace(Path(sys.argv[1]), environment={}).fresh("test") as directory:
        (directory / "tree").mkdir()
        print(directory, flush=True)
        await asyncio.Event().wait()

asyncio.run(work())
"""


async def test_a_directory_is_gone_when_the_block_ends(tmp_path: Path) -> None:
    async with Workspace(tmp_path, environment={}).fresh("test") as directory:
        assert directory.is_dir()
        Workspace(tmp_path, environment={}).clear()
        assert directory.is_dir()
    assert not directory.exists()


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environment={})
    workspace.clear()
    with subprocess.Popen([sys.executable, "-c", _WORKER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        directory = Path(worker.stdout.readline().strip())
        workspace.clear()
        assert (directory / "tree").is_dir()
        worker.send_signal(signal.SIGKILL)
    workspace.clear()
    assert not directory.exists()
