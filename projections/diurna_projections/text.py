"""Text as Postgres can hold it: without NUL, bounded where it is indexed, JSON that is JSON."""

from __future__ import annotations

from typing import Final

import orjson

INDEXED_CHARACTERS_MAX: Final = 200
"""An entry of a B-tree must fit into a third of a page; an id has at most this many characters."""


def plain(text: str) -> str:
    """The text without NUL characters, which Postgres refuses."""
    return text.replace("\x00", "\ufffd") if "\x00" in text else text


def indexed(text: str) -> str:
    """The text as an index can hold it."""
    return plain(text[:INDEXED_CHARACTERS_MAX])


def json_text(text: str) -> str:
    """The text where it is a JSON document, else the JSON string of it: nothing is lost and every read stays JSON."""
    if text == "{}":
        return text
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return orjson.dumps(plain(text)).decode()
    return text


def json_of(value: object) -> str:
    """The JSON of a value."""
    return orjson.dumps(value).decode()
