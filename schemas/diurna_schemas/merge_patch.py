"""How an update changes a workflow's state: a JSON Merge Patch (RFC 7396), and how deep a document may be.

Objects are merged, level by level; `null` takes a name away; anything else, lists among it, replaces what was there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import orjson

JsonObject = dict[str, Any]

DEPTH_MAX: Final = 100
"""The most levels of objects and lists a state may have. JSON libraries give up at levels of their own."""


def merged(state: Mapping[str, Any], patch: Mapping[str, Any]) -> JsonObject:
    """The state with the patch merged in. Neither is changed; what the patch does not touch is shared with `state`."""
    result: JsonObject = {**state}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif type(value) is dict:  # this runs for every update there is: neither `isinstance` nor `cast` is free
            below = result.get(name)
            result[name] = merged(below if type(below) is dict else _EMPTY, value)  # pyright: ignore[reportUnknownArgumentType]
        else:
            result[name] = value
    return result


def is_too_deep(text: str) -> bool:
    """Whether a JSON document has more than `DEPTH_MAX` levels."""
    # Brackets are counted before anything is walked: nearly every document has too few of them to be deep.
    return text.count("{") + text.count("[") > DEPTH_MAX and _is_deeper(orjson.loads(text), DEPTH_MAX)


_EMPTY: Final[JsonObject] = {}


def _is_deeper(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        inner = list(cast("JsonObject", value).values())
    elif isinstance(value, list):
        inner = cast("list[object]", value)
    else:
        return False
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in inner)
