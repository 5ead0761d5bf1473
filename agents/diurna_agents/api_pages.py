"""Writes an API reference as Markdown from source, as a program of its own: nothing of the source is run or imported.

`python -m diurna_agents.api_pages REQUEST OUTPUT` takes from REQUEST (JSON) the `search_paths` and `packages` to
document, and writes pages and `result.json` below OUTPUT. A source made to break a reader breaks this process, and no
agent.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import griffe

_VALUE_CHARACTERS_MAX: Final = 120
_MODULES_MAX: Final = 2_000
_RESULT: Final = "result.json"


class Reference:
    """The pages of some packages."""

    def __init__(self, search_paths: list[str]) -> None:
        self._loader = griffe.GriffeLoader(
            search_paths=search_paths, allow_inspection=False, docstring_parser=griffe.Parser.auto
        )
        self.pages: dict[str, str] = {}
        self.problems: list[str] = []
        self.counts = {"modules": 0, "classes": 0, "functions": 0, "attributes": 0, "undocumented": 0}

    def add(self, packages: Iterable[str]) -> None:
        """Reads the packages and writes a page for each of their modules, and the index."""
        loaded: list[griffe.Module] = []
        for name in packages:
            try:
                found = self._loader.load(name)
            except Exception as error:
                # Whatever a foreign source makes of the reader.
                self.problems.append(f"{name} cannot be read: {type(error).__name__}: {error}"[:300])
                continue
            if isinstance(found, griffe.Module):
                loaded.append(found)
        self._loader.resolve_aliases(implicit=False, external=False)
        lines = ["# API reference", ""]
        for package in loaded:
            for module in _modules(package):
                if self.counts["modules"] >= _MODULES_MAX:
                    self.problems.append(f"more than {_MODULES_MAX} modules: the rest was left out")
                    break
                self.counts["modules"] += 1
                page = _page_of(module.path)
                self.pages[page] = "\n".join(self._module(module)).rstrip() + "\n"
                indent = "  " * module.path.count(".")
                lines.append(f"{indent}- [`{module.path}`]({page}){_after(_first_line(module))}")
        self.pages["index.md"] = "\n".join(lines) + "\n"

    def _module(self, module: griffe.Module) -> Iterator[str]:
        yield from (f"# `{module.path}`", "")
        yield from self._words(module)
        members = [member for name, member in module.members.items() if _is_public(module, name, member)]
        exported = [member for member in members if isinstance(member, griffe.Alias)]
        if exported:
            yield from ("## Importable from here", "")
            for member in exported:
                yield f"- `{member.name}`, from `{member.target_path.rpartition('.')[0]}`"
            yield ""
        own = [member for member in members if not isinstance(member, griffe.Alias)]
        for heading, kind in (("Classes", griffe.Class), ("Functions", griffe.Function), ("Values", griffe.Attribute)):
            found = [member for member in own if isinstance(member, kind)]
            if found:
                yield from (f"## {heading}", "")
            for one in found:
                yield from self._member(one, "###")

    def _member(self, member: Any, heading: str) -> Iterator[str]:
        match member:
            case griffe.Class():
                self.counts["classes"] += 1
                bases = ", ".join(str(base) for base in member.bases)
                yield from (f"{heading} class `{member.name}{f'({bases})' if bases else ''}`", "")
                yield from self._words(member)
                for name, inner in member.members.items():
                    if not isinstance(inner, griffe.Alias) and (not name.startswith("_") or name == "__init__"):
                        yield from self._member(inner, f"{heading}#")
            case griffe.Function():
                self.counts["functions"] += 1
                labels = "".join(
                    f"{label} " for label in ("async", "classmethod", "staticmethod") if label in member.labels
                )
                yield from (f"{heading} `{member.name}`", "", "```python", f"{labels}{_signature(member)}", "```", "")
                # What a constructor does, its class says.
                yield from self._words(member, is_needed=not member.name.startswith("__"))
            case griffe.Attribute():
                self.counts["attributes"] += 1
                annotation = f": {member.annotation}" if member.annotation is not None else ""
                value = "" if "property" in member.labels or member.value is None else f" = {_cut(str(member.value))}"
                yield from (f"{heading} `{member.name}{annotation}`", "")
                if value:
                    yield from ("```python", f"{member.name}{annotation}{value}", "```", "")
                yield from self._words(member, is_needed=False)
            case _:
                return

    def _words(self, thing: griffe.Object, *, is_needed: bool = True) -> Iterator[str]:
        """The docstring, its sections as lists."""
        if thing.docstring is None or not thing.docstring.value.strip():
            self.counts["undocumented"] += is_needed
            return
        for section in thing.docstring.parsed:
            yield from _section(section)


def _section(section: Any) -> Iterator[str]:
    kind = griffe.DocstringSectionKind
    match section.kind:
        case kind.text:
            yield from (section.value.strip(), "")
        case kind.examples:
            yield from ("**Examples**", "")
            for what, text in section.value:
                yield from ((text, "") if what is kind.text else ("```pycon", text, "```", ""))
        case kind.admonition | kind.deprecated:
            words = section.value
            yield from (f"> **{section.title or 'Note'}**: {getattr(words, 'description', words)}".strip(), "")
        case _ if isinstance(section.value, list):
            yield from (f"**{section.title or section.kind.value.capitalize()}**", "")
            for item in _listed(section):
                name = getattr(item, "name", "") or ""
                annotation = getattr(item, "annotation", None)
                shown = " ".join(
                    part for part in (f"`{name}`" if name else "", f"(`{annotation}`)" if annotation else "") if part
                )
                words = " ".join(str(item.description).split())
                yield f"- {shown}: {words}" if shown else f"- {words}"
            yield ""
        case _:
            yield from (str(section.value), "")


def _listed(section: Any) -> list[Any]:
    return list(section.value)


def _modules(package: griffe.Module) -> Iterator[griffe.Module]:
    yield package
    for name, module in sorted(package.modules.items()):
        if not isinstance(module, griffe.Alias) and (not name.startswith("_") or name == "__main__"):
            yield from _modules(module)


def _is_public(module: griffe.Module, name: str, member: Any) -> bool:
    if isinstance(member, griffe.Module):
        return False
    if module.exports is not None:
        return name in {str(getattr(one, "name", one)) for one in module.exports}
    return not name.startswith("_") and not isinstance(member, griffe.Alias)


def _signature(function: griffe.Function) -> str:
    try:
        return str(function.signature())
    except Exception:
        return f"{function.name}(…)"


def _first_line(thing: griffe.Object) -> str:
    text = thing.docstring.value.strip() if thing.docstring is not None else ""
    return text.splitlines()[0] if text else ""


def _after(words: str) -> str:
    return f": {words}" if words else ""


def _cut(text: str) -> str:
    return text if len(text) <= _VALUE_CHARACTERS_MAX else f"{text[:_VALUE_CHARACTERS_MAX]}…"


def _page_of(path: str) -> str:
    return f"{path}.md"


def main(arguments: list[str]) -> int:
    logging.getLogger("griffe").setLevel(logging.CRITICAL)
    request, output = json.loads(Path(arguments[0]).read_text("utf-8")), Path(arguments[1])
    reference = Reference(request["search_paths"])
    reference.add(request["packages"])
    output.mkdir(parents=True, exist_ok=True)
    for name, text in reference.pages.items():
        (output / name).write_text(text, "utf-8")
    result = {"pages": list(reference.pages), "problems": reference.problems, "counts": reference.counts}
    (output / _RESULT).write_text(json.dumps(result), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
