"""The first command of the README, as a user runs it: from nothing to a deployed change, and back to nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]


def demo(state_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DIURNA_")}
    if "DIURNA_CACHE_DIR" in os.environ:
        environment["DIURNA_CACHE_DIR"] = os.environ["DIURNA_CACHE_DIR"]
    # Neither git nor java are needed: nothing of the system's but what Python itself brings.
    environment["PATH"] = str(Path(sys.executable).parent)
    words = [sys.executable, "-c", "from diurna_deploy.cli import main; main()", "demo", "--state-dir", str(state_dir)]
    return subprocess.run(
        [*words, *arguments], capture_output=True, text=True, timeout=600, check=False, env=environment
    )


def test_the_demo_deploys_a_change_twice_and_leaves_nothing_running(tmp_path: Path) -> None:
    first = demo(tmp_path)
    assert first.returncode == 0, f"{first.stdout}\n{first.stderr}"
    said = first.stdout
    assert "Everything answers after" in said
    assert "Hello, Ada" in said
    assert "deployed: " in said
    assert "/timeline/" in said
    timeline = said[said.index("The timeline:") : said.index("The answer, the row")]
    for expected in ("workflow.created", "request.dispatched", "workflow.approval_decided", "workflow.completed"):
        assert expected in timeline
    assert timeline.count(".events:") >= 20
    documents = said[said.index("Documenting ") : said.index("Healing: ")]
    assert "[API reference](api_docs/index.md)" in documents
    assert "documented: api_docs, user_guide, deployment_guide" in documents
    healing = said[said.index("Healing: ") : said.index("Succession: ")]
    assert "Killed process" in healing
    assert "code-review votes restart_service (0.8): it was killed by signal 9" in healing
    assert healing.count("/ answers 200: process") == 2
    assert "healed: " in healing
    succession = said[said.index("Succession: ") : said.index("Dropping the whole database")]
    assert "Killed the orchestrator" in succession
    assert "went on from the last checkpoint and asked nothing twice" in succession
    assert "review_code (1), run_pipeline (1), deploy_service (1). Orchestrators that drove it: 2." in succession
    assert "tables have the checksums they had" in said
    began = time.monotonic()
    second = demo(tmp_path)
    assert second.returncode == 0, second.stderr
    assert time.monotonic() - began < 180
    assert '"previous"' in second.stdout
    assert [pid for pid in _pids(tmp_path) if Path(f"/proc/{pid}").exists()] == []


def _pids(state_dir: Path) -> list[str]:
    """Every process that still has the state directory on its command line."""
    found: list[str] = []
    for command_line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(state_dir).encode() in command_line.read_bytes():
                found.append(command_line.parent.name)
        except OSError:
            continue
    return found
