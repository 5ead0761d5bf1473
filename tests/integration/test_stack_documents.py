"""Every command in the page about the embedded stack does what the page says."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from support.documents import blocks

PAGE = "docs/how-to/embedded-stack.md"


@pytest.mark.timeout(600)
def test_every_command_of_the_page_runs(tmp_path: Path) -> None:
    programs = Path(sys.executable).parent
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DIURNA_") or "CACHE" in name}
    environment = {**kept, "DIURNA_STATE_DIR": str(tmp_path / "state"), "DIURNA_API_PORT": "0"}
    commands = [command for block in blocks(PAGE, "console") for command in block.commands]
    assert [command.split()[1] for command in commands] == ["up", "status", "down", "doctor"]
    try:
        run(commands, tmp_path / "state", environment)
    finally:
        subprocess.run([programs / "diurna", "down"], env=environment, capture_output=True, check=False, timeout=300)


def run(commands: list[str], state_dir: Path, environment: dict[str, str]) -> None:
    running: dict[str, str] = {}
    for command in commands:
        program, *rest = shlex.split(command)
        done = subprocess.run(
            [Path(sys.executable).parent / program, *rest],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        if rest[0] == "up":
            running = json.loads((state_dir / "stack.json").read_text(encoding="utf-8"))
            assert {"kafka", "postgres", "supervisor", "server"} <= {
                process["name"] for process in running["processes"]
            }
        if rest[0] == "status":
            assert running["api_url"] in done.stdout
    assert not (state_dir / "stack.json").exists()


def test_the_page_names_every_variable_the_settings_know() -> None:
    from diurna_deploy.settings import Settings

    text = (Path(__file__).parents[2] / PAGE).read_text(encoding="utf-8")
    known = {f"DIURNA_{name}".upper() for name in Settings.model_fields} - {"DIURNA_API_URL"}  # that one is for clients
    assert [name for name in sorted(known) if f"`{name}`" not in text] == []
