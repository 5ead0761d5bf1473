"""Runs the tests and says what came of it: passed, failed, or why it cannot be said."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from diurna_agents import process
from diurna_agents.cicd.junit import JunitReport, read_report
from diurna_agents.errors import ToolFailed

Outcome = Literal["passed", "failed", "no_tests", "collection_error", "timed_out", "build_failed"]

_USAGE_ERROR: Final = 4
_NOTHING_COLLECTED: Final = 5
_BROKEN_COLLECTION: Final = frozenset({2, 3, 4})
_OUTPUT_BYTES_MAX: Final = 256 * 1024
_UNITTEST_NAMES: Final = "python_files=test*.py *_test.py *test.py *tests.py"


@dataclass(slots=True)
class RunResult:
    """One run of a repository's tests."""

    outcome: Outcome
    reason: str
    finished: process.Finished
    report: JunitReport | None
    notes: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the tests run: the tree, its environment, and where the report is written."""

    tree: Path
    virtual_environment: Path
    environment: Mapping[str, str]
    reports: Path
    installed: bool
    timeout_seconds: float


async def run_tests(stage: Stage, test_command: str | Sequence[str] | None) -> RunResult:
    """Runs the given command, or pytest; pytest is asked again in another way where that may help."""
    if test_command is not None:
        words = shlex.split(test_command) if isinstance(test_command, str) else list(test_command)
        return await _run_command(stage, words)
    program: list[str | Path] = [stage.virtual_environment / "bin" / "python", "-m", "pytest"]
    if stage.installed and (stage.virtual_environment / "bin" / "pytest").exists():
        # As people run it: without the tree on the path, so what was installed is what is tested.
        program = [stage.virtual_environment / "bin" / "pytest"]
    run = await _run_pytest(stage, program, [])
    notes: list[str] = []
    if run.finished.exit_code == _USAGE_ERROR and "unrecognized arguments" in run.finished.output:
        notes.append("the project's own pytest options were left out: they need a plugin it does not declare")
        run = await _run_pytest(stage, program, ["-o", "addopts="])
    if run.finished.exit_code == _NOTHING_COLLECTED:
        again = await _run_pytest(stage, program, ["-o", _UNITTEST_NAMES])
        if again.outcome != "no_tests":
            notes.append("tests were found under names that unittest looks for")
            run = again
    run.notes = notes
    return run


async def _run_pytest(stage: Stage, program: Sequence[str | Path], options: Sequence[str]) -> RunResult:
    report = stage.reports / "junit.xml"
    report.unlink(missing_ok=True)
    fixed = [f"--junitxml={report}", "--color=no"]
    finished = await process.run(
        [*program, *fixed, *options],
        cwd=stage.tree,
        environment=stage.environment,
        timeout_seconds=stage.timeout_seconds,
        output_bytes_max=_OUTPUT_BYTES_MAX,
    )
    return _judged(stage, finished, read_report(report))


async def _run_command(stage: Stage, words: Sequence[str]) -> RunResult:
    report = stage.reports / "junit.xml"
    # Whatever way the command comes to start pytest, the report is written.
    options = f"--junitxml={report}"
    try:
        finished = await process.run(
            _found(words, stage),
            cwd=stage.tree,
            environment={**stage.environment, "PYTEST_ADDOPTS": options},
            timeout_seconds=stage.timeout_seconds,
            output_bytes_max=_OUTPUT_BYTES_MAX,
        )
    except ToolFailed as error:
        finished = process.Finished(tuple(words), 127, error.detail, 0, 0, timed_out=False)
        return RunResult("failed", f"the test command cannot be started: {error.detail}", finished, None)
    found = read_report(report)
    if found is not None:
        return _judged(stage, finished, found)
    if finished.timed_out:
        return RunResult("timed_out", _too_long(stage), finished, None)
    if finished.exit_code == 0:
        return RunResult("passed", "the test command succeeded; it wrote no report to count tests in", finished, None)
    return RunResult("failed", f"the test command ended with exit code {finished.exit_code}", finished, None)


def _found(words: Sequence[str], stage: Stage) -> list[str]:
    """The program looked up first where the tests' environment has it, for PATH is that of the child."""
    inside = stage.virtual_environment / "bin" / words[0]
    return [str(inside) if "/" not in words[0] and inside.exists() else words[0], *words[1:]]


def _judged(stage: Stage, finished: process.Finished, report: JunitReport | None) -> RunResult:
    code = finished.exit_code
    outcome: Outcome
    if finished.timed_out:
        outcome, reason = "timed_out", _too_long(stage)
    elif code < 0:
        outcome, reason = "failed", f"the tests were ended by signal {-code}"
    elif code == _NOTHING_COLLECTED or (report is not None and report.tests == 0 and code == 0):
        outcome, reason = "no_tests", "pytest found no tests"
    elif code == 0 and report is not None and report.ran == 0:
        outcome, reason = "no_tests", f"all {report.tests} tests were skipped"
    elif code == 0 and report is not None and not report.failures and not report.errors:
        outcome, reason = "passed", f"{report.ran} tests passed"
    elif code in _BROKEN_COLLECTION:
        outcome, reason = "collection_error", f"pytest could not run the tests: {_last_error(finished)}"
    elif report is None:
        outcome, reason = "failed", f"exit code {code} and no readable report"
    else:
        bad = report.failures + report.errors
        outcome, reason = "failed", f"{bad} of {report.tests} tests failed" if bad else f"exit code {code}"
    return RunResult(outcome, reason, finished, report)


def _too_long(stage: Stage) -> str:
    return f"the tests took more than {stage.timeout_seconds:g} s"


def _last_error(finished: process.Finished) -> str:
    lines = [line.strip() for line in finished.output.splitlines() if line.strip()]
    # What was raised says more than where: pytest names the file again at the end.
    raised = [line.removeprefix("E").strip() for line in lines if line.startswith("E  ")]
    telling = raised or [line for line in lines if line.startswith(("ERROR", "INTERNALERROR"))]
    return (telling or lines or ["it said nothing"])[-1][:400]
