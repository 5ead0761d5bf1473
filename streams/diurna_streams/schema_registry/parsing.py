"""Reads the text of an Avro schema: is it one, and which other texts mean the same?"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

import avro.errors
import avro.schema

from diurna_schemas.compatibility import AvroJson, canonical_form, resolved
from diurna_schemas.errors import shown
from diurna_streams.schema_registry.refusals import invalid_schema

SCHEMA_CHARACTERS_MAX: Final = 500_000
_INT: Final = 2**31
_LONG: Final = 2**63


@dataclass(frozen=True, slots=True)
class Schema:
    """A valid Avro schema: its text as it was sent, and the canonical form by which it is known again."""

    text: str
    canonical: str

    @property
    def json(self) -> AvroJson:
        return cast("AvroJson", json.loads(self.text))


@lru_cache(maxsize=1_024)
def parse(text: str) -> Schema:
    """The schema in this text. Raises a refusal with code 42201 where it is not a valid one, and says why."""
    if len(text) > SCHEMA_CHARACTERS_MAX:
        raise invalid_schema(f"{len(text)} characters, at most {SCHEMA_CHARACTERS_MAX} are allowed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", avro.errors.AvroWarning)
            avro.schema.parse(text)
        schema = cast("AvroJson", json.loads(text))
        canonical = canonical_form(schema)
        canonical.encode()
        fault = _fault(resolved(schema), {})
    except RecursionError:
        raise invalid_schema("it is nested too deeply") from None
    except UnicodeEncodeError as error:
        raise invalid_schema(f"it holds a character that is none: {error.reason}") from error
    except (avro.errors.AvroException, ValueError, TypeError, KeyError, AttributeError) as error:
        # The avro package meets nonsense with whatever Python raises.
        raise invalid_schema(f"{type(error).__name__}: {str(error)[:500]}") from error
    if fault is not None:
        raise invalid_schema(fault)
    return Schema(text, canonical)


def canonical_or_text(text: str, schema_type: str) -> str:
    """What tells this schema from others: its canonical form, or the bare text where we cannot read it."""
    if schema_type == "AVRO":
        try:
            return canonical_form(cast("AvroJson", json.loads(text)))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return text
    return f"{schema_type}:{text}"


def _fault(schema: AvroJson, names: dict[str, dict[str, Any]]) -> str | None:
    """The first fault in a resolved schema that the avro package lets pass and readers would die of."""
    match schema:
        case list():
            return next((fault for branch in schema if (fault := _fault(branch, names))), None)
        case dict():
            if "name" in schema:
                names[schema["name"]] = schema
            if schema.get("type") == "enum" and (fault := _enum_fault(schema)):
                return fault
            for part in ("items", "values"):
                if part in schema and (fault := _fault(schema[part], names)):
                    return fault
            for field in schema.get("fields", ()):
                if fault := _fault(field["type"], names):
                    return fault
                if "default" in field and not _fits(field["default"], field["type"], names):
                    return (
                        f"the default {shown(field['default'])} of field {field['name']} "
                        f"is no {_shown_type(field['type'])}"
                    )
        case str():
            pass
    return None


def _enum_fault(schema: dict[str, Any]) -> str | None:
    symbols = schema["symbols"]
    if not isinstance(symbols, list):
        return f"the symbols of enum {schema['name']} are {shown(symbols)}, a list is expected"
    if "default" in schema and schema["default"] not in symbols:
        return f"the default {shown(schema['default'])} of enum {schema['name']} is none of its symbols"
    return None


def _shown_type(schema: AvroJson) -> str:
    return schema if isinstance(schema, str) else json.dumps(schema)[:120]


def _fits(value: Any, schema: AvroJson, names: dict[str, dict[str, Any]]) -> bool:
    """Whether a default may stand for a type. A union's default fits its first branch (Avro 1.11; 1.12 allows any)."""
    match schema:
        case list():
            return any(_fits(value, branch, names) for branch in schema)
        case str():
            return (
                _PRIMITIVE_DEFAULTS[schema](value)
                if schema in _PRIMITIVE_DEFAULTS
                else _fits_named(value, schema, names)
            )
        case {"type": "array", "items": items}:
            return isinstance(value, list) and all(_fits(item, items, names) for item in cast("list[object]", value))
        case {"type": "map", "values": values}:
            return isinstance(value, dict) and all(
                _fits(item, values, names) for item in cast("dict[str, Any]", value).values()
            )
        case {"type": "enum", "symbols": symbols}:
            return value in symbols
        case {"type": "fixed", "size": size}:
            return isinstance(value, str) and len(value) == size
        case {"type": "record" | "error", "fields": fields}:
            return isinstance(value, dict) and all(
                _fits(cast("dict[str, Any]", value).get(one["name"], one.get("default")), one["type"], names)
                for one in fields
            )
        case _:
            return _fits(value, schema["type"], names)


def _fits_named(value: Any, name: str, names: dict[str, dict[str, Any]]) -> bool:
    # A type that stands further on in the text cannot be looked up yet: the avro package has refused that.
    return name not in names or _fits(value, names[name], names)


def _is_integer(size: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and -size <= value < size


def _is_number(value: Any) -> bool:
    return (isinstance(value, int | float) and not isinstance(value, bool)) or value in {"NaN", "Infinity", "-Infinity"}


_PRIMITIVE_DEFAULTS: Final[dict[str, Callable[[Any], bool]]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "int": _is_integer(_INT),
    "long": _is_integer(_LONG),
    "float": _is_number,
    "double": _is_number,
    "bytes": lambda value: isinstance(value, str),
    "string": lambda value: isinstance(value, str),
}
