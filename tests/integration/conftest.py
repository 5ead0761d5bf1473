"""The whole of Diurna as its users run it: one stack of real processes for all tests that only speak to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

START_SECONDS = 240


@dataclass(frozen=True)
class Commands:
    """Runs `diurna …` as a user does, in one state directory."""

    state_dir: Path

    def run(self, *arguments: str, timeout: float = START_SECONDS) -> subprocess.CompletedProcess[str]:
        """Whatever its exit code."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DIURNA_")}
        for kept in ("DIURNA_CACHE_DIR", "DIURNA_KAFKA_BOOTSTRAP_SERVERS", "DIURNA_DATABASE_URL"):
            if kept in os.environ:
                environment[kept] = os.environ[kept]
        # What stands behind `--` is another program's.
        end = arguments.index("--") if "--" in arguments else len(arguments)
        return subprocess.run(
            [sys.executable, "-c", "from diurna_deploy.cli import main; main()", *arguments[:end],
             "--state-dir", str(self.state_dir), *arguments[end:]],
            capture_output=True, text=True, timeout=timeout, check=False, env=environment,
        )  # fmt: skip

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What it prints with --json, which must exit with `code`."""
        done = self.run(*arguments, "--json")
        assert done.returncode == code, f"diurna {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)


@pytest.fixture(scope="session")
def diurna(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """The command line, with everything running."""
    commands = Commands(tmp_path_factory.mktemp("diurna"))
    done = commands.run("up", "--detach")
    assert done.returncode == 0, done.stderr
    try:
        yield commands
    finally:
        stopped = commands.run("down")
        assert stopped.returncode == 0, stopped.stderr
