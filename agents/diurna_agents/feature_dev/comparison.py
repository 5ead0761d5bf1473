"""The tests of a tree before and after a change, and whether they got worse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from diurna_agents.cicd.environment import PreparedEnvironment
from diurna_agents.cicd.runner import Outcome, RunResult
from diurna_agents.cicd.trial import Trial
from diurna_agents.feature_dev.request import TestedRequest
from diurna_agents.workspace import Report
from diurna_agents.worktree import Worktree

_LOG_CHARACTERS_MAX: Final = 6_000
_NAMED_MAX: Final = 20
_BUILD_FILES: Final = ("pyproject.toml", "setup.py", "setup.cfg", "requirements", "uv.lock", "poetry.lock")


@dataclass(frozen=True, slots=True)
class SuiteRun:
    """What one run of the tests came to."""

    outcome: Outcome
    reason: str
    tests: int = 0
    bad: int = 0
    skipped: int = 0
    failed: tuple[str, ...] = ()
    duration_ms: int = 0
    log_tail: str = ""

    @classmethod
    def of(cls, run: RunResult) -> SuiteRun:
        """From a run; where there is no report, nothing was counted."""
        found = run.report
        return cls(
            outcome=run.outcome,
            reason=run.reason,
            tests=found.tests if found else 0,
            bad=found.failures + found.errors if found else 0,
            skipped=found.skipped if found else 0,
            failed=tuple(test.name for test in found.failed) if found else (),
            duration_ms=run.finished.duration_ms,
            log_tail=run.finished.tail(_LOG_CHARACTERS_MAX),
        )

    @property
    def could_run(self) -> bool:
        """Whether they say anything of the tree."""
        return self.outcome in {"passed", "failed"}

    def as_json(self) -> dict[str, object]:
        """As an answer holds it; what the tools said is told where something went wrong."""
        shown: dict[str, object] = {
            "outcome": self.outcome,
            "reason": self.reason,
            "tests": self.tests,
            "failed": self.bad,
            "skipped": self.skipped,
            "failed_tests": list(self.failed[:_NAMED_MAX]),
            "duration_ms": self.duration_ms,
        }
        return shown if self.outcome in {"passed", "no_tests"} else {**shown, "log_tail": self.log_tail}


def worse(before: SuiteRun, after: SuiteRun) -> str | None:
    """Why the tests got worse; None where they did not, or where there was nothing to compare with."""
    if not before.could_run:
        if before.outcome == "no_tests" and after.outcome not in {"no_tests", "passed"}:
            return f"there were no tests, and now: {after.reason}"
        return None
    if not after.could_run:
        return f"before, {before.reason}; after, {after.reason}"
    if before.outcome == "passed" and after.outcome != "passed":
        return f"all tests passed before; after, {after.reason}"
    new = sorted(set(after.failed) - set(before.failed))
    if new and before.bad <= len(before.failed):
        return f"{len(new)} tests fail that did not before, first {new[0]}"
    if after.bad > before.bad:
        return f"{before.bad} tests failed before and {after.bad} after"
    ran_before, ran_after = before.tests - before.skipped, after.tests - after.skipped
    if ran_after < ran_before:
        return f"{ran_before} tests ran before and only {ran_after} after"
    return None


class Proving:
    """Runs the tests of one tree before and after; the tree is put back between, whatever the tests did to it."""

    def __init__(self, trial: Trial, request: TestedRequest, report: Report) -> None:
        self._trial = trial
        self._request = request
        self._report = report
        self._environment: PreparedEnvironment | None = None
        self.notes: list[str] = []

    @property
    def tree(self) -> Path:
        """Where the tree lies."""
        return self._trial.tree.directory

    async def before(self) -> SuiteRun:
        """Makes the environment, and runs the tests as they are."""
        if not self._trial.project.is_python and self._request.test_command is None:
            return SuiteRun(
                "no_tests", "no Python was found at the top of this tree; give a test_command to test it otherwise"
            )
        await self._report("environment", {"project": self._trial.project.name})
        return await self._prepared() or await self._run("before")

    async def run(self) -> SuiteRun:
        """Runs the tests in the tree as it is, and puts it back after them."""
        return await self._run("between") if self._environment is not None else await self.before()

    async def after(self, edits: Mapping[str, bytes]) -> SuiteRun:
        """Runs the tests with these files written into the tree."""
        tree = Worktree(self.tree)
        for path, data in edits.items():
            tree.put(path, data)
        if self._environment is None:
            return SuiteRun("no_tests", "nothing was run before, so nothing was run after")
        if not self._environment.is_editable or any(path.startswith(_BUILD_FILES) for path in edits):
            # What was installed is no longer what lies in the tree.
            failed = await self._prepared()
            if failed is not None:
                return failed
        return await self._run("after")

    async def _prepared(self) -> SuiteRun | None:
        environment = await self._trial.prepare(self._request.environment_timeout_seconds)
        self.notes += [note for note in environment.notes if note not in self.notes]
        if environment.failure is not None:
            outcome: Outcome = "timed_out" if environment.timed_out else "build_failed"
            return SuiteRun(outcome, environment.failure, log_tail=environment.log)
        self._environment = environment
        return None

    async def _run(self, when: str) -> SuiteRun:
        assert self._environment is not None
        await self._report("tests", {"when": when, "installed": self._environment.how})
        aside = await self._trial.keep()
        try:
            run = await self._trial.run(
                self._environment, self._request.test_command, timeout_seconds=self._request.timeout_seconds
            )
        finally:
            await self._trial.put_back(aside)
        self.notes += [note for note in run.notes if note not in self.notes]
        return SuiteRun.of(run)
