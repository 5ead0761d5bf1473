"""Payloads as validated models: unknown fields are refused, errors name the field and the value."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Annotated, TypeVar, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from diurna_schemas.errors import InvalidInput


class Payload(BaseModel):
    """What a handler takes: frozen, strict, and without fields nobody knows."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


PayloadType = TypeVar("PayloadType", bound=Payload)


def _without_control_characters(value: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("control characters are not allowed")
    return value


def _not_an_option(value: str) -> str:
    # A value that begins with a dash would be read as an option by a tool it is handed to.
    if value.startswith("-"):
        raise ValueError("must not begin with '-'")
    return value


def _absolute(value: str) -> str:
    if not PurePosixPath(value).is_absolute():
        raise ValueError("an absolute path is needed, the agent has a working directory of its own")
    return value


def can_be_split(value: str) -> str:
    """`value` where a shell would read it as the words of a command."""
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise ValueError(f"it cannot be split into words: {error}") from error
    if not words:
        raise ValueError("it names no program")
    return value


Text = Annotated[str, StringConstraints(min_length=1, max_length=2_000), AfterValidator(_without_control_characters)]
Words = Annotated[str, StringConstraints(min_length=1, max_length=8_000, strip_whitespace=True)]
"""Words for people or models, in lines."""
Word = Annotated[str, StringConstraints(min_length=1, max_length=2_000)]
CommandLine = Annotated[Word, AfterValidator(can_be_split)] | Annotated[list[Word], Field(min_length=1, max_length=100)]
"""A command as one text or as its words; it is run without a shell."""
Location = Annotated[Text, AfterValidator(_not_an_option)]
"""A path or a URL of a git repository."""
RefName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=500),
    AfterValidator(_without_control_characters),
    AfterValidator(_not_an_option),
]
"""A branch, tag or commit, as people write them."""
ServiceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
AbsolutePath = Annotated[Text, AfterValidator(_absolute)]


def validated(model: type[PayloadType], payload: Mapping[str, object], *, within: str | None = None) -> PayloadType:
    """The payload, or the field of one that it is `within`, as `model`.

    Raises `InvalidInput` naming the first wrong field and its value.
    """
    try:
        return model.model_validate(dict(payload))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join([*([] if within is None else [within]), *_fields(first["loc"], payload)]) or "payload"
        raise InvalidInput(field, _value(first["type"], first["input"]), _reason(first["msg"])) from error


def _fields(place: Iterable[int | str], payload: object) -> list[str]:
    """The parts of a place that lead into the payload. Of a union, the member that does not fit is named there too."""
    found: list[str] = []
    parts = list(place)
    for at, part in enumerate(parts, start=1):
        if isinstance(payload, Mapping):
            inner = cast("Mapping[object, object]", payload)
            if part not in inner and at < len(parts):
                continue
            payload = inner.get(part)
        elif isinstance(payload, list | tuple) and isinstance(part, int):
            payload = cast("list[object]", payload)[part]
        else:
            continue
        found.append(str(part))
    return found


def _value(kind: str, value: object) -> object:
    return "nothing" if kind == "missing" else value


def _reason(text: str) -> str:
    text = text.removeprefix("Value error, ")
    return "no such field" if text == "Extra inputs are not permitted" else text[:1].lower() + text[1:]
