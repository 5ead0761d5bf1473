"""Whether an update of a configuration is allowed, by its types or by a schema, and what it changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import jsonschema.exceptions
from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from diurna_schemas.errors import InvalidInput

exceptions: Any = jsonschema.exceptions
"""Its annotations leave the errors' types open."""
Plain = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is not what it was. Its content is nobody's business here: it may be a secret."""

    path: str
    kind: Literal["added", "changed", "removed"]
    type: str


def differences(before: Plain, after: Plain, path: str = "") -> Iterator[Difference]:
    """The values that differ, by their dotted paths."""
    for name in dict.fromkeys([*before, *after]):
        place = f"{path}.{name}" if path else name
        if name not in after:
            yield Difference(place, "removed", type_of(before[name]))
        elif name not in before:
            yield Difference(place, "added", type_of(after[name]))
        elif isinstance(before[name], Mapping) and isinstance(after[name], Mapping):
            yield from differences(before[name], after[name], place)
        elif before[name] != after[name] or type_of(before[name]) != type_of(after[name]):
            yield Difference(place, "changed", type_of(after[name]))


def checked_types(before: Plain, updates: Plain, *, allow_new: bool, path: str = "updates") -> None:
    """Holds every value to the type it has. Raises `InvalidInput` naming the value."""
    for name, value in updates.items():
        place = f"{path}.{name}"
        if name not in before:
            if value is not None and not allow_new:
                raise InvalidInput(place, value, "there is no such name in the file; set allow_new to add one")
            continue
        there: object = before[name]
        if value is None or there is None:
            continue
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            checked_types(cast("Plain", there), cast("Plain", value), allow_new=allow_new, path=place)
            continue
        is_type, was_type = type_of(cast("object", value)), type_of(there)
        if is_type != was_type and (was_type, is_type) != ("number", "integer"):
            raise InvalidInput(
                place, cast("object", value), f"the file has {_a(was_type)} there, this is {_a(is_type)}"
            )


def checked_by_schema(document: Plain, schema: Plain) -> None:
    """Holds the document to a JSON Schema. Raises `InvalidInput` naming the value; nothing is fetched for a `$ref`."""
    kind: Any = validator_for(schema)
    nothing_else: Any = cast("Any", Registry)()
    try:
        kind.check_schema(schema)
        judge = kind(schema, registry=nothing_else, format_checker=kind.FORMAT_CHECKER)
        found: Any = exceptions.best_match(judge.iter_errors(document))
    except SchemaError as error:
        raise InvalidInput("schema", dict(schema), f"it is no JSON Schema: {error.message[:200]}") from error
    except Unresolvable as error:
        raise InvalidInput("schema", str(error), "it refers to something that is not in it") from error
    if found is not None:
        place = ".".join(["updates", *map(str, found.absolute_path)])
        raise InvalidInput(place, found.instance, f"the schema does not allow it: {found.message[:300]}")


def type_of(value: object) -> str:
    """The type of a value in the words of JSON Schema; what JSON has no word for keeps its own."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list() | tuple():
            return "array"
        case Mapping():
            return "object"
        case _:
            return type(value).__name__


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeio" else f"a {word}"
