"""JSON at the border: values to bounded documents and back, and faults to errors that name a field."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar, cast

import orjson
from pydantic import BaseModel, ValidationError

from diurna_projections.documents import fields_of, json_value
from diurna_schemas.errors import InvalidInput, TooLarge
from diurna_schemas.message import METADATA_BYTES_MAX, PAYLOAD_BYTES_MAX

__all__ = ["fields_of", "given_list", "given_object", "invalid", "json_object", "json_text", "json_value", "validated"]

Model = TypeVar("Model", bound=BaseModel)


_SMALL: Final = frozenset({"metadata", "parameters"})
"""The documents that travel beside the payload are small."""


def json_text(field: str, value: object) -> str:
    """The value as a JSON document.

    Raises `TooLarge` above 256 KiB (16 KiB for metadata and parameters), `InvalidInput` where it is not JSON or a
    number in it is not finite.
    """
    try:
        document = orjson.dumps(value, option=orjson.OPT_UTC_Z)
    except (orjson.JSONEncodeError, UnicodeEncodeError) as error:
        raise InvalidInput(field, value, f"it cannot be written as JSON: {error}") from error
    bytes_max = METADATA_BYTES_MAX if field in _SMALL else PAYLOAD_BYTES_MAX
    if len(document) > bytes_max:
        raise TooLarge(field, len(document), bytes_max)
    # The encoder writes what is not finite as null: another value, and in an update of a state one that takes away.
    if b"null" in document and (place := _not_finite(value, field)):
        raise InvalidInput(place, "a number that is not finite", "JSON has no such number")
    return document.decode()


def given_object(field: str, value: object) -> dict[str, Any]:
    """What somebody gave as an object; nothing is an empty one. Raises `InvalidInput` where it is anything else."""
    if value is not None and not isinstance(value, Mapping):
        raise InvalidInput(field, value, "an object is expected")
    return dict(cast("Mapping[str, Any]", value or {}))


def given_list(field: str, value: object) -> list[Any]:
    """What somebody gave as several. Raises `InvalidInput` where it is one text: its letters are not meant."""
    if not _are_several(value):
        raise InvalidInput(field, value, "a list is expected")
    return list(cast("Iterable[Any]", value))


def _are_several(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def json_object(text: str | None) -> dict[str, Any]:
    """The JSON object in a document; where it is another value, an object that holds it as `value`."""
    found = json_value(text)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {} if found is None else {"value": found}


def validated(model: type[Model], given: Model | Mapping[str, Any]) -> Model:
    """The model with this content. Raises `InvalidInput` naming the first field that is wrong, and its value."""
    try:
        if isinstance(given, model):
            # A model can be changed after it was made; what is wrong in it now is found here, not on the log.
            return model.model_validate(given.__dict__)
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


def _not_finite(value: object, place: str) -> str | None:
    """Where in a document a number is that is not finite."""
    match value:
        case float():
            return None if math.isfinite(value) else place
        case Mapping():
            inner = [(f"{place}.{name}", part) for name, part in cast("Mapping[str, Any]", value).items()]
        case list() | tuple():
            inner = [(f"{place}.{at}", part) for at, part in enumerate(cast("list[Any]", value))]
        case _:
            return None
    return next((found for name, part in inner if (found := _not_finite(part, name))), None)
