"""Reviews what a branch changes: `review_code`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from diurna_agents import child_environment
from diurna_agents.changes import Changes, FileChange, changes, contents
from diurna_agents.checkout import check_out
from diurna_agents.code_review import observations, text_findings
from diurna_agents.code_review.bandit_findings import bandit_findings
from diurna_agents.code_review.finding import Finding, in_reading_order
from diurna_agents.code_review.policy import Policy, ReviewRequest
from diurna_agents.code_review.ruff_findings import BaseContents, ruff_findings
from diurna_agents.code_review.tools import AnalysedFile, Bench
from diurna_agents.payload import validated
from diurna_agents.repository import merge_base, open_repository, resolve
from diurna_agents.workspace import Report, Workspace

_PYTHON_FILES_MAX: Final = 1_000
_NOTES_NAMED_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class _Checked:
    findings: list[Finding]
    ruff_configuration: str
    python_files: int
    notes: list[str]


async def review_code(payload: Mapping[str, object], *, workspace: Workspace, report: Report) -> dict[str, object]:
    """Reviews `base...head` of a repository.

    Answers `approved`, `decision`, `findings` (bounded by the policy, `findings_total` counts all),
    `observations`, the `policy` applied, full ids of `base`, `head` and `merge_base`, and a `summary`.
    """
    request = validated(ReviewRequest, payload)
    repository = await open_repository(request.repo, workspace=workspace, refs=(request.base, request.head))
    base = await resolve(repository, "base", request.base)
    head = await resolve(repository, "head", request.head)
    start = await merge_base(repository, base, head)
    await report("diff", {"base": base, "head": head, "merge_base": start})
    changed = await changes(repository, start, head)
    async with workspace.fresh("review") as directory:
        tree = await check_out(repository, head, directory / "tree", without_missing=True)
        await report("analyse", {"files": changed.files_total, "lines_added": changed.lines_added})
        scratch, home = directory / "scratch", directory / "home"
        scratch.mkdir()
        home.mkdir()
        environment = child_environment.for_analysis(workspace.environment, home=home)
        bench = Bench(tree.directory, scratch, environment)

        async def before(raw_path: bytes) -> bytes | None:
            return await contents(repository, start, raw_path)

        checked = await _check(changed, bench, request.policy, before)
    findings = checked.findings + observations.findings_about(changed, request.policy)
    kept = in_reading_order([finding for finding in findings if request.policy.keeps(finding)])
    answer = _answer(changed, checked, kept, request.policy, [*checked.notes, *tree.notes()])
    answer |= {"base": base, "head": head, "merge_base": start, "repository": repository.location}
    await report("decided", {"decision": answer["decision"], "findings": len(kept)})
    return answer


async def _check(changed: Changes, bench: Bench, policy: Policy, before: BaseContents) -> _Checked:
    files = _analysed(changed, bench.checkout)
    found = await asyncio.to_thread(_read_texts, files)
    python = [file for file in files if observations.is_python(file.path)]
    notes = _left_out(changed, python)
    python = [file for file in python if _can_be_an_argument(file)][:_PYTHON_FILES_MAX]
    ruff = await ruff_findings(python, bench, policy, before)
    bandit = await bandit_findings(python, bench, policy)
    notes += ruff.notes
    if bandit.not_read:
        notes.append(f"bandit could not read {_named(bandit.not_read)}")
    return _Checked(found + ruff.findings + bandit.findings, ruff.configuration, len(python), notes)


def _analysed(changed: Changes, checkout: Path) -> list[AnalysedFile]:
    return [
        AnalysedFile(
            path=file.path,
            raw_path_before=file.old_raw_path or file.raw_path,
            absolute=checkout / os.fsdecode(file.raw_path),
            added=frozenset(file.added_lines),
            is_new=file.kind == "added",
            is_test=observations.is_test(file.path),
        )
        for file in changed.files
        if file.content == "text" and file.added_lines
    ]


def _read_texts(files: Sequence[AnalysedFile]) -> list[Finding]:
    found: list[Finding] = []
    for file in files:
        lines = [line.decode("utf-8", "replace") for line in file.absolute.read_bytes().splitlines()]
        found += text_findings.conflict_markers(file.path, lines, file.added)
        found += text_findings.secrets(file.path, lines, file.added)
    return found


def _can_be_an_argument(file: AnalysedFile) -> bool:
    # Paths that are not UTF-8 come back changed in a tool's JSON and could not be told apart.
    try:
        str(file.absolute).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _left_out(changed: Changes, python: Sequence[AnalysedFile]) -> list[str]:
    notes: list[str] = []
    if changed.files_total > len(changed.files):
        left = changed.files_total - len(changed.files)
        notes.append(f"{left} of {changed.files_total} changed files were not looked into")
    if len(python) > _PYTHON_FILES_MAX:
        notes.append(f"ruff and bandit read the first {_PYTHON_FILES_MAX} of {len(python)} Python files")
    strange = [file.path for file in python if not _can_be_an_argument(file)]
    if strange:
        notes.append(f"ruff and bandit did not read files whose names are not UTF-8: {_named(strange)}")
    large = [file.path for file in changed.files if file.content == "too_large"]
    if large:
        notes.append(f"too large to be compared: {_named(large)}")
    rough = [file.path for file in changed.files if file.approximate]
    if rough:
        notes.append(f"too many lines to be compared exactly: {_named(rough)}")
    other = {PurePosixPath(file.path).suffix for file in changed.files if _is_foreign_source(file)}
    if other:
        notes.append(f"code in {', '.join(sorted(other))} was checked for size, conflict markers and secrets only")
    return notes


def _is_foreign_source(file: FileChange) -> bool:
    return observations.is_source(file.path) and not observations.is_python(file.path)


def _named(paths: Sequence[str]) -> str:
    more = len(paths) - _NOTES_NAMED_MAX
    return ", ".join(paths[:_NOTES_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")


def _answer(
    changed: Changes, checked: _Checked, findings: Sequence[Finding], policy: Policy, notes: list[str]
) -> dict[str, object]:
    blocking = sum(1 for finding in findings if finding.severity == "blocking")
    approved = blocking == 0
    return {
        "approved": approved,
        "decision": "approve" if approved else "request_changes",
        "findings": [finding.as_json() for finding in findings[: policy.findings_max]],
        "findings_total": len(findings),
        "blocking_total": blocking,
        "observations": {
            "size": observations.size(changed),
            "tests": observations.tests(changed),
            "python_files_checked": checked.python_files,
            "ruff_configuration": checked.ruff_configuration,
            "notes": notes,
        },
        "policy": policy.model_dump(mode="json"),
        "summary": _summary(changed, findings, blocking),
    }


def _summary(changed: Changes, findings: Sequence[Finding], blocking: int) -> str:
    if not changed.files_total:
        return "Nothing changed between base and head: approved."
    size = f"{changed.files_total} files, +{changed.lines_added} -{changed.lines_deleted} lines"
    if not blocking:
        remarks = f"{len(findings)} remarks" if findings else "no remarks"
        return f"{size}: approved with {remarks}."
    first = findings[0]
    place = f"{first.file}:{first.line}" if first.file else "the change as a whole"
    return f"{size}: changes requested for {blocking} blocking findings, first {place}: {first.message}"
