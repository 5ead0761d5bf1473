"""What a review notices of the change as a whole: its size, and whether tests came with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

from diurna_agents.changes import Changes, FileChange
from diurna_agents.code_review.finding import Finding, Severity
from diurna_agents.code_review.policy import Policy

LARGE_LINES: Final = 800
_NAMED_MAX: Final = 20
_CODE_SUFFIXES: Final = frozenset(
    {
        *("py", "pyi", "pyx", "js", "jsx", "mjs", "cjs", "ts", "tsx", "go", "rs", "c", "cc", "cpp", "h", "hpp"),
        *("java", "kt", "scala", "cs", "swift", "rb", "php", "sh", "lua", "ex", "erl"),
    }
)
_TEST_FOLDERS: Final = frozenset({"test", "tests", "testing", "__tests__", "spec", "specs"})
_LOCKS: Final = frozenset({"uv.lock", "poetry.lock", "pdm.lock", "package-lock.json", "yarn.lock", "cargo.lock"})


def is_test(path: str) -> bool:
    """Whether a file is there to test others, as far as its name tells."""
    parts = PurePosixPath(path.lower())
    stem = parts.stem
    if any(folder in _TEST_FOLDERS for folder in parts.parts[:-1]):
        return True
    return parts.suffix.lstrip(".") in _CODE_SUFFIXES and (
        stem.startswith(("test_", "test-"))
        or stem.endswith(("_test", "-test", ".test", ".spec", "_spec"))
        or stem in {"test", "tests", "conftest"}
    )


def is_python(path: str) -> bool:
    """Whether ruff and bandit can read it."""
    return path.lower().endswith((".py", ".pyi"))


def is_source(path: str) -> bool:
    """Whether it is code that tests would be expected for."""
    return PurePosixPath(path.lower()).suffix.lstrip(".") in _CODE_SUFFIXES and not is_test(path)


def size(changes: Changes) -> dict[str, object]:
    """How much there is to read; lock files are counted apart, for nobody reads them."""
    generated = [file for file in changes.files if PurePosixPath(file.path.lower()).name in _LOCKS]
    lines = _written_lines(changes.files)
    return {
        "files": changes.files_total,
        "files_looked_into": len(changes.files),
        "lines_added": changes.lines_added,
        "lines_deleted": changes.lines_deleted,
        "lines_to_read": lines,
        "generated_files": [file.path for file in generated][:_NAMED_MAX],
        "large": lines > LARGE_LINES,
        "binary_files": [file.path for file in changes.files if file.content == "binary"][:_NAMED_MAX],
        "submodules": [file.path for file in changes.files if file.content == "submodule"][:_NAMED_MAX],
    }


def tests(changes: Changes) -> dict[str, object]:
    """Which source changed, which tests changed, and what that says."""
    source = [file.path for file in changes.files if is_source(file.path) and file.kind != "deleted"]
    tested = [file.path for file in changes.files if is_test(file.path) and file.kind != "deleted"]
    if not source:
        verdict = "no source file was changed"
    elif tested:
        verdict = "source and tests were changed together"
    else:
        verdict = "source was changed and no test was"
    return {
        "source_files": source[:_NAMED_MAX],
        "source_files_total": len(source),
        "test_files": tested[:_NAMED_MAX],
        "test_files_total": len(tested),
        "source_without_tests": bool(source) and not tested,
        "verdict": verdict,
    }


def findings_about(changes: Changes, policy: Policy) -> list[Finding]:
    """What the policy makes of size and tests."""
    found: list[Finding] = []
    lines = _written_lines(changes.files)
    if policy.lines_changed_max is not None and lines > policy.lines_changed_max:
        message = f"{lines} changed lines are more than the {policy.lines_changed_max} the policy allows"
        found.append(Finding("", 0, "size", "blocking", message, "diurna"))
    elif lines > LARGE_LINES:
        message = f"{lines} changed lines are hard to review at once"
        found.append(Finding("", 0, "size", "comment", message, "diurna"))
    if tests(changes)["source_without_tests"]:
        severity: Severity = "blocking" if policy.require_tests else "comment"
        found.append(Finding("", 0, "no-tests", severity, "source was changed and no test was", "diurna"))
    return found


def _written_lines(files: Sequence[FileChange]) -> int:
    return sum(
        len(file.added_lines) + file.deleted_count
        for file in files
        if PurePosixPath(file.path.lower()).name not in _LOCKS
    )
