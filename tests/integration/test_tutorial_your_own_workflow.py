"""The tutorial of one's own workflow, done as it is written: every file, every command, and what it promises."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from diurna_agents.demo_repository import make_demo_repository
from support.documents import blocks, run_python

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
TUTORIAL = "docs/tutorial/your-own-workflow.md"
PROGRAM, SHAPES = blocks(TUTORIAL, "python")
(CONSOLE,) = blocks(TUTORIAL, "console")


def test_the_tutorial_works_from_its_first_line_to_its_last(diurna: Any, tmp_path: Path) -> None:
    repository = make_demo_repository(tmp_path / "service")
    (tmp_path / "checkup.py").write_text(PROGRAM.text, encoding="utf-8")
    environment = {**os.environ, "DIURNA_STATE_DIR": str(diurna.state_dir)}

    def types(line: str) -> str:
        program, *words = shlex.split(line.replace("~/src/service", str(repository)))
        cli = [sys.executable, "-c", "from diurna_deploy.cli import main; main()"]
        start = {"python": [sys.executable], "diurna": cli}[program]
        done = subprocess.run(
            [*start, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    run, show, trace = CONSOLE.text.splitlines()
    assert types(run).splitlines() == ["completed ['input', 'reference', 'structure']", "all was done"]
    assert "completed" in types(show)
    traced = types(trace)
    assert traced.count("request.submitted") == 2
    assert "workflow.completed" in traced
    assert types(run).startswith("completed")
    assert types(trace).count("request.submitted") == 2


async def test_the_other_shapes_are_workflows() -> None:
    made = await run_python(SHAPES)
    assert (made["chain"].agents, made["many"].agents) == (("code-review", "cicd"), ("feature-dev",))
    for definition in (made["chain"], made["many"]):
        assert definition.build(None).get_graph().nodes


def test_a_workflow_of_one_s_own_has_thirty_lines() -> None:
    assert len(PROGRAM.text.splitlines()) <= 33
    code = [line for line in PROGRAM.text.splitlines() if line.strip() and not line.startswith('"""')]
    assert len(code) <= 30
