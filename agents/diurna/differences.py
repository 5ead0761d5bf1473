"""What differs between two JSON documents, as a JSON Patch (RFC 6902)."""

from __future__ import annotations

from typing import Any, cast

import orjson

Operation = dict[str, Any]


def json_patch(before: dict[str, Any], after: dict[str, Any]) -> list[Operation]:
    """The operations that make `before` into `after`, in order of their paths: add, remove, replace.

    Objects are compared name by name; a list that differs is replaced whole. What is replaced or removed is told as
    `was`, which readers of the RFC pass over.
    """
    return list(_between(before, after, ""))


def _between(before: dict[str, Any], after: dict[str, Any], path: str) -> list[Operation]:
    found: list[Operation] = []
    for name in sorted(before.keys() | after.keys()):
        place = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
        if name not in after:
            found.append({"op": "remove", "path": place, "was": before[name]})
        elif name not in before:
            found.append({"op": "add", "path": place, "value": after[name]})
        else:
            found += _changed(before[name], after[name], place)
    return found


def _changed(before: object, after: object, place: str) -> list[Operation]:
    if isinstance(before, dict) and isinstance(after, dict):
        return _between(cast("dict[str, Any]", before), cast("dict[str, Any]", after), place)
    # As text, because in Python True equals 1.
    if orjson.dumps(before, option=orjson.OPT_SORT_KEYS) == orjson.dumps(after, option=orjson.OPT_SORT_KEYS):
        return []
    return [{"op": "replace", "path": place, "value": after, "was": before}]
