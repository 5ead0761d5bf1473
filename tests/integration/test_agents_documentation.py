"""Documentation of real repositories, in a directory, on a branch, in the answer; and READMEs brought up to date."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from diurna_agents import demo_repository
from diurna_agents.changes import contents
from diurna_agents.demo_repository import make_demo_repository
from diurna_agents.documentation import generate_docs, update_readme
from diurna_agents.errors import NothingToDocument, RefNotFound
from diurna_agents.repository import open_repository
from diurna_agents.workspace import report_nothing
from diurna_schemas.errors import InvalidInput, NotFound, Refused, TooLarge
from support.agents_repositories import GitRepository, workspace_below
from support.fake_model import scripted

MARKED = "# Mine \n\n<!-- diurna:begin commands -->\nold\n<!-- diurna:end commands -->\nkept  \n"


async def asked(work: Any, tmp_path: Path, payload: Mapping[str, object], **more: object) -> dict[str, Any]:
    answer: dict[str, Any] = await work(payload, workspace=workspace_below(tmp_path), report=report_nothing, **more)
    assert json.loads(json.dumps(answer)) == answer, "an answer is plain JSON"
    assert not list((tmp_path / "workspace/work").glob("*")), "nothing is left behind"
    return answer


async def file_at(repo: Path, commit: str, path: str, tmp_path: Path) -> str:
    repository = await open_repository(str(repo), workspace=workspace_below(tmp_path))
    data = await contents(repository, commit, path.encode())
    assert data is not None
    return data.decode()


async def test_three_kinds_of_documentation_are_written_from_one_repository(tmp_path: Path):
    repo = make_demo_repository(tmp_path / "demo")
    output = tmp_path / "site"
    payload: dict[str, Any] = {"repo": str(repo), "head": demo_repository.HEAD, "output": str(output)}
    api = await asked(generate_docs, tmp_path, {**payload, "kind": "api_reference"})
    assert {file["path"] for file in api["files"]} == {
        *("index.md", "greeting_service.md", "greeting_service.cli.md"),
        *("greeting_service.farewells.md", "greeting_service.greetings.md", "greeting_service.health.md"),
    }
    assert "greet(name: str, language: str = 'en')" in (output / "greeting_service.greetings.md").read_text()
    guide = await asked(generate_docs, tmp_path, {**payload, "kind": "user_guide"})
    text = (output / "user-guide.md").read_text()
    assert (guide["counts"]["commands"], guide["notes"]) == (1, [])
    assert text.startswith("# greeting-service: user guide\n")
    assert "usage: greeting-service" in text
    assert "- `greeting_service.cli`: The command line." in text
    deployment = await asked(generate_docs, tmp_path, {**payload, "kind": "deployment_guide"})
    assert "- command `greeting-service`" in (output / "deployment-guide.md").read_text()
    assert "there is no Dockerfile" in deployment["notes"]


async def test_pages_go_to_a_branch_or_into_the_answer_and_a_model_adds_an_overview(tmp_path: Path):
    git = GitRepository(tmp_path / "source.git")
    git.commit({"pkg/__init__.py": '"""Does it."""\n', "pkg/part.py": "def f(): pass\n", "docs/mine.md": "mine\n"})
    payload: dict[str, Any] = {"repo": str(git.path), "kind": "api_reference"}
    branched = await asked(generate_docs, tmp_path, {**payload, "branch": "api", "directory": "docs/api"})
    assert [file["path"] for file in branched["diff"]["by_file"]] == [
        "docs/api/index.md", "docs/api/pkg.md", "docs/api/pkg.part.md",
    ]  # fmt: skip
    assert await file_at(git.path, branched["commit"], "docs/mine.md", tmp_path) == "mine\n"
    model, chat = scripted(["Begin with pkg."])
    answered = await asked(generate_docs, tmp_path, payload, model=model)
    assert (answered["overview_by"], answered["branch"]) == ("scripted", None)
    assert answered["pages"]["index.md"].startswith("# API reference\n\nBegin with pkg.\n")
    assert "# `pkg.part`" in chat.last_heard


async def test_pages_that_are_no_longer_made_go_and_what_others_wrote_stays(tmp_path: Path):
    git = GitRepository(tmp_path / "source.git")
    git.commit({"pkg/__init__.py": "", "pkg/old.py": ""})
    output = tmp_path / "site"
    payload = {"repo": str(git.path), "kind": "api_reference", "output": str(output)}
    await asked(generate_docs, tmp_path, payload)
    (output / "hand-written.md").write_text("mine")
    (output / ".diurna-api_reference.json").write_text(json.dumps(["pkg.old.md", "../outside.md", "index.md"]))
    (tmp_path / "outside.md").write_text("mine")
    git.commit({"pkg/__init__.py": "", "pkg/new.py": ""})
    await asked(generate_docs, tmp_path, payload)
    assert sorted(path.name for path in output.glob("*.md")) == ["hand-written.md", "index.md", "pkg.md", "pkg.new.md"]
    assert (tmp_path / "outside.md").read_text() == "mine"


async def test_what_cannot_be_documented_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    git = GitRepository(tmp_path / "source.git")
    git.commit({"index.js": "let a\n", "logo.png": b"\0"})
    payload: dict[str, Any] = {"repo": str(git.path)}
    for kind, said in (
        ("api_reference", "no importable Python package"),
        ("user_guide", "there is no README"),
        ("deployment_guide", "a Dockerfile, a compose file"),
    ):
        with pytest.raises(NothingToDocument, match=said):
            await asked(generate_docs, tmp_path, {**payload, "kind": kind})
    build = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    git.commit(
        {"pyproject.toml": f'{build}[project]\nname = "a"\n', "README.rst": "Title\n=====\n", "a.py": '"""A."""'}
    )
    guide = await asked(generate_docs, tmp_path, {**payload, "kind": "user_guide"})
    assert any("does not build, so its commands were not asked" in note for note in guide["notes"])
    assert "README.rst is no Markdown and is shown as it is" in guide["notes"]
    for wrong, error, said in (
        ({"kind": "poem"}, InvalidInput, "kind"),
        ({"kind": "user_guide", "output": "relative"}, InvalidInput, "output"),
        ({"kind": "user_guide", "output": "/x", "branch": "y"}, InvalidInput, "give output or branch"),
        ({"kind": "api_reference", "packages": ["gone"]}, NotFound, "no package with id 'gone'"),
        ({"kind": "api_reference", "branch": "x", "directory": "../up"}, InvalidInput, "directory"),
        ({"kind": "user_guide", "head": "gone"}, RefNotFound, "head"),
    ):
        with pytest.raises(error, match=said):
            await asked(generate_docs, tmp_path, {**payload, **wrong})
    monkeypatch.setattr("diurna_agents.documentation.pages.ANSWER_CHARACTERS_MAX", 10)
    with pytest.raises(TooLarge, match="output"):
        await asked(generate_docs, tmp_path, {**payload, "kind": "api_reference"})


async def test_a_readme_is_brought_up_to_date_between_its_markers(tmp_path: Path):
    git = GitRepository(tmp_path / "source.git")
    git.commit({"README.md": MARKED, "a.py": '"""Does A."""\n'})
    payload: dict[str, Any] = {"repo": str(git.path), "sections": {"commands": "new"}}
    answer = await asked(update_readme, tmp_path, payload)
    assert (answer["outcome"], answer["sections"]) == ("updated", ["commands"])
    assert await file_at(git.path, answer["commit"], "README.md", tmp_path) == MARKED.replace("old", "new")
    assert (await asked(update_readme, tmp_path, payload))["commit"] == answer["commit"]
    same = await asked(update_readme, tmp_path, {**payload, "head": answer["branch"]})
    assert (same["outcome"], same["branch"]) == ("unchanged", None)
    made = await asked(
        update_readme, tmp_path, {"repo": str(git.path), "generate": {"parts": "modules"}, "append": True}
    )
    written = await file_at(git.path, made["commit"], "README.md", tmp_path)
    assert written.startswith(MARKED)
    assert "<!-- diurna:begin parts -->\n- `a`: Does A.\n<!-- diurna:end parts -->\n" in written


async def test_a_readme_that_cannot_be_updated_is_told_and_left(tmp_path: Path):
    git = GitRepository(tmp_path / "source.git")
    git.commit({"README.md": MARKED, "data.bin": b"\0"})
    payload: dict[str, Any] = {"repo": str(git.path), "sections": {"commands": "x"}}
    for wrong, error, said in (
        ({"file": "gone.md"}, InvalidInput, "file: there is no such file"),
        ({"file": "data.bin"}, InvalidInput, "file: it is a binary file"),
        ({"file": "../README.md"}, InvalidInput, "file: a path inside"),
        ({"sections": {"other": "x"}}, InvalidInput, "no such markers"),
        ({"sections": {}}, InvalidInput, "give sections"),
        ({"sections": {"a b": "x"}}, InvalidInput, "sections"),
        ({"generate": {"commands": "commands"}}, InvalidInput, "both given and to be generated"),
        ({"sections": {}, "generate": {"commands": "commands"}}, Refused, "generate.commands: no commands could be"),
    ):
        with pytest.raises(error, match=said):
            await asked(update_readme, tmp_path, {**payload, **wrong})
