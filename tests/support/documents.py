"""Takes the ```python and ```console blocks out of a document, so that a test can run every one of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(
    r"^(?P<indent>[ ]*)```(?P<language>\w+)[ ]*(?P<notes>[^\n]*)\n(?P<text>.*?)^(?P=indent)```\s*$", re.M | re.S
)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `notes` is what stands behind the language, `line` where its text begins."""

    document: str
    line: int
    language: str
    notes: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands of a console block: what stands behind `$ `, lines ending in a backslash joined."""
        joined = re.sub(r"\\\n\s*(?:> )?", "", self.text)
        return [line[2:].strip() for line in joined.splitlines() if line.startswith("$ ")]


def blocks(document: str, *languages: str) -> list[Block]:
    """The blocks of a document, its path relative to the repository; of these languages, or of all."""
    text = (ROOT / document).read_text(encoding="utf-8")
    found: list[Block] = []
    for match in _FENCE.finditer(text):
        if languages and match["language"] not in languages:
            continue
        indent = match["indent"]
        lines = [line.removeprefix(indent) for line in match["text"].splitlines(keepends=True)]
        line = text.count("\n", 0, match.start()) + 2
        found.append(Block(document, line, match["language"], match["notes"].strip(), "".join(lines)))
    return found


async def run_python(block: Block, names: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Runs a python block, in which `await` may stand outside of functions, and returns the names it made.

    `names` are there before it begins. An assertion or error in it fails with the document's own line.
    """
    space: dict[str, Any] = {"__name__": "__document__", **(names or {})}
    # Compiled with its own line numbers: a failure then names the line of the document.
    source = "\n" * (block.line - 1) + block.text
    code: CodeType = compile(source, block.document, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, space)
    if result is not None:
        await result
    return space
