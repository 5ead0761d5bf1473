"""JSON at the border: values to bounded documents, records to plain values, and faults to errors that name a field."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, cast

import orjson
from pydantic import BaseModel, ValidationError

from diurna_schemas.errors import InvalidInput, TooLarge
from diurna_schemas.message import METADATA_BYTES_MAX, PAYLOAD_BYTES_MAX, JsonText, Part, SmallJson

Model = TypeVar("Model", bound=BaseModel)
_MARKS = (typing.get_args(JsonText)[1], typing.get_args(SmallJson)[1])


_SMALL: typing.Final = frozenset({"metadata", "parameters"})
"""The documents that travel beside the payload are small."""


def json_text(field: str, value: object) -> str:
    """The value as a JSON document.

    Raises `TooLarge` above 256 KiB (16 KiB for metadata and parameters), `InvalidInput` where it is not JSON.
    """
    try:
        document = orjson.dumps(value, option=orjson.OPT_UTC_Z)
    except (orjson.JSONEncodeError, UnicodeEncodeError) as error:
        raise InvalidInput(field, value, f"it cannot be written as JSON: {error}") from error
    bytes_max = METADATA_BYTES_MAX if field in _SMALL else PAYLOAD_BYTES_MAX
    if len(document) > bytes_max:
        raise TooLarge(field, len(document), bytes_max)
    return document.decode()


def json_value(text: str | None) -> Any:
    """What a JSON document says; its own text where another wrote something that is none."""
    if text is None:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def json_object(text: str | None) -> dict[str, Any]:
    """The JSON object in a document; where it is another value, an object that holds it as `value`."""
    found = json_value(text)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {} if found is None else {"value": found}


def plain(record: Part) -> dict[str, Any]:
    """A record as plain values: the JSON documents it carries as text are opened."""
    fields: dict[str, Any] = {}
    documents = _documents(type(record))
    for name in type(record).model_fields:
        value = getattr(record, name)
        if name in documents:
            fields[name] = json_value(value)
        else:
            fields[name] = _plain_value(value)
    return fields


def validated(model: type[Model], given: Model | Mapping[str, Any]) -> Model:
    """The model with this content. Raises `InvalidInput` naming the first field that is wrong, and its value."""
    try:
        if isinstance(given, model):
            # A model can be changed after it was made; what is wrong in it now is found here, not on the log.
            return model.model_validate(given.model_dump(warnings=False))
        return model.model_validate(given)
    except ValidationError as error:
        raise invalid(error) from error


def invalid(error: ValidationError) -> InvalidInput:
    """The first fault of a validation error, as an error of ours."""
    fault = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in fault["loc"]) or error.title
    return InvalidInput(field, fault["input"], _lower_first(fault["msg"]))


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _plain_value(value: object) -> Any:
    match value:
        case Part():
            return plain(value)
        case list():
            return [_plain_value(item) for item in cast("list[object]", value)]
        case _:
            return value


@cache
def _documents(record: type[Part]) -> frozenset[str]:
    """The fields of a record that hold JSON documents as text."""
    hints = typing.get_type_hints(record, include_extras=True)
    return frozenset(name for name in record.model_fields if _is_document(hints[name]))


def _is_document(annotation: object) -> bool:
    return any(mark in getattr(annotation, "__metadata__", ()) for mark in _MARKS) or any(
        _is_document(part) for part in typing.get_args(annotation) if part is not type(None)
    )
