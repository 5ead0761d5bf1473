"""The countable rules of the house: sizes, first sentences, one door a wire, no registry's host."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from jgo.constants import MAVEN_CENTRAL_URL

ROOT = Path(__file__).parents[2]
PACKAGES = tuple(
    ROOT / folder
    for folder in (
        "schemas/diurna_schemas",
        "projections/diurna_projections",
        "streams/diurna_streams",
        "agents/diurna",
        "agents/diurna_agents",
        "workflows/diurna_workflows",
        "deploy/diurna_deploy",
    )
)
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
TEXT_SUFFIXES = {".py", ".md", ".toml", ".sql", ".avsc", ".lock", ".yaml", ".yml", ".json", ".sh", ".txt", ".cfg", ""}

DOORS = {
    "aiokafka": ("diurna_streams/log/",),
    "kafka": (),
    "confluent_kafka": ("diurna_streams/log/",),
    "faust": ("diurna_streams/project/",),
    "mode": ("diurna_streams/project/",),
    "asyncpg": ("diurna_projections/store/", "diurna_deploy/bench/"),
    "psycopg": (),
    "langgraph": ("diurna_workflows/",),
    "langchain": ("diurna_agents/language_model.py",),
    "langchain_core": ("diurna_agents/language_model.py", "diurna_workflows/"),
    "agents": ("diurna/neighbours/openai_agent.py",),
    "dulwich": ("diurna_agents/",),
    "griffe": ("diurna_agents/api_pages.py",),
    "ruamel": ("diurna_agents/structured_files.py",),
    "tomlkit": ("diurna_agents/structured_files.py",),
    "typer": ("diurna_deploy/cli/",),
}
"""Who may import what: each wire has one door. The benches may speak to a wire directly: they measure against it."""
MEASURING = "diurna_deploy/bench/"

ENVIRONMENT_READERS = (
    "diurna/settings.py",
    "diurna_deploy/settings.py",
)
"""Where a setting may be read from the environment."""
ENVIRONMENT_PASSERS = (
    "diurna_agents/child_environment.py",
    "diurna_deploy/environment.py",
    "diurna_deploy/stack/environment.py",
)
"""Who may look at the environment to pass an allow-list of it on to a child process."""


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in package.rglob("*.py"))


def name_of(path: Path) -> str:
    """`diurna_streams/log/port.py`: from the package on."""
    return path.relative_to(ROOT).as_posix().partition("/")[2]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports_of(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name.partition(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.partition(".")[0]
            case _:
                pass


def reads_environment(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and node.attr in {"environ", "getenv", "environb"}
        for node in ast.walk(tree)
    )


Function = ast.FunctionDef | ast.AsyncFunctionDef


def own_lines(function: Function) -> int:
    """A function's lines without those of the functions defined in it, which are counted by themselves."""
    inner = [child for child in ast.walk(function) if isinstance(child, Function) and child is not function]
    outermost = [child for child in inner if not any(child in ast.walk(other) for other in inner if other is not child)]
    return lines_of(function) - sum(map(lines_of, outermost))


def lines_of(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def overlong_functions(tree: ast.Module, lines_max: int = FUNCTION_LINES_MAX) -> list[str]:
    return [
        f"{node.name} ({own_lines(node)} lines)"
        for node in ast.walk(tree)
        if isinstance(node, Function) and own_lines(node) > lines_max
    ]


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_a_file_opens_with_one_sentence_saying_what_it_is_for(path: Path) -> None:
    docstring = ast.get_docstring(tree_of(path))
    assert docstring, f"{name_of(path)} has no docstring"
    assert docstring.split("\n\n")[0].rstrip().endswith((".", ".)", "?", ":")), f"{name_of(path)}: {docstring[:80]!r}"


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_files_and_functions_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FILE_LINES_MAX
    assert overlong_functions(tree_of(path)) == []


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_each_wire_has_one_door(path: Path) -> None:
    name = name_of(path)
    strangers = [
        wire for wire in imports_of(tree_of(path)) if wire in DOORS and not name.startswith((*DOORS[wire], MEASURING))
    ]
    assert strangers == []


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_the_environment_is_read_in_the_settings_alone(path: Path) -> None:
    if not name_of(path).startswith((*ENVIRONMENT_READERS, *ENVIRONMENT_PASSERS)):
        assert not reads_environment(tree_of(path))


def test_no_top_level_folder_is_a_package() -> None:
    assert [str(folder.parent) for folder in PACKAGES if (folder.parent / "__init__.py").exists()] == []


def registry_hosts() -> list[str]:
    """The hosts, put together here so that not even this file spells one."""
    spelled = ("pypi org", "pythonhosted org", "npmjs org", "npmjs com", "crates io", "proxy golang org", "maven org")
    return [*(".".join(words.split()) for words in spelled), str(urlsplit(MAVEN_CENTRAL_URL).hostname)]


def hosts_named_in(text: str) -> list[str]:
    return [host for host in registry_hosts() if host in text]


def test_no_file_names_the_host_of_a_package_registry() -> None:
    folders = ("schemas", "projections", "streams", "agents", "workflows", "deploy", "tests", "docs", ".ci")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file() and path.name != "uv.lock"]
    named = {
        str(path.relative_to(ROOT)): hosts
        for path in files
        if path.suffix in TEXT_SUFFIXES and "__pycache__" not in path.parts
        if (hosts := hosts_named_in(path.read_text(encoding="utf-8", errors="replace")))
    }
    assert named == {}


def test_the_checks_themselves_notice_a_broken_house() -> None:
    broken = ast.parse("import aiokafka\nimport os\nx = os.environ['A']\ndef long():\n" + "    pass\n" * 61)
    assert "aiokafka" in imports_of(broken)
    assert reads_environment(broken)
    assert overlong_functions(broken) == ["long (62 lines)"]
    assert hosts_named_in("https://" + ".".join(("files", "pythonhosted", "org")) + "/x") != []
