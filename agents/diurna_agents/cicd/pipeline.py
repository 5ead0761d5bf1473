"""Tests a commit: a fresh tree, an environment of its own, the repository's own tests: `run_pipeline`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from diurna_agents.checkout import check_out
from diurna_agents.cicd.environment import PreparedEnvironment
from diurna_agents.cicd.request import PipelineRequest
from diurna_agents.cicd.runner import Outcome, RunResult
from diurna_agents.cicd.trial import Trial
from diurna_agents.payload import validated
from diurna_agents.python_project import PythonProject, read_project
from diurna_agents.repository import open_repository, resolve
from diurna_agents.workspace import Report, Workspace

_LOG_CHARACTERS_MAX: Final = 12_000


async def run_pipeline(payload: Mapping[str, object], *, workspace: Workspace, report: Report) -> dict[str, object]:
    """Runs the tests of `head`.

    Answers `passed`, the `outcome` (passed, failed, no_tests, collection_error, timed_out, build_failed)
    with its `reason`, the counts of the JUnit report (null where none was written), `failed_tests`, the
    `command` and `python` used, times in ms, `log_tail`, `notes`, and the full id of `head`.
    """
    request = validated(PipelineRequest, payload)
    repository = await open_repository(request.repo, workspace=workspace, refs=(request.head,))
    head = await resolve(repository, "head", request.head)
    async with workspace.fresh("pipeline") as directory:
        await report("checkout", {"head": head})
        tree = await check_out(repository, head, directory / "tree")
        project = await asyncio.to_thread(read_project, tree.directory)
        if not project.is_python and request.test_command is None:
            reason = "no Python was found at the top of this tree; give a test_command to test it otherwise"
            return _without_run(head, "no_tests", reason, tree.notes())
        await report("environment", {"project": project.name, "backend": project.backend})
        trial = Trial(tree, project, directory, workspace)
        environment = await trial.prepare(request.environment_timeout_seconds)
        notes = [*tree.notes(), *environment.notes]
        if environment.failure is not None:
            return _without_environment(head, environment, notes)
        await report("tests", {"python": environment.python_version, "installed": environment.how})
        run = await trial.run(environment, request.test_command, timeout_seconds=request.timeout_seconds)
    return _answer(head, run, environment, project, [*notes, *run.notes])


def _answer(
    head: str, run: RunResult, environment: PreparedEnvironment, project: PythonProject, notes: list[str]
) -> dict[str, object]:
    found = run.report
    return {
        "passed": run.outcome == "passed",
        "outcome": run.outcome,
        "reason": run.reason,
        "tests": found.tests if found else None,
        "failures": found.failures if found else None,
        "errors": found.errors if found else None,
        "skipped": found.skipped if found else None,
        "duration_ms": run.finished.duration_ms,
        "failed_tests": [asdict(test) for test in found.failed] if found else [],
        "command": _shown_command(run.finished.command),
        "exit_code": run.finished.exit_code,
        "python": environment.python_version,
        "environment_ms": environment.duration_ms,
        "installed": environment.how,
        "project": project.name,
        "log_tail": run.finished.tail(_LOG_CHARACTERS_MAX),
        "notes": notes,
        "head": head,
    }


def _without_environment(head: str, environment: PreparedEnvironment, notes: list[str]) -> dict[str, object]:
    outcome: Outcome = "timed_out" if environment.timed_out else "build_failed"
    answer = _without_run(head, outcome, str(environment.failure), notes)
    return {
        **answer,
        "python": environment.python_version,
        "environment_ms": environment.duration_ms,
        "log_tail": environment.log,
    }


def _without_run(head: str, outcome: Outcome, reason: str, notes: list[str]) -> dict[str, object]:
    nothing = dict.fromkeys(("tests", "failures", "errors", "skipped", "exit_code", "python", "project"))
    return {
        **nothing,
        "passed": False,
        "outcome": outcome,
        "reason": reason,
        "duration_ms": 0,
        "failed_tests": [],
        "command": None,
        "environment_ms": 0,
        "installed": "",
        "log_tail": "",
        "notes": notes,
        "head": head,
    }


def _shown_command(words: tuple[str, ...]) -> str:
    """The command as a reader could repeat it: without the directories that are gone by then."""
    kept = [Path(words[0]).name, *(word for word in words[1:] if not word.startswith("--junitxml="))]
    return " ".join(kept)
