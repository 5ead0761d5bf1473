"""What a tree says about itself as a Python project: how it is built, what it needs, how it is tested."""

from __future__ import annotations

import configparser
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement

from diurna_agents.toml_tables import Table, read_toml, table, text, texts

TEST_NAMES: Final = ("test", "tests", "testing")
DEVELOPMENT_NAMES: Final = ("dev", "develop", "development")
_TEST_REQUIREMENTS: Final = (
    *("requirements-test.txt", "requirements-tests.txt", "requirements_test.txt", "requirements-testing.txt"),
    *("test-requirements.txt", "test_requirements.txt", "requirements/test.txt", "requirements/tests.txt"),
    *("requirements/testing.txt", "tests/requirements.txt", "test/requirements.txt"),
)
_DEVELOPMENT_REQUIREMENTS: Final = (
    *("requirements-dev.txt", "requirements_dev.txt", "dev-requirements.txt", "requirements/dev.txt"),
)
_POETRY_VERSION: Final = re.compile(r"^[\^~]\s*(\d+(?:\.\d+)*)")


@dataclass(frozen=True, slots=True)
class PythonProject:
    """The facts of one tree. `requirements` are requirement lines, `files` paths of requirement files."""

    root: Path
    name: str | None
    requires_python: str | None
    backend: str | None
    buildable: bool
    has_project_table: bool
    has_lock: bool
    groups: tuple[str, ...]
    extras: tuple[str, ...]
    requirements: tuple[str, ...]
    files: tuple[str, ...]
    has_python_files: bool
    version_from_git: bool

    @property
    def is_python(self) -> bool:
        """Whether there is anything of Python in the tree."""
        return self.buildable or self.has_project_table or self.has_python_files


def read_project(root: Path) -> PythonProject:
    """Reads the facts from the files of the tree. Nothing of it is run."""
    document = read_toml(root / "pyproject.toml")
    setup = _setup_cfg(root / "setup.cfg")
    project = table(document, "project")
    poetry = table(document, "tool", "poetry")
    groups, extras = _groups(document), _extras(document, setup)
    requirements = [] if groups or extras else _tool_requirements(document, root / "tox.ini")
    files = [] if groups or extras else _requirement_files(root)
    has_setup_script = (root / "setup.py").is_file()
    buildable = "build-system" in document or has_setup_script or setup.has_option("metadata", "name")
    if not buildable and (root / "requirements.txt").is_file() and not project:
        files = ["requirements.txt", *files]
    if has_setup_script and not project and not extras and not setup.has_section("options.extras_require"):
        # What a script declares cannot be known without running it; unknown extras are only warned of.
        extras = list(TEST_NAMES)
    return PythonProject(
        root=root,
        name=text(project.get("name")) or text(poetry.get("name")) or setup.get("metadata", "name", fallback=None),
        requires_python=_requires_python(project, poetry, setup),
        backend=text(table(document, "build-system").get("build-backend")) or ("setuptools" if buildable else None),
        buildable=buildable,
        has_project_table=bool(project),
        has_lock=(root / "uv.lock").is_file() and bool(project),
        groups=tuple(groups),
        extras=tuple(extras),
        requirements=tuple(requirements),
        files=tuple(files),
        has_python_files=_has_python_files(root),
        version_from_git=_version_from_git(document, project, root),
    )


def _groups(document: Table) -> list[str]:
    present = list(table(document, "dependency-groups"))
    return _for_tests(present)


def _extras(document: Table, setup: configparser.ConfigParser) -> list[str]:
    present = [
        *table(document, "project", "optional-dependencies"),
        *table(document, "tool", "poetry", "extras"),
        *(setup.options("options.extras_require") if setup.has_section("options.extras_require") else []),
    ]
    return _for_tests(present)


def _for_tests(present: list[str]) -> list[str]:
    """Those named for tests; where there are none, those named for development."""
    for names in (TEST_NAMES, DEVELOPMENT_NAMES):
        found = [name for name in present if name.lower() in names]
        if found:
            return found
    return []


def _tool_requirements(document: Table, tox: Path) -> list[str]:
    """What other tools' tables say tests need: Poetry, PDM, Hatch, and at last tox."""
    tool = table(document, "tool")
    for names in (TEST_NAMES, DEVELOPMENT_NAMES):
        found = [line for name in names for line in _poetry_group(table(tool, "poetry"), name)]
        for name in names:
            found += _valid(texts(table(tool, "pdm", "dev-dependencies").get(name)))
            hatch = table(tool, "hatch", "envs", "hatch-test" if name == "test" else name)
            found += _valid([*texts(hatch.get("dependencies")), *texts(hatch.get("extra-dependencies"))])
        if found:
            return found
    default = table(tool, "hatch", "envs", "default")
    return _valid(texts(default.get("dependencies"))) or _tox_requirements(document, tox)


def _poetry_group(poetry: Table, name: str) -> list[str]:
    group = table(poetry, "group", name, "dependencies")
    if name == "dev":
        group = {**table(poetry, "dev-dependencies"), **group}
    return [_from_poetry(package, wanted) for package, wanted in group.items() if package != "python"]


def _from_poetry(package: str, wanted: object) -> str:
    extras = ",".join(texts(table(wanted).get("extras")))
    version = text(wanted) or text(table(wanted).get("version")) or "*"
    lowest = _POETRY_VERSION.match(version)
    bound = f">={lowest[1]}" if lowest else version if version[:1] in "<>=!~" else ""
    line = f"{package}[{extras}]{bound}" if extras else f"{package}{bound}"
    return line if _valid([line]) else package


def _tox_requirements(document: Table, path: Path) -> list[str]:
    ini = _ini(path)
    legacy = text(table(document, "tool", "tox").get("legacy_tox_ini"))
    if legacy and not path.is_file():
        ini = _parser()
        try:
            ini.read_string(legacy)
        except (configparser.Error, ValueError):
            return []
    lines = ini.get("testenv", "deps", fallback="").splitlines()
    native = table(document, "tool", "tox", "env_run_base").get("deps")
    # Lines with factors or substitutions mean something only to tox.
    return _valid([line.partition("#")[0].strip() for line in [*lines, *texts(native)]])


def _valid(lines: list[str]) -> list[str]:
    kept: list[str] = []
    for line in lines:
        try:
            Requirement(line)
        except InvalidRequirement:
            continue
        kept.append(line)
    return kept


def _requirement_files(root: Path) -> list[str]:
    for names in (_TEST_REQUIREMENTS, _DEVELOPMENT_REQUIREMENTS):
        found = [name for name in names if (root / name).is_file()]
        if found:
            return found
    return []


def _requires_python(project: Table, poetry: Table, setup: configparser.ConfigParser) -> str | None:
    stated = text(project.get("requires-python"))
    if stated is not None:
        return stated
    wanted = text(table(poetry, "dependencies").get("python"))
    if wanted is not None:
        lowest = _POETRY_VERSION.match(wanted)
        return f">={lowest[1]}" if lowest else wanted
    return setup.get("options", "python_requires", fallback=None)


def _version_from_git(document: Table, project: Table, root: Path) -> bool:
    if "version" not in texts(project.get("dynamic")) and project:
        return False
    needed = " ".join(texts(table(document, "build-system").get("requires")))
    words = (needed + _read(root / "setup.py") + _read(root / "setup.cfg")).replace("-", "_")
    hints = ("setuptools_scm", "hatch_vcs", "versioningit", "setuptools_git", "pbr", "versioneer", "dunamai")
    pdm = text(table(document, "tool", "pdm", "version").get("source"))
    return pdm == "scm" or "poetry_dynamic_versioning" in words or any(hint in words for hint in hints)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")[:200_000]
    except OSError:
        return ""


def _parser() -> configparser.ConfigParser:
    return configparser.ConfigParser(interpolation=None, strict=False)


def _ini(path: Path) -> configparser.ConfigParser:
    parser = _parser()
    try:
        parser.read(path, "utf-8")
    except (configparser.Error, ValueError):
        return _parser()
    return parser


def _setup_cfg(path: Path) -> configparser.ConfigParser:
    return _ini(path)


def _has_python_files(root: Path) -> bool:
    return any(not path.is_symlink() for pattern in ("*.py", "*/*.py", "*/*/*.py") for path in root.glob(pattern))
