"""What blocks, what is remarked, and what is noticed of a change as a whole."""

from __future__ import annotations

import pytest

from diurna_agents.changes import Changes, FileChange
from diurna_agents.code_review import observations
from diurna_agents.code_review.finding import Finding, in_reading_order
from diurna_agents.code_review.policy import Policy


def change(path: str, added: int = 1, deleted: int = 0) -> FileChange:
    return FileChange(
        path.encode(), None, "modified", "text", tuple(range(1, added + 1)), deleted, "", False, False, False
    )


def of(*files: FileChange) -> Changes:
    return Changes("a" * 40, "b" * 40, files, len(files))


@pytest.mark.parametrize("rule", ["F821", "F822", "F502", "F701", "invalid-syntax", "PLE0101", "secret"])
def test_what_fails_when_it_is_run_blocks(rule: str):
    assert Policy().severity_of(rule) == "blocking"


@pytest.mark.parametrize("rule", ["F401", "F841", "E501", "B006", "possible-secret"])
def test_what_is_merely_untidy_is_a_comment(rule: str):
    assert Policy().severity_of(rule) == "comment"


@pytest.mark.parametrize(
    ("severity", "confidence", "expected"),
    [
        ("HIGH", "HIGH", "blocking"),
        ("HIGH", "MEDIUM", "comment"),
        ("MEDIUM", "HIGH", "comment"),
        ("UNDEFINED", "HIGH", "comment"),
    ],
)
def test_bandit_blocks_where_it_is_severe_and_sure(severity: str, confidence: str, expected: str):
    assert Policy().severity_of_bandit(severity, confidence) == expected


def test_a_policy_may_ask_for_less_certainty():
    policy = Policy(bandit_severity="medium", bandit_confidence="low")
    assert policy.severity_of_bandit("MEDIUM", "LOW") == "blocking"


def test_what_blocks_is_read_first_and_nothing_is_said_twice():
    comment = Finding("a.py", 1, "E501", "comment", "long", "ruff")
    blocking = Finding("z.py", 9, "F821", "blocking", "undefined", "ruff")
    assert in_reading_order([comment, blocking, comment]) == [blocking, comment]


@pytest.mark.parametrize(
    "path", ["tests/helpers.py", "test_app.py", "app_test.go", "src/app.spec.ts", "pkg/tests/data.json", "test.js"]
)
def test_tests_are_known_by_their_names(path: str):
    assert observations.is_test(path)


@pytest.mark.parametrize("path", ["src/latest.py", "contest.py", "src/testimony.py", "tests.yaml", "attest/app.py"])
def test_other_files_are_not_taken_for_tests(path: str):
    assert not observations.is_test(path)


def test_source_without_tests_is_noticed():
    assert observations.tests(of(change("src/app.py")))["source_without_tests"] is True
    assert observations.tests(of(change("src/app.py"), change("tests/test_app.py")))["source_without_tests"] is False
    assert observations.tests(of(change("README.md")))["source_without_tests"] is False


def test_source_without_tests_blocks_only_where_the_policy_says_so():
    changed = of(change("src/app.py"))
    assert [finding.severity for finding in observations.findings_about(changed, Policy())] == ["comment"]
    strict = observations.findings_about(changed, Policy(require_tests=True))
    assert [finding.severity for finding in strict] == ["blocking"]


def test_lock_files_do_not_make_a_change_large():
    changed = of(change("uv.lock", added=5_000), change("README.md", added=3))
    assert observations.size(changed)["large"] is False
    assert observations.findings_about(changed, Policy(lines_changed_max=10)) == []


def test_more_lines_than_the_policy_allows_block():
    found = observations.findings_about(of(change("README.md", added=11)), Policy(lines_changed_max=10))
    assert [(finding.rule, finding.severity) for finding in found] == [("size", "blocking")]
