"""Pipelines on real trees: every outcome, told as it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from diurna_agents import demo_repository
from diurna_agents.cicd import run_pipeline, validate_build
from diurna_agents.demo_repository import Variant, make_demo_repository
from diurna_agents.workspace import report_nothing
from support.agents_repositories import Entry, GitRepository, workspace_below

GOOD_TEST = (
    "import unittest\n\n\nclass Case(unittest.TestCase):\n    def test_it(self):\n        self.assertEqual(1, 1)\n"
)


async def pipeline(path: Path, files: Mapping[str, Entry], **more: object) -> dict[str, object]:
    git = GitRepository(path / "source.git")
    git.commit(files)
    return await piped(path, {"repo": str(git.path), "head": "main", **more})


async def piped(path: Path, payload: dict[str, object]) -> dict[str, object]:
    answer = await run_pipeline(payload, workspace=workspace_below(path), report=report_nothing)
    assert json.loads(json.dumps(answer)) == answer, "an answer is plain JSON"
    assert not list((path / "workspace/work").iterdir()), "nothing is left behind"
    return answer


@pytest.mark.parametrize(("variant", "outcome", "failures"), [("good", "passed", 0), ("failing_tests", "failed", 2)])
async def test_a_packages_own_tests_decide(tmp_path: Path, variant: Variant, outcome: str, failures: int):
    path = make_demo_repository(tmp_path / "demo", variant=variant)
    answer = await piped(tmp_path, {"repo": str(path), "head": demo_repository.HEAD})
    assert (answer["outcome"], answer["passed"]) == (outcome, outcome == "passed")
    assert (answer["tests"], answer["failures"], answer["errors"]) == (11, failures, 0)
    failed = answer["failed_tests"]
    assert isinstance(failed, list)
    assert len(failed) == failures
    assert all("assert" in item["message"] for item in failed)
    assert str(answer["python"]).startswith("3.")
    assert answer["project"] == "greeting-service"


async def test_tests_beside_a_bare_module_are_run_from_the_tree(tmp_path: Path):
    files = {
        "app.py": "def two():\n    return 2\n",
        "tests/test_app.py": "import app\n\ndef test():\n    assert app.two() == 2\n",
    }
    answer = await pipeline(tmp_path, files)
    assert (answer["outcome"], answer["tests"]) == ("passed", 1)


async def test_tests_named_as_unittest_names_them_are_found(tmp_path: Path):
    answer = await pipeline(tmp_path, {"tests/tests.py": GOOD_TEST, "tests/__init__.py": ""})
    assert (answer["outcome"], answer["tests"]) == ("passed", 1)
    assert "unittest" in str(answer["notes"])


async def test_a_tree_without_tests_has_not_passed(tmp_path: Path):
    answer = await pipeline(tmp_path, {"app.py": "x = 1\n"})
    assert (answer["outcome"], answer["passed"], answer["tests"]) == ("no_tests", False, 0)


async def test_a_tree_without_python_is_told_as_one(tmp_path: Path):
    answer = await pipeline(tmp_path, {"index.js": "let a\n"})
    assert (answer["outcome"], answer["passed"]) == ("no_tests", False)
    assert "no Python was found" in str(answer["reason"])


async def test_tests_that_were_all_skipped_have_not_passed(tmp_path: Path):
    text = "import pytest\n\n@pytest.mark.skip\ndef test():\n    assert False\n"
    answer = await pipeline(tmp_path, {"test_a.py": text})
    assert (answer["outcome"], answer["skipped"], answer["passed"]) == ("no_tests", 1, False)


async def test_tests_that_cannot_be_imported_are_a_collection_error(tmp_path: Path):
    answer = await pipeline(tmp_path, {"test_a.py": "import nothing_of_the_kind\n"})
    assert (answer["outcome"], answer["passed"]) == ("collection_error", False)
    assert "nothing_of_the_kind" in str(answer["log_tail"])
    assert "No module named 'nothing_of_the_kind'" in str(answer["reason"])


async def test_tests_that_hang_are_ended_in_time(tmp_path: Path):
    text = "import threading\n\ndef test():\n    threading.Event().wait()\n"
    answer = await pipeline(tmp_path, {"test_a.py": text}, timeout_seconds=3)
    assert (answer["outcome"], answer["passed"]) == ("timed_out", False)
    assert 3_000 <= int(str(answer["duration_ms"])) < 20_000


async def test_tests_that_crash_the_interpreter_have_failed(tmp_path: Path):
    answer = await pipeline(tmp_path, {"test_a.py": "import os\n\ndef test():\n    os.abort()\n"})
    assert (answer["outcome"], answer["passed"]) == ("failed", False)
    assert "signal 6" in str(answer["reason"])


async def test_a_project_that_does_not_build_is_told_with_what_the_tools_said(tmp_path: Path):
    build = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    files = {"pyproject.toml": f'{build}[project]\nname = "a"\n', "test_a.py": "def test(): pass\n"}
    answer = await pipeline(tmp_path, files)
    assert (answer["outcome"], answer["passed"]) == ("build_failed", False)
    assert "version" in str(answer["log_tail"])


async def test_a_python_nobody_has_is_not_downloaded(tmp_path: Path):
    files = {"pyproject.toml": '[project]\nname = "a"\nversion = "1"\nrequires-python = ">=3.99"\n', "a.py": ""}
    answer = await pipeline(tmp_path, files)
    assert answer["outcome"] == "build_failed"
    assert "'>=3.99'" in str(answer["reason"])


async def test_options_of_a_missing_plugin_are_left_out_and_noted(tmp_path: Path):
    files = {"pytest.ini": "[pytest]\naddopts = --no-such-plugin-option\n", "test_a.py": "def test():\n    assert 1\n"}
    answer = await pipeline(tmp_path, files)
    assert answer["outcome"] == "passed"
    assert "options were left out" in str(answer["notes"])


async def test_a_given_command_is_run_without_a_shell_and_still_counted(tmp_path: Path):
    files = {"test_a.py": "def test():\n    assert 1\n", "test_b.py": "def test():\n    assert 0\n"}
    answer = await pipeline(tmp_path, files, test_command="python -m pytest test_a.py")
    assert (answer["outcome"], answer["tests"]) == ("passed", 1)
    payload = {"repo": str(tmp_path / "source.git"), "head": "main"}
    shell = await piped(
        tmp_path, {**payload, "test_command": ["python", "-c", "import sys; sys.exit(len(sys.argv))", ";"]}
    )
    assert (shell["outcome"], shell["exit_code"], shell["tests"]) == ("failed", 2, None)
    missing = await piped(tmp_path, {**payload, "test_command": "no-such-program"})
    assert (missing["outcome"], missing["passed"]) == ("failed", False)


async def test_tests_see_no_secret_and_a_home_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    monkeypatch.setenv("UV_INDEX_PRIVATE_PASSWORD", "secret")
    text = """
import os
from pathlib import Path

def test_environment():
    assert "secret" not in os.environ.values()
    assert list(Path.home().iterdir()) == []
"""
    assert (await pipeline(tmp_path, {"test_a.py": text}))["outcome"] == "passed"


async def test_settings_above_the_workspace_do_not_reach_a_foreign_tree(tmp_path: Path):
    (tmp_path / "uv.toml").write_text('constraint-dependencies = ["pytest==0.0.1"]\n')
    assert (await pipeline(tmp_path, {"test_a.py": "def test():\n    assert 1\n"}))["outcome"] == "passed"


async def test_pipelines_at_once_do_not_meet(tmp_path: Path):
    git = GitRepository(tmp_path / "source.git")
    heads = [git.commit({"test_a.py": f"def test():\n    assert {value}\n"}, branch=None) for value in (1, 0)]
    workspace = workspace_below(tmp_path)
    answers = await asyncio.gather(
        *(
            run_pipeline({"repo": str(git.path), "head": head}, workspace=workspace, report=report_nothing)
            for head in heads
        )
    )
    assert [answer["outcome"] for answer in answers] == ["passed", "failed"]


async def test_a_build_is_validated_by_what_it_says_of_itself(tmp_path: Path):
    path = make_demo_repository(tmp_path / "demo")
    payload = {"repo": str(path), "head": demo_repository.HEAD}
    answer = await validate_build(payload, workspace=workspace_below(tmp_path), report=report_nothing)
    assert (answer["valid"], answer["problems"]) == (True, [])
    assert (answer["name"], answer["version"]) == ("greeting-service", "1.1.0")
    assert (answer["modules"], answer["scripts"]) == (["greeting_service"], ["greeting-service"])
    files = answer["files"]
    assert isinstance(files, list)
    assert len(files) == 2


async def test_a_tree_that_cannot_be_built_is_not_valid(tmp_path: Path):
    git = GitRepository(tmp_path / "source.git")
    git.commit({"README.md": "x"})
    payload = {"repo": str(git.path), "head": "main"}
    answer = await validate_build(payload, workspace=workspace_below(tmp_path), report=report_nothing)
    assert answer["valid"] is False
    assert "no build metadata" in str(answer["problems"])
