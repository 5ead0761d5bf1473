"""Reviews of real changes, from the diff to the decision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from dulwich.objects import Blob

from diurna_agents import demo_repository
from diurna_agents.cicd import run_pipeline
from diurna_agents.code_review import review_code
from diurna_agents.demo_repository import make_demo_repository
from diurna_agents.errors import RefNotFound, RepositoryNotFound
from diurna_agents.workspace import report_nothing
from diurna_schemas.errors import InvalidInput
from support.agents_repositories import Entry, GitRepository, workspace_below


class Reviewer:
    """Reviews the change from one tree to another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0

    async def of(self, before: Mapping[str, Entry], after: Mapping[str, Entry], **policy: object) -> dict[str, object]:
        self._count += 1
        git = GitRepository(self._path / f"{self._count}.git")
        root = git.commit(before)
        git.commit(after, parents=(root,), branch="feature")
        payload = {"repo": str(git.path), "base": "main", "head": "feature", "policy": policy}
        answer = await review_code(payload, workspace=workspace_below(self._path), report=report_nothing)
        assert json.loads(json.dumps(answer)) == answer, "an answer is plain JSON"
        assert not list((self._path / "workspace/work").iterdir()), "nothing is left behind"
        return answer


@pytest.fixture
def reviewer(tmp_path: Path) -> Reviewer:
    return Reviewer(tmp_path)


def said(answer: Mapping[str, object]) -> set[tuple[str, int, str, str]]:
    found = answer["findings"]
    assert isinstance(found, list)
    return {(item["file"], item["line"], item["rule"], item["severity"]) for item in found}


async def test_a_good_change_is_approved(tmp_path: Path):
    path = make_demo_repository(tmp_path / "demo")
    steps: list[str] = []

    async def report(step: str, details: dict[str, object]) -> None:
        steps.append(step)

    payload = {"repo": str(path), "base": demo_repository.BASE, "head": demo_repository.HEAD}
    answer = await review_code(payload, workspace=workspace_below(tmp_path), report=report)
    assert (answer["approved"], answer["decision"], answer["findings"]) == (True, "approve", [])
    assert steps == ["diff", "analyse", "decided"]


async def test_a_bad_change_is_told_where_and_why(tmp_path: Path):
    path = make_demo_repository(tmp_path / "demo", variant="bad_review")
    payload = {"repo": str(path), "base": demo_repository.BASE, "head": demo_repository.HEAD}
    answer = await review_code(payload, workspace=workspace_below(tmp_path), report=report_nothing)
    assert answer["decision"] == "request_changes"
    blocking = {(file, rule) for file, _, rule, severity in said(answer) if severity == "blocking"}
    file = "src/greeting_service/farewells.py"
    assert blocking == {(file, "F821"), (file, "B602")}


async def test_old_sins_are_not_held_against_a_new_change(reviewer: Reviewer):
    old = "import os\n\n\ndef f():\n    return nowhere\n"
    answer = await reviewer.of({"a.py": old}, {"a.py": old + "\n\nX = 1\n"})
    assert (answer["approved"], answer["findings_total"]) == (True, 1)
    assert said(answer) == {("", 0, "no-tests", "comment")}


async def test_a_file_that_no_longer_parses_blocks(reviewer: Reviewer):
    answer = await reviewer.of({"a.py": "x = 1\n", "tests/t.py": ""}, {"a.py": "x = (\n", "tests/t.py": "y = 1\n"})
    assert ("a.py", "invalid-syntax", "blocking") in {(file, rule, how) for file, _, rule, how in said(answer)}


async def test_a_file_that_never_parsed_is_a_comment(reviewer: Reviewer):
    answer = await reviewer.of({"old.py": "print 'two'\n"}, {"old.py": "print 'two'\nprint 'words'\n"})
    assert answer["approved"]
    assert {(file, rule, how) for file, _, rule, how in said(answer) if file} == {
        ("old.py", "invalid-syntax", "comment")
    }


async def test_syntax_too_new_for_the_stated_python_blocks_and_else_does_not(reviewer: Reviewer):
    new = {"a.py": "type Pair = tuple[int, int]\n"}
    stated = {"pyproject.toml": '[project]\nname = "a"\nversion = "1"\nrequires-python = ">=3.10"\n'}
    assert (await reviewer.of({"b": ""}, {"b": "", **new}))["approved"]
    answer = await reviewer.of({"b": "", **stated}, {"b": "", **stated, **new})
    assert ("a.py", 1, "invalid-syntax", "blocking") in said(answer)


async def test_the_repositorys_own_ruff_rules_are_honoured(reviewer: Reviewer):
    own = {"ruff.toml": 'lint.select = ["D100"]\nexclude = ["generated"]\n'}
    after = {
        **own,
        "a.py": "import os\n",
        "generated/b.py": "import os\nprint(nowhere)\n",
        "c.py": "'''C.'''\nprint(no)\n",
    }
    answer = await reviewer.of(own, after)
    assert {(file, rule) for file, _, rule, _ in said(answer) if file} == {("a.py", "D100"), ("c.py", "F821")}
    observations = answer["observations"]
    assert isinstance(observations, dict)
    assert observations["ruff_configuration"] == "the repository's own"


async def test_a_ruff_configuration_that_cannot_be_used_is_said_and_replaced(reviewer: Reviewer):
    own = {"ruff.toml": 'required-version = "==0.0.1"\n'}
    answer = await reviewer.of(own, {**own, "a.py": "print(nowhere)\n"})
    assert ("a.py", 1, "F821", "blocking") in said(answer)
    assert "could not be used" in str(answer["observations"])


async def test_a_change_without_python_is_reviewed_for_what_can_be_told(reviewer: Reviewer):
    conflict = "<" * 7 + " ours\na\n" + "=" * 7 + "\nb\n" + ">" * 7 + " theirs\n"
    answer = await reviewer.of({"a.js": "let a\n"}, {"a.js": "let a\n" + conflict, b"caf\xe9.js": "x\n"})  # type: ignore[dict-item]
    assert ("a.js", 2, "conflict-marker", "blocking") in said(answer)
    assert "code in .js was checked for size, conflict markers and secrets only" in str(answer["observations"])


async def test_names_that_are_not_utf8_are_reviewed_as_far_as_can_be(reviewer: Reviewer):
    answer = await reviewer.of({"a": ""}, {"a": "", b"caf\xe9.py": "print(nowhere)\n"})  # type: ignore[dict-item]
    assert "did not read files whose names are not UTF-8: caf\\xe9.py" in str(answer["observations"]).replace(
        "\\\\", "\\"
    )


async def test_many_findings_are_bounded_and_counted(reviewer: Reviewer):
    lines = "".join(f"print(nowhere_{number})\n" for number in range(50))
    answer = await reviewer.of({"b": ""}, {"b": "", "a.py": lines}, findings_max=10)
    found = answer["findings"]
    assert isinstance(found, list)
    assert len(found) == 10
    assert answer["blocking_total"] == 50
    assert answer["findings_total"] == 51


async def test_a_rule_the_policy_ignores_is_not_said(reviewer: Reviewer):
    answer = await reviewer.of({"b": ""}, {"b": "", "a.py": "print(no)\n"}, ignored_rules=["F821", "no-tests"])
    assert (answer["approved"], answer["findings"]) == (True, [])


async def test_no_change_is_approved_as_such(reviewer: Reviewer, tmp_path: Path):
    answer = await reviewer.of({"a.py": "x = 1\n"}, {"a.py": "x = 1\n"})
    assert answer["approved"]
    assert "Nothing changed" in str(answer["summary"])


async def test_bad_payloads_say_what_is_wrong(tmp_path: Path):
    path = make_demo_repository(tmp_path / "demo")
    good = {"repo": str(path), "base": "main", "head": demo_repository.HEAD}
    workspace = workspace_below(tmp_path)
    with pytest.raises(InvalidInput, match=r"policy\.strictness: no such field"):
        await review_code({**good, "policy": {"strictness": 9}}, workspace=workspace, report=report_nothing)
    with pytest.raises(RefNotFound, match="head: no commit 'feature/nothing'"):
        await review_code({**good, "head": "feature/nothing"}, workspace=workspace, report=report_nothing)


async def test_a_partial_clone_is_reviewed_by_what_it_holds(tmp_path: Path):
    git = GitRepository(tmp_path / "partial.git")
    root = git.commit({"big.bin": "not here", "a.py": "x = 1\n"})
    git.commit({"big.bin": "not here", "a.py": "x = nowhere\n"}, parents=(root,), branch="feature")
    absent = Blob.from_string(b"not here").id.decode()
    (git.path / "objects" / absent[:2] / absent[2:]).unlink()
    payload = {"repo": str(git.path), "base": "main", "head": "feature"}
    answer = await review_code(payload, workspace=workspace_below(tmp_path), report=report_nothing)
    assert ("a.py", 1, "F821", "blocking") in said(answer)
    assert "left out: big.bin" in str(answer["observations"])
    pipeline = {"repo": str(git.path), "head": "feature"}
    with pytest.raises(RepositoryNotFound, match="is it a partial clone"):
        await run_pipeline(pipeline, workspace=workspace_below(tmp_path), report=report_nothing)
