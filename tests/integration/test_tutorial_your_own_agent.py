"""The tutorial of one's own agent, done as it is written: every command, every file."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from diurna_deploy.agent_template import write_agent
from support.documents import Block, blocks

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
TUTORIAL = "docs/tutorial/your-own-agent.md"
PYTHON, CONSOLE = blocks(TUTORIAL, "python"), blocks(TUTORIAL, "console")


class Reader:
    """Somebody who types what the tutorial says, in a folder of their own."""

    def __init__(self, diurna: Any, folder: Path) -> None:
        self.diurna = diurna
        self.folder = folder
        self.environment = {**os.environ, "DIURNA_STATE_DIR": str(diurna.state_dir)}

    def types(self, block: Block) -> list[str]:
        """Every line of a block; what each printed."""
        return [self._types(shlex.split(line)) for line in block.text.splitlines() if line.strip()]

    def _types(self, words: list[str]) -> str:
        match words:
            case ["cd", folder]:
                self.folder = self.folder / folder
                return ""
            case ["diurna", *arguments]:
                program = [sys.executable, "-c", "from diurna_deploy.cli import main; main()", *arguments]
            case ["python", *arguments]:
                program = [sys.executable, *arguments]
            case _:
                raise AssertionError(f"nobody has tried {words}")
        done = subprocess.run(
            program, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def saves(self, name: str, block: Block) -> None:
        (self.folder / name).write_text(block.text, encoding="utf-8")


@pytest.fixture
def reader(diurna: Any, tmp_path: Path) -> Reader:
    return Reader(diurna, tmp_path)


def test_what_the_tutorial_shows_is_what_is_written(tmp_path: Path) -> None:
    agent, _ = write_agent("translator", tmp_path, "translate")
    assert agent.read_text() == PYTHON[0].text


def test_the_tutorial_works_from_its_first_line_to_its_last(reader: Reader) -> None:
    new, test, tested_again, run, ask, ask_any = CONSOLE
    reader.types(new)
    assert sorted(path.name for path in reader.folder.iterdir()) == ["test_translator.py", "translator.py"]
    assert "2 passed" in reader.types(test)[0]
    reader.saves("translator.py", PYTHON[1])
    reader.saves("test_translator.py", PYTHON[2])
    assert "2 passed" in reader.types(tested_again)[0]
    (line,) = run.text.splitlines()
    running = subprocess.Popen(
        [sys.executable, *shlex.split(line)[1:]], cwd=reader.folder, env=reader.environment, stderr=subprocess.DEVNULL
    )
    try:
        url = reader.diurna.json("status")["api_url"] + "/agents/translator"
        known = Retrying(
            retry=retry_if_result(lambda code: code != 200), stop=stop_after_delay(60), wait=wait_fixed(0.1)
        )
        known(lambda: httpx.get(url, trust_env=False).status_code)
        _, answer, trace = reader.types(ask)
        assert "ave munde" in answer
        assert all(word in trace for word in ("request.submitted", "task.progress", "request.completed"))
        assert "vale" in reader.types(ask_any)[0]
    finally:
        running.terminate()
        assert running.wait(30) == 0
