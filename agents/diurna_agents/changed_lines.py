"""Which lines of a file are new: a line diff with bounds on the time it may take."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final

_PAIRS_MAX: Final = 16_000_000
"""Above so many pairs of lines the exact diff is not attempted."""
_CONTEXT_LINES: Final = 3


@dataclass(frozen=True, slots=True)
class LineChanges:
    """The numbers (from 1) of the new file's lines that are new, how many old ones went, and a patch.

    `approximate`: the file was too big to compare exactly; then a line counts as new where the old file
    had fewer of it.
    """

    added: tuple[int, ...]
    deleted_count: int
    patch: str
    patch_cut: bool
    approximate: bool


def compare(old: bytes, new: bytes, *, patch_characters_max: int) -> LineChanges:
    """What turns `old` into `new`, by lines that end as Python's tools see them: LF, CRLF or CR."""
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    start = _common(before, after)
    stop = _common(before[start:][::-1], after[start:][::-1])
    middle_before = before[start : len(before) - stop]
    middle_after = after[start : len(after) - stop]
    if len(middle_before) * len(middle_after) > _PAIRS_MAX:
        return _by_count(middle_before, middle_after, start)
    matcher = SequenceMatcher(None, middle_before, middle_after, autojunk=False)
    added: list[int] = []
    deleted = 0
    for kind, low, high, new_low, new_high in matcher.get_opcodes():
        if kind != "equal":
            added.extend(range(start + new_low + 1, start + new_high + 1))
            deleted += high - low
    patch, cut = _patch(before, after, start, matcher, patch_characters_max)
    return LineChanges(tuple(added), deleted, patch, cut, approximate=False)


def _common(first: list[bytes], second: list[bytes]) -> int:
    for index, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return index
    return min(len(first), len(second))


def _by_count(before: list[bytes], after: list[bytes], start: int) -> LineChanges:
    left = Counter(before)
    added: list[int] = []
    for number, line in enumerate(after, start + 1):
        if left[line] > 0:
            left[line] -= 1
        else:
            added.append(number)
    deleted = len(before) - (len(after) - len(added))
    return LineChanges(tuple(added), deleted, "", patch_cut=True, approximate=True)


def _patch(
    before: list[bytes],
    after: list[bytes],
    start: int,
    matcher: SequenceMatcher[bytes],
    characters_max: int,
) -> tuple[str, bool]:
    lines: list[str] = []
    room = characters_max
    for group in matcher.get_grouped_opcodes(_CONTEXT_LINES):
        low, high = start + group[0][1], start + group[-1][2]
        new_low, new_high = start + group[0][3], start + group[-1][4]
        hunk = [f"@@ -{low + 1},{high - low} +{new_low + 1},{new_high - new_low} @@"]
        for kind, one, two, three, four in group:
            if kind == "equal":
                hunk.extend(_shown(" ", before[start + one : start + two]))
            else:
                hunk.extend(_shown("-", before[start + one : start + two]))
                hunk.extend(_shown("+", after[start + three : start + four]))
        room -= sum(len(line) + 1 for line in hunk)
        if room < 0:
            return "\n".join(lines), True
        lines.extend(hunk)
    return "\n".join(lines), False


def _shown(sign: str, lines: list[bytes]) -> list[str]:
    return [sign + line.rstrip(b"\r\n").decode("utf-8", "replace") for line in lines]
