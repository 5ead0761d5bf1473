"""The state of a workflow as its decider keeps it: compact JSON in bytes, because bytes are what is bounded.

A state that was parsed would be five times as large in memory, and a collector of garbage would walk it. Parsing,
merging and writing 600 bytes takes three microseconds, 256 KiB two milliseconds.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, cast

import orjson

from diurna_schemas.errors import shown
from diurna_schemas.merge_patch import DEPTH_MAX, JsonObject, is_too_deep, merged
from diurna_schemas.workflows import STATE_BYTES_MAX

EMPTY: Final = b"{}"


class Unfit(Exception):
    """A document that cannot be a state, or part of one. `code` is the refusal's, `size_bytes` what was too much."""

    def __init__(self, code: str, reason: str, size_bytes: int | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.size_bytes = size_bytes


def whole(text: str) -> bytes:
    """The state a JSON document says. Raises `Unfit` where it is no object, too deep or too large."""
    return _written(_read("state", text))


# The rules ask twice, when they decide and when they fold what they decided; both get the same answer, once worked out.
@lru_cache(maxsize=2)
def patched(state: bytes, patch: str) -> bytes:
    """The state with a JSON Merge Patch merged in. Raises `Unfit` where the patch is none, or the result too large."""
    return _written(merged(cast("JsonObject", orjson.loads(state)), _read("updates", patch)))


def _read(field: str, text: str) -> JsonObject:
    try:
        found: object = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        # Not in the parser's words: another version of it would say it otherwise, and decide other bytes.
        raise Unfit("invalid_json", f"{field}: no JSON, got {shown(text)}") from error
    if not isinstance(found, dict):
        raise Unfit("invalid_json", f"{field}: a JSON object is expected, got {shown(text)}")
    if is_too_deep(text):
        raise Unfit("invalid_json", f"{field}: at most {DEPTH_MAX} levels of objects and lists are allowed")
    return cast("JsonObject", found)


def _written(state: JsonObject) -> bytes:
    document = orjson.dumps(state)
    if len(document) > STATE_BYTES_MAX:
        reason = f"state: at most {STATE_BYTES_MAX} bytes are allowed, got {len(document)} bytes"
        raise Unfit("too_large", reason, len(document))
    return document
