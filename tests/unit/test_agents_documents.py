"""Marked sections, Dockerfiles, compose files and pipelines, API pages: what is read, and what is left as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diurna_agents import api_pages
from diurna_agents.documentation.api_reference import packages_of
from diurna_agents.documentation.deployment_facts import read_compose, read_dockerfile, read_pipeline
from diurna_agents.documentation.marked_sections import marked, replaced
from diurna_schemas.errors import InvalidInput


def section(name: str, text: str, newline: str = "\n") -> str:
    return f"<!-- diurna:begin {name} -->{newline}{text}{newline}<!-- diurna:end {name} -->"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_section_is_replaced_and_every_other_byte_stays(newline: str):
    before = newline.join(["# T\t", "", section("a", "old", newline), "between  ", section("b", "", newline), "no end"])
    after = replaced(before.encode(), {"a": "new\nlines"}, append=False).decode()
    assert after == before.replace("old", f"new{newline}lines")
    assert replaced(after.encode(), {"a": "new\nlines"}, append=False).decode() == after


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.text("xy <>-!\n\t#", max_size=30)), max_size=3, unique_by=lambda s: s[0]
    ),
    st.text("xy <>-!\n\té", max_size=30),
    st.text("z\n", max_size=10),
)
def test_whatever_stands_around_sections_stays(sections: list[tuple[str, str]], around: str, new: str):
    text = f"{around}\n" + "\n".join(f"{section(name, old)}\n{around}" for name, old in sections)
    raw = text.encode()
    places = marked(raw)
    assert list(places) == [name for name, _ in sections]
    after = replaced(raw, dict.fromkeys(places, new), append=False)

    def outside(data: bytes) -> bytes:
        for start, stop in sorted(marked(data).values(), reverse=True):
            data = data[:start] + data[stop:]
        return data

    assert outside(after) == outside(raw)


def test_a_missing_section_is_refused_or_added_at_the_end():
    with pytest.raises(InvalidInput, match=r"sections\.usage: the file has no such markers \(it has a\)"):
        replaced(section("a", "x").encode(), {"usage": "y"}, append=False)
    assert replaced(b"# T", {"usage": "y"}, append=True).decode() == f"# T\n\n{section('usage', 'y')}\n"
    assert replaced(b"", {"usage": "y"}, append=True).decode() == f"{section('usage', 'y')}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<!-- diurna:begin a -->\n", "line 1.*|section a begins and does not end"),
        ("\n<!-- diurna:end a -->\n", "section a ends and did not begin"),
        ("<!-- diurna:begin a -->\n<!-- diurna:begin b -->\n", "section b begins inside of section a"),
        (section("a", "") + "\n" + section("a", ""), "section a is there twice"),
    ],
)
def test_markers_that_do_not_pair_are_named_with_their_line(text: str, said: str):
    with pytest.raises(InvalidInput, match=said) as refused:
        replaced(text.encode(), {"a": "x"}, append=False)
    assert "got 'line" in str(refused.value)


def test_a_section_may_not_hold_markers():
    with pytest.raises(InvalidInput, match="may not hold markers"):
        replaced(section("a", "").encode(), {"a": section("b", "")}, append=False)


def test_a_dockerfile_is_read_by_its_instructions():
    image = read_dockerfile(
        "Dockerfile",
        "# build\nFROM python:3.12 AS build\nRUN pip install . \\\n  && rm -r x\nFROM slim\n"
        'ENV A=1 B="two words" \\\n  C=3\nENV OLD value\nARG VERSION\nexpose 8009 9090/tcp\nUSER app\n'
        'HEALTHCHECK CMD curl localhost\nENTRYPOINT ["diurna", "up"]\nVOLUME /data\n',
    )
    assert (image.stages, image.ports) == (["python:3.12 AS build", "slim"], ["8009", "9090/tcp"])
    assert (image.variables, image.volumes) == (["A", "B", "C", "OLD", "VERSION"], ["/data"])
    assert [word for word, _ in image.instructions] == ["USER", "HEALTHCHECK", "ENTRYPOINT"]


def test_a_compose_file_tells_names_of_its_environment_and_never_values():
    services, outside = read_compose(
        "compose.yaml",
        b"services:\n  web:\n    build: {context: .}\n    ports: ['80:8080', {published: 1, target: 2}]\n"
        b"    environment: {TOKEN: hunter2, MODE: '${MODE:-dev}'}\n    depends_on: {db: {condition: healthy}}\n"
        b"    healthcheck: {test: [CMD, x]}\n  db:\n    image: postgres\n    environment: ['POSTGRES_PASSWORD=$PW']\n",
    )
    web, db = services
    assert (web.image, web.ports, web.needs) == ("built from .", ["80:8080", "1:2"], ["db"])
    assert (web.variables, db.variables) == (["TOKEN", "MODE"], ["POSTGRES_PASSWORD"])
    assert (web.has_health_check, db.has_health_check) == (True, False)
    assert outside == ["MODE (else `dev`)", "PW"]
    assert "hunter2" not in str(services)
    with pytest.raises(InvalidInput, match="it is no YAML"):
        read_compose("compose.yaml", b"services: [")


def test_pipelines_of_both_forms_are_read():
    hub = read_pipeline(
        ".github/workflows/ci.yml",
        b"on: [push, pull_request]\njobs:\n  test:\n    steps:\n      - uses: actions/checkout@v4\n"
        b"      - run: |\n          uv sync\n          uv run pytest\n",
    )
    assert hub.triggers == ["push", "pull_request"]
    assert hub.jobs == {"test": ["uses actions/checkout@v4", "uv sync", "uv run pytest"]}
    lab = read_pipeline(
        ".gitlab-ci.yml", b"stages: [test]\n.base: {script: [no]}\ncheck:\n  script: [make, make test]\n"
    )
    assert lab.jobs == {"check": ["make", "make test"]}


def test_the_packages_of_a_tree_are_found_wherever_projects_put_them(tmp_path: Path):
    for path in ("src/app/__init__.py", "flat/__init__.py", "parts/inner/__init__.py", "tests/__init__.py",
                 "module.py", "setup.py", "test_module.py", "docs/conf.py"):  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "linked").symlink_to(tmp_path / "flat")
    found = {name: str(folder.relative_to(tmp_path)) for name, folder in packages_of(tmp_path).items()}
    assert found == {"app": "src", "flat": ".", "inner": "parts", "module": "."}


SOURCE = '''
"""Speaks.

More of it.
"""
from json import dumps
import os

__all__ = ["Speaker", "speak", "LIMIT", "dumps"]
LIMIT: int = 3
"""How much."""


def speak(name: str, *, loud: bool = False) -> str:
    """Says hello.

    Args:
        name: To whom.
        loud: With an exclamation mark.

    Returns:
        What was said.

    Raises:
        ValueError: Where nobody is there.
    """
    raise RuntimeError("this must never run")


class Speaker(dict[str, int]):
    """One who speaks."""

    def __init__(self, name: str) -> None: ...

    @property
    def name(self) -> str:
        """The name."""
        return ""

    async def wait(self) -> None: ...

    def _hidden(self) -> None: ...


raise RuntimeError("this must never be imported")
'''


def test_pages_are_written_from_source_that_is_never_run(tmp_path: Path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__init__.py").write_text(SOURCE)
    (tmp_path / "pkg/broken.py").write_text("def f(:\n")
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"search_paths": [str(tmp_path)], "packages": ["pkg", "gone"]}))
    assert api_pages.main([str(request), str(tmp_path / "out")]) == 0
    page = (tmp_path / "out/pkg.md").read_text()
    assert "speak(name: str, *, loud: bool = False) -> str" in page
    assert "- `name` (`str`): To whom." in page
    assert "(`ValueError`): Where nobody is there." in page
    assert "### class `Speaker(dict[str, int])`" in page
    assert "async wait(self) -> None" in page or "async wait() -> None" in page
    assert "- `dumps`, from `json`" in page
    assert "LIMIT: int = 3" in page
    assert "_hidden" not in page
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert any(problem.startswith("gone cannot be read") for problem in result["problems"])
    assert (result["counts"]["undocumented"], result["counts"]["classes"]) == (1, 1)
