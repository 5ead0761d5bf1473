"""What the routes read out of the registry's state, in the shapes Confluent's clients expect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from fastapi import Response

from diurna_streams.schema_registry import refusals
from diurna_streams.schema_registry.dialect import MEDIA_TYPE
from diurna_streams.schema_registry.model import ID_MAX, Place, State, StoredSchema, Version

ItemT = TypeVar("ItemT")
_EVERY_CONTEXT: Final = ":*:"
_DEFAULT_CONTEXT: Final = ":.:"


def id_in(text: str) -> int:
    """The schema id in a path."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise refusals.RegistryRefusal(404, 404, f"HTTP 404 Not Found: {text[:40]!r} is no schema id")
    return int(text)


def schema_by_id(state: State, schema_id: int) -> dict[str, Any]:
    """The schema an id names. Raises a refusal with code 40403 where there is none."""
    schema = state.schema(schema_id)
    if schema is None:
        raise refusals.no_schema(str(schema_id))
    return {**_typed(schema), "schema": schema.text}


def text_answer(text: str) -> Response:
    """A schema's bare text."""
    return Response(text, media_type=MEDIA_TYPE)


def places(state: State, schema_id: int, *, deleted: bool) -> list[Place]:
    """Every version that has this schema. Raises a refusal with code 40403 where the id names none."""
    if state.schema(schema_id) is None:
        raise refusals.no_schema(str(schema_id))
    return sorted(
        place
        for place in state.places[schema_id]
        if deleted or not state.subjects[place.subject][place.version].deleted
    )


def subjects(state: State, *, prefix: str, deleted: bool, is_deleted_only: bool) -> list[str]:
    """The subjects that begin with a prefix; soft-deleted ones where asked for."""
    wanted = _bare(prefix)
    found: list[str] = []
    for subject, known in state.subjects.items():
        is_live = any(not version.deleted for version in known.values())
        if subject.startswith(wanted) and (not is_live if is_deleted_only else is_live or deleted):
            found.append(subject)
    return sorted(found)


def schemas(state: State, *, prefix: str, is_latest_only: bool, deleted: bool) -> list[dict[str, Any]]:
    """Every version of every subject that begins with a prefix."""
    wanted = _bare(prefix)
    found: list[dict[str, Any]] = []
    for subject in sorted(state.subjects):
        if subject.startswith(wanted):
            known = state.versions(subject, deleted=deleted)
            found += [described(state, one) for one in (known[-1:] if is_latest_only else known)]
    return found


def versions(state: State, subject: str, *, deleted: bool = False) -> list[Version]:
    """A subject's versions. Raises a refusal with code 40401 where it has none."""
    known = state.versions(subject, deleted=deleted)
    if not known:
        raise refusals.no_subject(subject)
    return known


def version(state: State, subject: str, text: str, *, deleted: bool = False) -> Version:
    """The version of a subject that a path names: a number, `latest` or -1."""
    number = version_in(text)
    known = versions(state, subject, deleted=deleted)
    if number is None:
        return known[-1]
    for one in known:
        if one.version == number:
            return one
    raise refusals.no_version(number)


def version_in(text: str) -> int | None:
    """The number in a path; None for the latest. Raises a refusal with code 42202 where it is neither."""
    if text in {"latest", "-1"}:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 0 < int(text) <= ID_MAX):
        raise refusals.invalid_version(text)
    return int(text)


def compared_with(state: State, subject: str, text: str | None) -> list[StoredSchema]:
    """The schemas a new one is compared with: all of a subject's, or the version that a path names.

    A subject without versions is no error here, as with Confluent: there is nothing to be incompatible with.
    """
    known = state.versions(subject)
    if text is not None and (number := version_in(text)) is not None:
        known = [version(state, subject, str(number))]
    elif text is not None:
        known = known[-1:]
    return [state.schemas[one.id] for one in known]


def described(state: State, one: Version) -> dict[str, Any]:
    """A version with its schema."""
    schema = state.schemas[one.id]
    return {
        "subject": one.subject,
        "version": one.version,
        "id": one.id,
        **_typed(schema),
        "schema": schema.text,
        **({"deleted": True} if one.deleted else {}),
    }


def page(items: Sequence[ItemT], offset: int, limit: int) -> list[ItemT]:
    """A part of a list; a negative limit means the rest."""
    return list(items[offset:] if limit < 0 else items[offset : offset + limit])


def _typed(schema: StoredSchema) -> dict[str, Any]:
    named = {} if schema.schema_type == "AVRO" else {"schemaType": schema.schema_type}
    return {**named, **({"references": list(schema.references)} if schema.references else {})}


def _bare(prefix: str) -> str:
    """A prefix without the context: there is one only."""
    return prefix.removeprefix(_EVERY_CONTEXT).removeprefix(_DEFAULT_CONTEXT)
