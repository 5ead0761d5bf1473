"""Reads the structure of Python files from their syntax trees, as a program of its own: nothing of them is run.

`python -m diurna_agents.syntax_trees ROOT REQUEST OUTPUT` reads the paths named in REQUEST (JSON) and writes
what it found to OUTPUT (JSON). A file made to break a parser breaks this process, and no agent.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

Json = dict[str, Any]
Function = ast.FunctionDef | ast.AsyncFunctionDef

_DOCSTRING_CHARACTERS_MAX: Final = 600
_SIGNATURE_CHARACTERS_MAX: Final = 500
_CALLS_MAX: Final = 60
_IMPORTS_MAX: Final = 100
_HOPS_MAX: Final = 5


def module_name(root: Path, path: str) -> str:
    """The dotted name a file is imported by: from the outermost folder that is a package."""
    pure = PurePosixPath(path)
    parts = [] if pure.stem == "__init__" else [pure.stem]
    folder = pure.parent
    while folder.name and (root / folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts) or pure.parent.name or pure.stem


def read_modules(root: Path, paths: Iterable[str]) -> list[Json]:
    """Every module with its classes and functions, calls joined to what they call where that is in these files."""
    modules = [_read_module(root, path) for path in paths]
    known = {symbol["qualified"] for module in modules for symbol in symbols_of(module)}
    names: dict[str, dict[str, str]] = {module["module"]: module.pop("names") for module in modules}
    for module in modules:
        for symbol in symbols_of(module):
            for call in symbol.get("calls", ()):
                call["to"] = _target(call["name"], symbol["qualified"], module["module"], known, names)
    return modules


def symbols_of(module: Json) -> Iterator[Json]:
    """The functions and classes of a module, and their methods."""
    yield from module["functions"]
    for found in module["classes"]:
        yield found
        yield from found["methods"]


def _read_module(root: Path, path: str) -> Json:
    name = module_name(root, path)
    module: Json = {"path": path, "module": name, "lines": 0, "docstring": None, "imports": [], "names": {}}
    module |= {"classes": [], "functions": [], "problem": None}
    try:
        source = (root / path).read_bytes()
        module["lines"] = source.count(b"\n") + (not source.endswith(b"\n") and bool(source))
        tree = ast.parse(source, filename=path)
        _fill(module, tree)
    except SyntaxError as error:
        module["problem"] = f"does not parse, line {error.lineno}: {error.msg}"
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        module["problem"] = f"cannot be read: {type(error).__name__}"
    return module


def _fill(module: Json, tree: ast.Module) -> None:
    module["docstring"] = _docstring(tree)
    module["names"] = dict(_imported(module["module"], tree, is_package=module["path"].endswith("__init__.py")))
    module["imports"] = sorted(set(_imports(tree)))[:_IMPORTS_MAX]
    for node in tree.body:
        match node:
            case ast.ClassDef():
                module["classes"].append(_class(node, module["module"]))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                module["functions"].append(_function(node, module["module"]))
            case _:
                pass


def _class(node: ast.ClassDef, inside: str) -> Json:
    qualified = f"{inside}.{node.name}"
    methods = [_function(child, qualified) for child in node.body if isinstance(child, Function)]
    return {
        "kind": "class",
        "name": node.name,
        "qualified": qualified,
        "line": node.lineno,
        "end_line": node.end_lineno,
        "bases": [_bounded(ast.unparse(base)) for base in node.bases],
        "decorators": [_bounded(ast.unparse(one)) for one in node.decorator_list],
        "docstring": _docstring(node),
        "attributes": [
            _bounded(ast.unparse(child).partition(" = ")[0]) for child in node.body if isinstance(child, ast.AnnAssign)
        ][:_IMPORTS_MAX],
        "methods": methods,
    }


def _function(node: Function, inside: str) -> Json:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    return {
        "kind": "async function" if isinstance(node, ast.AsyncFunctionDef) else "function",
        "name": node.name,
        "qualified": f"{inside}.{node.name}",
        "signature": _bounded(f"{node.name}({ast.unparse(node.args)}){returns}"),
        "line": node.lineno,
        "end_line": node.end_lineno,
        "decorators": [_bounded(ast.unparse(one)) for one in node.decorator_list],
        "docstring": _docstring(node),
        "calls": [{"name": name, "to": None} for name in dict.fromkeys(_calls(node))][:_CALLS_MAX],
    }


def _calls(node: ast.AST) -> Iterator[str]:
    for child in ast.walk(node):
        if isinstance(child, ast.Call) and (name := _dotted(child.func)) is not None:
            yield name


def _dotted(node: ast.expr) -> str | None:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attribute):
            before = _dotted(value)
            return None if before is None else f"{before}.{attribute}"
        case _:
            return None


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, level=level):
                yield "." * level + (module or "")
            case _:
                pass


def _imported(module: str, tree: ast.Module, *, is_package: bool) -> Iterator[tuple[str, str]]:
    """What a name of the module stands for: the dotted name it was imported as."""
    for node in tree.body:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    first = alias.name.partition(".")[0]
                    yield (alias.asname, alias.name) if alias.asname else (first, first)
            case ast.ImportFrom(module=origin, names=names, level=level):
                parts = module.split(".") + ["__init__"] * is_package
                base = ".".join(parts[: len(parts) - level]) if level else ""
                place = ".".join(part for part in (base, origin or "") if part)
                yield from ((alias.asname or alias.name, f"{place}.{alias.name}") for alias in names)
            case _:
                pass


def _target(name: str, caller: str, module: str, known: set[str], names: dict[str, dict[str, str]]) -> str | None:
    """The definition among these files that a call means, as far as the text tells; None where it does not."""
    first, _, rest = name.partition(".")
    if first in {"self", "cls"} and rest:
        method = f"{caller.rpartition('.')[0]}.{rest}"
        return method if method in known else None
    found = f"{module}.{name}"
    for _ in range(_HOPS_MAX):
        if found in known:
            return found
        # Where the name was imported from: there it may be defined, or imported once more.
        place, imported, tail = _longest(found, names)
        if imported is None:
            return None
        origin = names[place].get(imported)
        if origin is None:
            return None
        found = f"{origin}.{tail}" if tail else origin
    return None


def _longest(dotted: str, names: dict[str, dict[str, str]]) -> tuple[str, str | None, str]:
    """A dotted name as the longest module that begins it, the name in that module, and the rest."""
    parts = dotted.split(".")
    for at in range(len(parts) - 1, 0, -1):
        place = ".".join(parts[:at])
        if place in names:
            return place, parts[at], ".".join(parts[at + 1 :])
    return "", None, ""


def _docstring(node: ast.Module | ast.ClassDef | Function) -> str | None:
    found = ast.get_docstring(node)
    if found is None:
        return None
    return found if len(found) <= _DOCSTRING_CHARACTERS_MAX else f"{found[:_DOCSTRING_CHARACTERS_MAX]}…"


def _bounded(text: str) -> str:
    return text if len(text) <= _SIGNATURE_CHARACTERS_MAX else f"{text[:_SIGNATURE_CHARACTERS_MAX]}…"


def _main(arguments: list[str]) -> int:
    root, request, output = map(Path, arguments)
    output.write_text(json.dumps(read_modules(root, json.loads(request.read_text()))))
    return 0


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1:]))
