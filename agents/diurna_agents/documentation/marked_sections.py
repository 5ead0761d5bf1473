"""Sections of a text between markers: replaced there, and everything else left byte for byte.

<!-- diurna:begin NAME -->
whatever stands here is replaced
<!-- diurna:end NAME -->
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from diurna_schemas.errors import InvalidInput

_MARKER: Final = re.compile(
    rb"^[ \t]*<!--[ \t]*diurna:(?P<kind>begin|end)[ \t]+(?P<name>[^\s>]+)[ \t]*-->[ \t]*(?=\r?\n|\Z)", re.M
)


def replaced(text: bytes, sections: Mapping[str, str], *, append: bool) -> bytes:
    """The text with these sections. Raises `InvalidInput` where markers do not pair, or a section has none."""
    places = marked(text)
    newline = b"\r\n" if b"\r\n" in text else b"\n"
    missing = [name for name in sections if name not in places]
    if missing and not append:
        known = ", ".join(places) or "none"
        raise InvalidInput(f"sections.{missing[0]}", missing[0], f"the file has no such markers (it has {known})")
    for name, (start, stop) in sorted(places.items(), key=lambda item: item[1], reverse=True):
        if name in sections:
            text = text[:start] + newline + _body(sections[name], newline) + text[stop:]
    for name in missing:
        before = b"" if not text or text.endswith(newline) else newline
        body = newline + _body(sections[name], newline)
        begin, end = f"<!-- diurna:begin {name} -->".encode(), f"<!-- diurna:end {name} -->".encode()
        text += before + (newline if text else b"") + begin + body + end + newline
    return text


def marked(text: bytes) -> dict[str, tuple[int, int]]:
    """Where each section lies: from behind its begin to the beginning of its end's line. Raises `InvalidInput`."""
    places: dict[str, tuple[int, int]] = {}
    opened: tuple[str, int, int] | None = None
    for marker in _MARKER.finditer(text):
        line = text.count(b"\n", 0, marker.start()) + 1
        name = marker["name"].decode("utf-8", "replace")
        if marker["kind"] == b"begin":
            if opened is not None:
                raise _broken(
                    line, f"section {name} begins inside of section {opened[0]}, which began in line {opened[2]}"
                )
            if name in places:
                raise _broken(line, f"section {name} is there twice")
            opened = (name, marker.end(), line)
        elif opened is None or opened[0] != name:
            raise _broken(line, f"section {name} ends and did not begin")
        else:
            places[name] = (opened[1], marker.start())
            opened = None
    if opened is not None:
        raise _broken(opened[2], f"section {opened[0]} begins and does not end")
    return places


def _body(text: str, newline: bytes) -> bytes:
    stripped = text.strip("\r\n")
    if _MARKER.search(stripped.encode()):
        raise InvalidInput("sections", stripped[:80], "a section may not hold markers of its own")
    return newline.join(line.encode() for line in stripped.splitlines()) + newline


def _broken(line: int, what: str) -> InvalidInput:
    return InvalidInput("file", f"line {line}", f"its markers do not pair: {what}")
