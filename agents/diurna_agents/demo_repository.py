"""Makes a small real git repository, so that a demonstration has something true to review, test and deploy.

`main` holds a package `greeting-service`; the branch `feature/farewell` adds to it, with tests. The
variants change the branch so that one stage of the pipeline has a reason to say no.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, Literal

from dulwich.objects import Blob, Commit, ObjectID, Tag, Tree
from dulwich.refs import HEADREF, Ref
from dulwich.repo import Repo

from diurna_schemas.errors import InvalidInput

Variant = Literal["good", "failing_tests", "bad_review", "broken_health"]

BASE: Final = "main"
HEAD: Final = "feature/farewell"
_AUTHOR: Final = b"Demo Author <demo@example.com>"
_SPACING_SECONDS: Final = 3_600

_PYPROJECT: Final = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "greeting-service"
version = "{version}"
description = "Greets people by name, in more than one language."
readme = "README.md"
requires-python = ">=3.11"

[project.scripts]
greeting-service = "greeting_service.cli:main"

[dependency-groups]
test = ["pytest>=8"]

[tool.pytest.ini_options]
testpaths = ["tests"]
"""

_README: Final = """\
# greeting-service

    greeting-service Ada --language la

Greets a person by name. `python -m greeting_service.health` says whether it is able to.
"""

_INIT: Final = '''\
"""Greets people by name, in more than one language."""

from greeting_service.greetings import UnknownLanguageError, greet

__all__ = ["UnknownLanguageError", "greet"]
__version__ = "{version}"
'''

_INIT_WITH_FAREWELL: Final = '''\
"""Greets people by name, in more than one language, and says goodbye."""

from greeting_service.farewells import say_goodbye
from greeting_service.greetings import UnknownLanguageError, greet

__all__ = ["UnknownLanguageError", "greet", "say_goodbye"]
__version__ = "{version}"
'''

_GREETINGS: Final = '''\
"""What is said to somebody who comes."""

WORDS = {"en": "Hello", "la": "Salve", "nl": "Hallo", "it": "Ciao"}


class UnknownLanguageError(ValueError):
    """There is no greeting in this language."""


def greet(name: str, language: str = "en") -> str:
    """The greeting for `name`. Raises `UnknownLanguageError` where the language is not spoken here."""
    if not name.strip():
        raise ValueError("a name is needed")
    if language not in WORDS:
        raise UnknownLanguageError(f"no greeting in {language!r}, only in {', '.join(sorted(WORDS))}")
    return f"{WORDS[language]}, {name.strip()}!"
'''

_CLI: Final = '''\
"""The command line."""

import argparse
from collections.abc import Sequence

from greeting_service import __version__, greet


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a greeting."""
    parser = argparse.ArgumentParser(prog="greeting-service", description="Greets a person by name.")
    parser.add_argument("name")
    parser.add_argument("--language", default="en")
    parser.add_argument("--version", action="version", version=__version__)
    chosen = parser.parse_args(arguments)
    print(greet(chosen.name, chosen.language))
    return 0
'''

_CLI_WITH_FAREWELL: Final = '''\
"""The command line."""

import argparse
from collections.abc import Sequence

from greeting_service import __version__, greet, say_goodbye


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a greeting, or a farewell."""
    parser = argparse.ArgumentParser(prog="greeting-service", description="Greets a person by name.")
    parser.add_argument("name")
    parser.add_argument("--language", default="en")
    parser.add_argument("--farewell", action="store_true", help="say goodbye instead")
    parser.add_argument("--version", action="version", version=__version__)
    chosen = parser.parse_args(arguments)
    speak = say_goodbye if chosen.farewell else greet
    print(speak(chosen.name, chosen.language))
    return 0
'''

_HEALTH: Final = '''\
"""Says whether the service is able to do its work: exit 0 where it is."""

from greeting_service.greetings import WORDS, greet


def check() -> list[str]:
    """What is wrong; nothing, most days."""
    return [language for language in WORDS if "Ada" not in greet("Ada", language)]


if __name__ == "__main__":
    silent = check()
    print("healthy" if not silent else f"no greeting in {', '.join(silent)}")
    raise SystemExit(1 if silent else 0)
'''

_FAREWELLS: Final = '''\
"""What is said to somebody who goes."""

from greeting_service.greetings import UnknownLanguageError

WORDS = {"en": "Goodbye", "la": "Vale", "nl": "Tot ziens", "it": "Arrivederci"}


def say_goodbye(name: str, language: str = "en") -> str:
    """The farewell for `name`. Raises `UnknownLanguageError` where the language is not spoken here."""
    if not name.strip():
        raise ValueError("a name is needed")
    if language not in WORDS:
        raise UnknownLanguageError(f"no farewell in {language!r}, only in {', '.join(sorted(WORDS))}")
    return f"{WORDS[language]}, {name.strip()}!"
'''

_TESTS: Final = """\
import pytest

from greeting_service import UnknownLanguageError, greet
from greeting_service.cli import main
from greeting_service.health import check


def test_a_person_is_greeted_by_name():
    assert greet("Ada") == "Hello, Ada!"


@pytest.mark.parametrize(("language", "greeting"), [("la", "Salve, Ada!"), ("it", "Ciao, Ada!")])
def test_other_languages_are_spoken(language, greeting):
    assert greet(" Ada ", language) == greeting


def test_an_unknown_language_is_refused():
    with pytest.raises(UnknownLanguageError, match="tlh"):
        greet("Ada", "tlh")


def test_nobody_cannot_be_greeted():
    with pytest.raises(ValueError, match="name"):
        greet(" ")


def test_the_command_line_greets(capsys):
    assert main(["Ada", "--language", "la"]) == 0
    assert capsys.readouterr().out == "Salve, Ada!\\n"


def test_the_service_is_healthy():
    assert check() == []
"""

_FAREWELL_TESTS: Final = """\
import pytest

from greeting_service import UnknownLanguageError, say_goodbye
from greeting_service.cli import main


@pytest.mark.parametrize(("language", "farewell"), [("en", "Goodbye, Ada!"), ("la", "Vale, Ada!")])
def test_a_person_who_goes_is_told_goodbye(language, farewell):
    assert say_goodbye("Ada", language) == farewell


def test_an_unknown_language_has_no_farewell():
    with pytest.raises(UnknownLanguageError, match="tlh"):
        say_goodbye("Ada", "tlh")


def test_the_command_line_says_goodbye(capsys):
    assert main(["Ada", "--farewell"]) == 0
    assert capsys.readouterr().out == "Goodbye, Ada!\\n"
"""

_CARELESS: Final = '''

def announce(command: str) -> int:
    """Runs the command that announces a farewell."""
    import subprocess

    return subprocess.call(command + undefined_suffix, shell=True)
'''

_FAREWELL_WORDS: Final = '{"en": "Goodbye", "la": "Vale", "nl": "Tot ziens", "it": "Arrivederci"}\n'
_WORDS_FROM_A_FILE: Final = """\
# Found where the sources lie; nobody thought of putting it into the wheel.
WORDS: dict[str, str] = json.loads((Path(__file__).parents[2] / "farewells.json").read_text("utf-8"))
"""


def make_demo_repository(directory: Path, *, variant: Variant = "good") -> Path:
    """Makes the repository in `directory`, which must not exist or be empty; gives it back.

    `good` passes every stage. `bad_review` uses an undefined name and a shell; `failing_tests` breaks a
    greeting; `broken_health` passes its tests and does not start where it is installed.
    """
    if variant not in {"good", "failing_tests", "bad_review", "broken_health"}:
        raise InvalidInput("variant", variant, "good, failing_tests, bad_review or broken_health is needed")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InvalidInput("directory", str(directory), "it must not exist, or be empty")
    directory.mkdir(parents=True, exist_ok=True)
    moment = int(time.time()) - 2 * _SPACING_SECONDS
    with Repo.init(str(directory), default_branch=BASE.encode()) as repo:
        first = _commit(repo, _main_files(), "Greet people by name", None, moment)
        _tag(repo, first, "v1.0.0", moment)
        _branch(repo, BASE, first)
        head = _commit(repo, _feature_files(variant), "Say goodbye to people who go", first, moment + _SPACING_SECONDS)
        _branch(repo, HEAD, head)
        repo.refs.set_symbolic_ref(HEADREF, Ref(b"refs/heads/" + BASE.encode()))
        repo.get_worktree().reset_index(_tree_of(repo, first))
    return directory


def _main_files() -> dict[str, str]:
    return {
        ".gitignore": "__pycache__/\n*.egg-info/\ndist/\n.venv/\n",
        "README.md": _README,
        "pyproject.toml": _PYPROJECT.format(version="1.0.0"),
        "src/greeting_service/__init__.py": _INIT.format(version="1.0.0"),
        "src/greeting_service/cli.py": _CLI,
        "src/greeting_service/greetings.py": _GREETINGS,
        "src/greeting_service/health.py": _HEALTH,
        "tests/test_greetings.py": _TESTS,
    }


def _feature_files(variant: Variant) -> dict[str, str]:
    files = _main_files() | {
        "pyproject.toml": _PYPROJECT.format(version="1.1.0"),
        "src/greeting_service/__init__.py": _INIT_WITH_FAREWELL.format(version="1.1.0"),
        "src/greeting_service/cli.py": _CLI_WITH_FAREWELL,
        "src/greeting_service/farewells.py": _FAREWELLS,
        "tests/test_farewells.py": _FAREWELL_TESTS,
    }
    match variant:
        case "good":
            pass
        case "failing_tests":
            files["src/greeting_service/greetings.py"] = _GREETINGS.replace('"la": "Salve"', '"la": "Vale"')
        case "bad_review":
            files["src/greeting_service/farewells.py"] = _FAREWELLS + _CARELESS
        case "broken_health":
            files["farewells.json"] = _FAREWELL_WORDS
            _, _, functions = _FAREWELLS.partition("}\n")
            imports = (
                "import json\nfrom pathlib import Path\n\nfrom greeting_service.greetings import UnknownLanguageError\n"
            )
            heading = '"""What is said to somebody who goes."""\n'
            files["src/greeting_service/farewells.py"] = f"{heading}\n{imports}\n{_WORDS_FROM_A_FILE}{functions}"
    return files


def _commit(repo: Repo, files: dict[str, str], message: str, parent: ObjectID | None, moment: int) -> ObjectID:
    commit = Commit()
    commit.tree = _tree(repo, {tuple(path.split("/")): text for path, text in files.items()})
    commit.parents = [parent] if parent else []
    commit.author = commit.committer = _AUTHOR
    commit.author_time = commit.commit_time = moment
    commit.author_timezone = commit.commit_timezone = 0
    commit.encoding = b"UTF-8"
    commit.message = message.encode() + b"\n"
    repo.object_store.add_object(commit)
    return commit.id


def _tree(repo: Repo, files: dict[tuple[str, ...], str]) -> ObjectID:
    tree = Tree()
    folders: dict[str, dict[tuple[str, ...], str]] = {}
    for path, text in files.items():
        if len(path) == 1:
            blob = Blob.from_string(text.encode())
            repo.object_store.add_object(blob)
            tree.add(path[0].encode(), 0o100644, blob.id)
        else:
            folders.setdefault(path[0], {})[path[1:]] = text
    for name, inside in folders.items():
        tree.add(name.encode(), 0o040000, _tree(repo, inside))
    repo.object_store.add_object(tree)
    return tree.id


def _branch(repo: Repo, name: str, commit: ObjectID) -> None:
    repo.refs[Ref(b"refs/heads/" + name.encode())] = commit


def _tag(repo: Repo, commit: ObjectID, name: str, moment: int) -> None:
    tag = Tag()
    tag.name = name.encode()
    tag.object = (Commit, commit)
    tag.tagger, tag.tag_time, tag.tag_timezone = _AUTHOR, moment, 0
    tag.message = b"The first release\n"
    repo.object_store.add_object(tag)
    repo.refs[Ref(b"refs/tags/" + name.encode())] = tag.id


def _tree_of(repo: Repo, commit: ObjectID) -> ObjectID:
    found = repo[commit]
    assert isinstance(found, Commit)
    return ObjectID(found.tree)
