"""Why a service is ill, as each of the three sees it: its process, what it is made of, what it said."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from diurna_agents import cicd, code_review, infrastructure
from diurna_agents.code_review.diagnosis import LINES_MAX
from diurna_agents.code_review.diagnosis import diagnosed as read
from diurna_agents.environment_checks import Check
from diurna_agents.infrastructure.diagnosis import diagnosed as looked_at
from diurna_agents.infrastructure.keeping import Standing
from diurna_agents.surroundings import Surroundings
from diurna_agents.workspace import Workspace, report_nothing
from diurna_schemas.errors import InvalidInput, NotFound

WELL, ILL = Check("tcp", True, "somebody listens", 1), Check("tcp", False, "refused", 1)


@pytest.mark.parametrize(
    ("standing", "checks", "is_startable", "remedy"),
    [
        (Standing("running"), [WELL], True, "none"),
        (Standing("running"), [WELL, ILL], True, "restart_service"),
        (Standing("ended", exit_code=-9), [ILL], True, "restart_service"),
        (Standing("stopped"), [ILL], True, "restart_service"),
        (Standing("given_up", exit_code=1), [ILL], True, "restart_service"),
        (Standing("failed", detail="no such program"), [ILL], True, "ask_person"),
        (Standing("stopped"), [ILL], False, "ask_person"),
    ],
)
def test_the_process_and_its_checks_say_what_may_help(
    standing: Standing, checks: list[Check], is_startable: bool, remedy: str
) -> None:
    found = looked_at(standing, checks, is_startable=is_startable)
    assert found.remedy == remedy
    assert 0 < found.confidence <= 1
    assert standing.state in found.evidence[0]


@pytest.mark.parametrize(
    ("output", "exit_code", "words", "remedy"),
    [
        ("Traceback\nModuleNotFoundError: No module named 'x'", 1, "cannot be loaded", "ask_person"),
        ("OSError: [Errno 28] No space left on device", 1, "disk is full", "ask_person"),
        ("OSError: [Errno 98] Address already in use", 1, "somebody else listens", "restart_service"),
        ("MemoryError", 1, "memory ran out", "restart_service"),
        ("PermissionError: [Errno 13] Permission denied: '/x'", 1, "may not", "ask_person"),
        ("psycopg.OperationalError: Connection refused", 1, "does not answer", "restart_service"),
        ("Traceback\nValueError: 7", 1, "exception", "restart_service"),
        ("all is well", -9, "killed by signal 9", "restart_service"),
        ("", None, "said nothing", "restart_service"),
        ("ModuleNotFoundError: x\n" + "fine\n" * LINES_MAX, None, "said nothing", "restart_service"),
    ],
)
def test_what_it_said_last_and_how_it_ended_say_why(
    output: str, exit_code: int | None, words: str, remedy: str
) -> None:
    found = read(output, exit_code)
    assert words in found.diagnosis
    assert found.remedy == remedy


async def ask(agent: Any, tmp_path: Path, **payload: Any) -> dict[str, Any]:
    work = agent.handlers(Surroundings())["diagnose_service"]
    workspace = Workspace(tmp_path, environment={"PATH": str(Path(sys.executable).parent)})
    answer: dict[str, Any] = await work({"service": "web", **payload}, workspace=workspace, report=report_nothing)
    return answer


async def test_what_it_is_made_of_is_looked_for(tmp_path: Path) -> None:
    script = tmp_path / "serve.py"
    declared = {"command": [Path(sys.executable).name, str(script)], "directory": str(tmp_path)}
    missing = await ask(cicd, tmp_path, declared=declared)
    assert (missing["remedy"], missing["evidence"]) == ("ask_person", [f"{script} is not there"])
    script.touch()
    assert (await ask(cicd, tmp_path, declared=declared))["remedy"] == "restart_service"
    gone = await ask(cicd, tmp_path, declared={"command": ["no-such-program"], "directory": str(tmp_path / "gone")})
    assert len(gone["evidence"]) == 2
    assert (await ask(cicd, tmp_path))["confidence"] == 0.1


async def test_each_of_the_three_answers_a_request(tmp_path: Path) -> None:
    services = {"web": {"command": ["serve"]}}
    assert (await ask(infrastructure, tmp_path, services=services))["remedy"] == "restart_service"
    assert (await ask(code_review, tmp_path, standing={"exit_code": -9}))["remedy"] == "restart_service"
    with pytest.raises(NotFound, match="web"):
        await ask(infrastructure, tmp_path, services={"other": {}})
    for agent in (infrastructure, cicd, code_review):
        with pytest.raises(InvalidInput, match="poetry"):
            await ask(agent, tmp_path, poetry=True)
