"""Code tidied, written and explained in real repositories: on branches, with the tests before and after."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from dulwich.repo import Repo

from diurna_agents.errors import NeedsModel, RefNotFound, RepositoryNotFound
from diurna_agents.feature_dev import explain_code, generate_code, refactor_code
from diurna_agents.language_model import LanguageModel
from diurna_agents.workspace import report_nothing
from diurna_schemas.errors import InvalidInput, NotFound
from support.agents_repositories import GitRepository, workspace_below
from support.fake_model import scripted, uses

UNTIDY = "import os\nimport sys\n\ndef two( ):\n    x = 1\n    if x == None: return 3\n    return  2\n"
TEST = "from app import two\n\n\ndef test_two():\n    assert two() == 2\n"
RUN = {"timeout_seconds": 120, "environment_timeout_seconds": 240}


@pytest.fixture
def git(tmp_path: Path) -> GitRepository:
    return GitRepository(tmp_path / "source.git")


async def asked(work: Any, tmp_path: Path, payload: Mapping[str, object], **more: object) -> dict[str, Any]:
    answer: dict[str, Any] = await work(payload, workspace=workspace_below(tmp_path), report=report_nothing, **more)
    assert json.loads(json.dumps(answer)) == answer, "an answer is plain JSON"
    assert not list((tmp_path / "workspace/work").iterdir()), "nothing is left behind"
    return answer


def at(repo: Path, branch: str) -> dict[str, bytes]:
    """The files of a branch."""
    from dulwich.object_store import iter_tree_contents

    with Repo(str(repo)) as found:
        commit: Any = found[b"refs/heads/" + branch.encode()]
        tree = iter_tree_contents(found.object_store, commit.tree)
        return {entry.path.decode(): found[entry.sha].as_raw_string() for entry in tree}  # type: ignore[union-attr]


def branches(git: GitRepository) -> set[str]:
    with Repo(str(git.path)) as found:
        return {name.decode() for name in found.refs.as_dict(b"refs/heads")}  # type: ignore[arg-type]


async def test_code_is_tidied_on_a_branch_of_its_own_with_its_tests_before_and_after(
    git: GitRepository, tmp_path: Path
):
    head = git.commit({"app.py": UNTIDY, "test_app.py": TEST, "data.bin": b"\0\1", "notes.md": "# no change \n"})
    payload = {"repo": str(git.path), "head": "main", **RUN}
    answer = await asked(refactor_code, tmp_path, payload)
    assert (answer["outcome"], answer["base"], answer["head"]) == ("refactored", head, head)
    assert [answer["tests"][when]["tests"] for when in ("before", "after")] == [1, 1]
    assert answer["fixes"] == {"F401": 2, "I001": 1}
    assert answer["remaining_violations"] == 2, "what has no safe fix is counted and left"
    assert [file["path"] for file in answer["diff"]["by_file"]] == ["app.py"]
    files = at(git.path, answer["branch"])
    assert files["app.py"] == b"def two():\n    x = 1\n    if x == None:\n        return 3\n    return 2\n"
    assert (files["notes.md"], files["data.bin"]) == (b"# no change \n", b"\0\1")
    assert at(git.path, "main")["app.py"] == UNTIDY.encode(), "what was there stays"
    again = await asked(refactor_code, tmp_path, payload)
    assert (again["branch"], again["commit"]) == (answer["branch"], answer["commit"]), "the same change is one branch"


async def test_a_change_that_makes_the_tests_worse_is_not_written(git: GitRepository, tmp_path: Path):
    source = TEST + '\n\ndef test_layout():\n    assert "two( )" in open("app.py").read()\n'
    git.commit({"app.py": UNTIDY, "test_app.py": source})
    answer = await asked(refactor_code, tmp_path, {"repo": str(git.path), "head": "main", **RUN})
    assert (answer["outcome"], answer["branch"], answer["commit"]) == ("tests_worse", None, None)
    assert "all tests passed before" in answer["reason"]
    assert answer["tests"]["after"]["failed_tests"] == ["test_app::test_layout"]
    assert branches(git) == {"main"}


async def test_what_cannot_be_refactored_is_told_as_it_is(git: GitRepository, tmp_path: Path):
    git.commit({"index.js": "let  a\n"})
    payload: dict[str, Any] = {"repo": str(git.path), "head": "main", **RUN}
    other = await asked(refactor_code, tmp_path, payload)
    assert (other["outcome"], other["tests"]) == ("nothing_to_do", None)
    assert "no Python file" in str(other["notes"])
    git.commit({"app.py": "import os\n"})
    untested = await asked(refactor_code, tmp_path, {**payload, "require_tests": True})
    assert (untested["outcome"], untested["branch"]) == ("untested", None)
    untested = await asked(refactor_code, tmp_path, payload)
    assert (untested["outcome"], untested["tests"]["before"]["outcome"]) == ("refactored", "no_tests")
    git.commit({"app.py": "def f(:\n", "good.py": "x = 1\n"})
    broken = await asked(refactor_code, tmp_path, payload)
    assert broken["outcome"] == "nothing_to_do"
    assert broken["remaining_violations"] > 0
    ruff = '[tool.ruff]\nrequired-version = "==0.0.1"\n'
    git.commit({"app.py": "import os\n", "pyproject.toml": ruff})
    foreign = await asked(refactor_code, tmp_path, {**payload, "operations": ["lint"]})
    assert "ruff configuration could not be used" in str(foreign["notes"])
    assert foreign["outcome"] == "refactored"


async def test_wrong_payloads_and_missing_things_are_named(git: GitRepository, tmp_path: Path):
    git.commit({"app.py": "import os\n"})
    payload = {"repo": str(git.path), "head": "main"}
    for wrong, said in (
        ({"operations": ["delete"]}, "operations.0"),
        ({"paths": ["nowhere"]}, "paths: no Python file of the tree is there, got 'nowhere'"),
        ({"select": ["; rm"]}, "select.0"),
        ({"brunch": "x"}, "brunch: no such field"),
    ):
        with pytest.raises(InvalidInput) as refused:
            await asked(refactor_code, tmp_path, {**payload, **wrong})
        assert said in str(refused.value)
    with pytest.raises(RefNotFound, match="head: no commit 'gone'"):
        await asked(explain_code, tmp_path, {**payload, "head": "gone"})
    with pytest.raises(RepositoryNotFound, match="no readable git repository"):
        await asked(explain_code, tmp_path, {"repo": str(tmp_path / "nothing")})
    with pytest.raises(InvalidInput, match="path"):
        await asked(explain_code, tmp_path, {**payload, "path": "../.."})
    with pytest.raises(NotFound, match="no symbol with id 'gone'"):
        await asked(explain_code, tmp_path, {**payload, "symbol": "gone"})


async def test_code_is_explained_by_its_structure_and_a_model_adds_words(git: GitRepository, tmp_path: Path):
    source = "def helper():\n    return 1\n\n\ndef main(x):\n    if x:\n        return helper()\n    return 0\n"
    git.commit({"pkg/__init__.py": "", "pkg/core.py": source, "web/index.js": "let a\n", "logo.png": b"\0\0"})
    payload: dict[str, Any] = {"repo": str(git.path), "head": "main"}
    answer = await asked(explain_code, tmp_path, payload)
    core = next(module for module in answer["structure"] if module["module"] == "pkg.core")
    assert [(one["name"], one["complexity"]) for one in core["functions"]] == [("helper", 1), ("main", 2)]
    assert core["functions"][1]["calls"] == [{"name": "helper", "to": "pkg.core.helper"}]
    assert answer["languages"]["total"] == {"files": 4, "lines": 9}
    assert (answer["prose"], answer["prose_by"]) == (None, None)
    assert "the most complex is pkg.core.main (2)" in answer["summary"]
    model, chat = scripted(["It helps."])
    told = await asked(explain_code, tmp_path, {**payload, "symbol": "helper"}, model=model)
    assert (told["prose"], told["prose_by"]) == ("It helps.", "scripted")
    (symbol,) = told["symbols"]
    assert (symbol["called_by"], symbol["source"]) == (["pkg.core.main"], "def helper():\n    return 1")
    assert "def helper" in chat.last_heard
    other = await asked(explain_code, tmp_path, {**payload, "path": "web"}, model=None)
    assert (other["structure"], other["languages"]["total"]["files"]) == ([], 1)
    assert "no Python file is here" in str(other["notes"])
    with pytest.raises(NeedsModel, match="prose needs a language model"):
        await asked(explain_code, tmp_path, {**payload, "prose": "required"})
    unloadable = await asked(explain_code, tmp_path, payload, model=LanguageModel.named("nobody:nothing"))
    assert unloadable["prose"] is None
    assert "no prose: a language model is needed; DIURNA_MODEL is 'nobody:nothing'" in str(unloadable["notes"])


async def test_a_tree_too_large_to_tell_is_told_in_less_detail(git: GitRepository, tmp_path: Path):
    functions = "".join(f'def f{n}(a, b):\n    """{"words " * 20}"""\n    print(a)\n\n\n' for n in range(150))
    git.commit({f"m{n}.py": functions for n in range(12)})
    answer = await asked(explain_code, tmp_path, {"repo": str(git.path), "head": "main"})
    assert len(json.dumps(answer)) < 256 * 1024
    assert len(answer["structure"]) == 12
    assert "calls were left out" in str(answer["notes"])


async def test_a_model_writes_code_with_tests_on_a_branch(git: GitRepository, tmp_path: Path):
    git.commit({"app.py": "def two():\n    return 2\n", "test_app.py": TEST})
    three = "def two():\n    return 2\n\n\ndef three():\n    return 3\n"
    tested = TEST + "\n\ndef test_three():\n    import app\n\n    assert app.three() == 3\n"
    model, chat = scripted(
        [
            uses(("list_files", {}), ("read_file", {"path": "app.py"}), ("search", {"text": "two"})),
            uses(("write_file", {"path": "app.py", "content": three}), ("read_file", {"path": "../outside"})),
            uses(("write_file", {"path": "test_app.py", "content": tested}), ("run_tests", {})),
            "I added three().",
        ]
    )
    payload = {"repo": str(git.path), "head": "main", "task": "Add three()", "paths": ["app.py"], **RUN}
    answer = await asked(generate_code, tmp_path, payload, model=model)
    assert (answer["outcome"], answer["words"], answer["model"]) == ("generated", "I added three().", "scripted")
    assert [answer["tests"][when]["tests"] for when in ("before", "after")] == [1, 2]
    assert (answer["steps"], answer["tool_calls"]) == (4, 7)
    assert at(git.path, answer["branch"]) == {"app.py": three.encode(), "test_app.py": tested.encode()}
    heard = "\n".join(str(message.content) for message in chat.told[-1])
    assert "=== app.py\ndef two()" in heard
    assert "a path inside the repository is needed" in heard
    assert "passed: 2 tests passed" in heard


async def test_what_a_model_does_badly_or_not_at_all_is_not_written(git: GitRepository, tmp_path: Path):
    git.commit({"app.py": "def two():\n    return 2\n", "test_app.py": TEST})
    payload = {"repo": str(git.path), "head": "main", "task": "Break it", **RUN}
    with pytest.raises(NeedsModel, match="generate_code needs a language model and none is configured"):
        await asked(generate_code, tmp_path, payload)
    bad = uses(("write_file", {"path": "app.py", "content": "def two():\n    return 5\n"}))
    for answers, outcome in (
        ([bad, "done"], "tests_worse"),
        (["I would rather not."], "nothing_written"),
        ([bad] * 3, "stopped"),
    ):
        model, _ = scripted(answers)
        answer = await asked(generate_code, tmp_path, {**payload, "steps_max": 2}, model=model)
        assert (answer["outcome"], answer["branch"]) == (outcome, None)
    assert branches(git) == {"main"}


async def test_a_cancelled_refactoring_leaves_nothing(git: GitRepository, tmp_path: Path):
    git.commit(
        {"app.py": "import os\n", "test_app.py": "import threading\n\ndef test():\n    threading.Event().wait()\n"}
    )
    reached = asyncio.Event()

    async def report(step: str, details: dict[str, object]) -> None:
        if step == "tests":
            reached.set()

    payload = {"repo": str(git.path), "head": "main", **RUN}
    task = asyncio.create_task(refactor_code(payload, workspace=workspace_below(tmp_path), report=report))
    async with asyncio.timeout(120):
        await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert branches(git) == {"main"}
    assert not list((tmp_path / "workspace/work").iterdir())
