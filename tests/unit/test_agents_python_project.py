"""What trees say about themselves as Python projects."""

from __future__ import annotations

from pathlib import Path

import pytest

from diurna_agents.python_project import PythonProject, read_project
from diurna_agents.ruff_tool import target_version


def project(root: Path, **files: str) -> PythonProject:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_project(root)


BUILD = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'


def test_groups_named_for_tests_are_preferred_to_those_for_development(tmp_path: Path):
    found = project(
        tmp_path,
        pyproject_dot_toml=BUILD
        + '[project]\nname = "a"\nversion = "1"\nrequires-python = ">=3.11"\n'
        + '[dependency-groups]\ndev = ["x"]\ntests = ["pytest"]\n'
        + '[project.optional-dependencies]\ntest = ["y"]\ndocs = ["z"]\n',
    )
    assert (found.groups, found.extras) == (("tests",), ("test",))
    assert (found.name, found.requires_python, found.backend) == ("a", ">=3.11", "hatchling.build")
    assert found.buildable
    assert found.is_python


def test_development_dependencies_do_where_there_are_none_for_tests(tmp_path: Path):
    found = project(tmp_path, pyproject_dot_toml=BUILD + '[project]\nname="a"\n[dependency-groups]\ndev = ["pytest"]\n')
    assert found.groups == ("dev",)


def test_poetry_is_understood(tmp_path: Path):
    found = project(
        tmp_path,
        pyproject_dot_toml='[build-system]\nrequires=["poetry-core"]\nbuild-backend="poetry.core.masonry.api"\n'
        '[tool.poetry]\nname = "old"\nversion = "1"\n[tool.poetry.dependencies]\npython = "^3.9"\n'
        '[tool.poetry.group.test.dependencies]\npytest = "^8.1"\nhttpx = {version = "*", extras = ["http2"]}\n',
    )
    assert found.name == "old"
    assert found.requires_python == ">=3.9"
    assert found.requirements == ("pytest>=8.1", "httpx[http2]")


def test_hatch_and_pdm_tables_are_understood(tmp_path: Path):
    hatch = project(
        tmp_path / "h", pyproject_dot_toml=BUILD + '[tool.hatch.envs.default]\ndependencies = ["pytest-cov"]\n'
    )
    assert hatch.requirements == ("pytest-cov",)
    pdm = project(tmp_path / "p", pyproject_dot_toml=BUILD + '[tool.pdm.dev-dependencies]\ntest = ["pytest", "-e ."]\n')
    assert pdm.requirements == ("pytest",)


def test_setup_cfg_alone_is_a_project(tmp_path: Path):
    found = project(
        tmp_path,
        setup_dot_cfg="[metadata]\nname = classic\n[options]\npython_requires = >=3.8\n"
        "[options.extras_require]\ntesting =\n    pytest\n",
    )
    assert (found.name, found.requires_python, found.extras) == ("classic", ">=3.8", ("testing",))
    assert found.buildable


def test_a_setup_script_is_not_run_and_its_likely_extras_are_tried(tmp_path: Path):
    found = project(tmp_path, setup_dot_py="raise SystemExit('never run me')")
    assert found.buildable
    assert found.extras == ("test", "tests", "testing")


def test_requirement_files_are_found(tmp_path: Path):
    (tmp_path / "requirements-dev.txt").write_text("pytest\n")
    (tmp_path / "requirements.txt").write_text("httpx\n")
    found = project(tmp_path, app_dot_py="x = 1\n")
    assert found.files == ("requirements.txt", "requirements-dev.txt")
    assert not found.buildable
    assert found.is_python


def test_tox_is_the_last_resort_and_its_own_language_is_left_alone(tmp_path: Path):
    found = project(
        tmp_path,
        setup_dot_cfg="[metadata]\nname = a\n",
        tox_dot_ini="[testenv]\ndeps =\n  pytest>7\n  py38: old\n  -r x.txt\n",
    )
    assert found.requirements == ("pytest>7",)


@pytest.mark.parametrize("text", ["not toml [", "project = 3\n", "[project]\nname = 3\ndynamic = 'x'\n", ""])
def test_a_strange_pyproject_breaks_nothing(tmp_path: Path, text: str):
    found = project(tmp_path, pyproject_dot_toml=text)
    assert found.name is None
    assert not found.buildable


def test_a_tree_without_python_is_not_python(tmp_path: Path):
    assert not project(tmp_path, package_dot_json="{}", index_dot_js="x").is_python


def test_a_version_from_git_is_noticed(tmp_path: Path):
    text = '[build-system]\nrequires=["hatch-vcs"]\nbuild-backend="hatchling.build"\n[project]\nname="a"\n'
    assert project(tmp_path / "a", pyproject_dot_toml=text + 'dynamic=["version"]\n').version_from_git
    assert not project(tmp_path / "b", pyproject_dot_toml=text + 'version="1"\n').version_from_git


@pytest.mark.parametrize(
    ("required", "target"),
    [
        (">=3.11", "py311"),
        (">=3.9,<4", "py39"),
        (">= 3.12", "py312"),
        ("<4", "py314"),
        (">=3.2", "py37"),
        (">=3.99", "py314"),
    ],
)
def test_the_oldest_python_stated_is_the_one_to_be_read_with(tmp_path: Path, required: str, target: str):
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "a"\nrequires-python = "{required}"\n')
    assert target_version(tmp_path) == target
