"""What may be written to the registry's topic: pure functions of the state and a request.

Each answers with the records to write and what to tell the client, or raises a refusal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

from diurna_schemas.compatibility import AvroJson, incompatibilities
from diurna_streams.schema_registry import refusals
from diurna_streams.schema_registry.model import ID_MAX, Entry, Level, Mode, Place, State, StoredSchema, Version
from diurna_streams.schema_registry.parsing import Schema

AnswerT = TypeVar("AnswerT")
SUBJECT_CHARACTERS_MAX: Final = 500
_FAULTS_SHOWN_MAX: Final = 10
_READ_ONLY: Final = frozenset({Mode.READONLY, Mode.READONLY_OVERRIDE})


@dataclass(frozen=True, slots=True)
class Decision(Generic[AnswerT]):
    """The records to write, as one batch, and the answer once they are accepted."""

    entries: tuple[Entry, ...]
    answer: AnswerT


def register(
    state: State, subject: str, schema: Schema, *, schema_id: int | None = None, version: int | None = None
) -> Decision[Version]:
    """A schema under a subject. One that is there already is answered with its version; nothing is written."""
    check_subject(subject)
    if state.mode_of(subject) is Mode.IMPORT:
        return _import(state, subject, schema, schema_id, version)
    if schema_id is not None:
        raise refusals.not_permitted(f"subject {subject!r} is not in import mode, so no schema id may be given")
    there = find(state, subject, schema)
    if there is not None:
        return Decision((), there)
    _check_writable(state, subject)
    faults = faults_of(state.level_of(subject), schema, _stored(state, state.versions(subject)))
    if faults:
        raise refusals.incompatible(faults)
    known = state.ids.get(schema.canonical)
    if known is None and state.id_max >= ID_MAX:
        raise refusals.not_permitted(f"all ids up to {ID_MAX} are given")
    new = Version(subject, _next_version(state, subject), state.id_max + 1 if known is None else known, deleted=False)
    text = schema.text if known is None else state.schemas[known].text
    return Decision((schema_entry(new, StoredSchema(text, "AVRO", schema.canonical)),), new)


def _import(
    state: State, subject: str, schema: Schema, schema_id: int | None, version: int | None
) -> Decision[Version]:
    if schema_id is None or not 0 < schema_id <= ID_MAX:
        raise refusals.not_permitted(f"subject {subject!r} is in import mode, so a schema id is needed")
    bound = state.schemas.get(schema_id)
    if bound is not None and bound.canonical != schema.canonical:
        raise refusals.not_permitted(f"id {schema_id} names another schema already")
    number = _next_version(state, subject) if version is None else version
    new = Version(subject, number, schema_id, deleted=False)
    there = next((one for one in state.versions(subject, deleted=True) if one.version == number), None)
    if there is not None and there.id != schema_id:
        raise refusals.not_permitted(f"version {number} of subject {subject!r} has id {there.id}")
    return Decision(
        () if there == new else (schema_entry(new, StoredSchema(schema.text, "AVRO", schema.canonical)),), new
    )


def delete_subject(state: State, subject: str, *, permanent: bool) -> Decision[list[int]]:
    """All versions of a subject, softly or, when that was done, for good. The answer names the versions."""
    _check_writable(state, subject)
    known = state.versions(subject, deleted=True)
    if not known:
        raise refusals.no_subject(subject)
    live = [one.version for one in known if not one.deleted]
    if not permanent:
        if not live:
            raise refusals.subject_soft_deleted(subject)
        # One record a version and no DELETE_SUBJECT: of two of those, compaction keeps the later and not the higher.
        gone = (replace(one, deleted=True) for one in known if not one.deleted)
        return Decision(tuple(schema_entry(one, state.schemas[one.id]) for one in gone), live)
    if live:
        raise refusals.subject_not_soft_deleted(subject)
    return Decision(
        (
            _ids_given(state),
            *(Entry(_schema_key(Place(subject, one.version)), None) for one in known),
            Entry(_subject_key("DELETE_SUBJECT", subject), None),
            *((Entry(_subject_key("CONFIG", subject), None),) if subject in state.levels else ()),
            *((Entry(_subject_key("MODE", subject), None),) if subject in state.modes else ()),
        ),
        [one.version for one in known],
    )


def delete_version(state: State, subject: str, version: Version, *, permanent: bool) -> Decision[int]:
    """One version, softly or, when that was done, for good. The answer is its number."""
    _check_writable(state, subject)
    if not permanent:
        if version.deleted:
            raise refusals.version_soft_deleted(subject, version.version)
        gone = replace(version, deleted=True)
        return Decision((schema_entry(gone, state.schemas[version.id]),), version.version)
    if not version.deleted:
        raise refusals.version_not_soft_deleted(subject, version.version)
    return Decision((_ids_given(state), Entry(_schema_key(Place(subject, version.version)), None)), version.version)


def set_level(state: State, subject: str | None, level: str) -> Decision[Level]:
    """The compatibility of one subject, or of all that have none of their own."""
    if level.upper() not in Level.__members__:
        raise refusals.invalid_compatibility(level, ", ".join(Level))
    if subject is not None:
        check_subject(subject)
    wanted = Level(level.upper())
    present = state.level if subject is None else state.levels.get(subject)
    entry = Entry(_subject_key("CONFIG", subject), _json({"compatibilityLevel": wanted}))
    return Decision(() if present is wanted else (entry,), wanted)


def clear_level(state: State, subject: str | None) -> Decision[Level]:
    """Back to the level of all, or to BACKWARD. The answer is the level that was."""
    if subject is None:
        return Decision((Entry(_subject_key("CONFIG", None), None),), state.level)
    if subject not in state.levels:
        raise refusals.no_subject(subject)
    return Decision((Entry(_subject_key("CONFIG", subject), None),), state.levels[subject])


def set_mode(state: State, subject: str | None, mode: str, *, force: bool) -> Decision[Mode]:
    """What a subject, or all, may be used for. IMPORT needs an empty registry or subject, or `force`."""
    if mode.upper() not in Mode.__members__:
        raise refusals.invalid_mode(mode, ", ".join(Mode))
    if subject is not None:
        check_subject(subject)
    wanted = Mode(mode.upper())
    present = state.mode if subject is None else state.modes.get(subject)
    filled = state.subjects if subject is None else state.versions(subject)
    if wanted is Mode.IMPORT and present is not wanted and filled and not force:
        raise refusals.not_permitted("import mode needs that there are no schemas, or force=true")
    entry = Entry(_subject_key("MODE", subject), _json({"mode": wanted}))
    return Decision(() if present is wanted else (entry,), wanted)


def clear_mode(state: State, subject: str) -> Decision[Mode]:
    """Back to the mode of all. The answer is the mode that was."""
    if subject not in state.modes:
        raise refusals.no_mode(subject)
    return Decision((Entry(_subject_key("MODE", subject), None),), state.modes[subject])


def settle(state: State, place: Place) -> Entry:
    """The record that makes a disputed key say on the log what it is in the state."""
    there = next((one for one in state.versions(place.subject, deleted=True) if one.version == place.version), None)
    if there is None:  # nobody won it: it is spent
        there = Version(*place, state.disputed[place][1], deleted=True)
    return schema_entry(there, state.schemas[there.id], is_settling=True)


def find(state: State, subject: str, schema: Schema, *, deleted: bool = False) -> Version | None:
    """The version of a subject that has this schema, the latest where there are several."""
    return next(
        (
            one
            for one in reversed(state.versions(subject, deleted=deleted))
            if state.schemas[one.id].canonical == schema.canonical
        ),
        None,
    )


def faults_of(level: Level, schema: Schema, earlier: Iterable[StoredSchema]) -> list[str]:
    """Why a schema may not follow these earlier ones, the oldest first; empty where it may."""
    candidates = list(earlier)
    faults: list[str] = []
    for other in candidates if level.is_transitive else candidates[-1:]:
        if other.schema_type != "AVRO":
            faults.append(f"the earlier schema is of type {other.schema_type}")
            continue
        theirs: AvroJson = json.loads(other.text)
        if level.reads_old:
            faults += [f"reading earlier data: {fault}" for fault in incompatibilities(schema.json, theirs)]
        if level.read_by_old:
            faults += [f"read by earlier schema: {fault}" for fault in incompatibilities(theirs, schema.json)]
    return list(dict.fromkeys(faults))[:_FAULTS_SHOWN_MAX] if level is not Level.NONE else []


def check_subject(subject: str) -> None:
    """Raises a refusal with code 42208 where this cannot be a subject."""
    if not subject:
        raise refusals.invalid_subject(subject, "it is empty")
    if len(subject) > SUBJECT_CHARACTERS_MAX:
        raise refusals.invalid_subject(subject, f"at most {SUBJECT_CHARACTERS_MAX} characters are allowed")
    if not all(character.isprintable() for character in subject):
        raise refusals.invalid_subject(subject, "it holds a character that cannot be printed")


def schema_entry(version: Version, schema: StoredSchema, *, is_settling: bool = False) -> Entry:
    """The record of a version, its fields in the order Confluent writes them."""
    fields: dict[str, Any] = {"subject": version.subject, "version": version.version, "id": version.id}
    if schema.schema_type != "AVRO":
        fields["schemaType"] = schema.schema_type
    if schema.references:
        fields["references"] = list(schema.references)
    fields |= {"schema": schema.text, "deleted": version.deleted}
    if is_settling:
        fields["settles"] = True
    return Entry(_schema_key(Place(version.subject, version.version)), _json(fields))


def _stored(state: State, versions: Iterable[Version]) -> list[StoredSchema]:
    return [state.schemas[one.id] for one in versions]


def _next_version(state: State, subject: str) -> int:
    known = state.versions(subject, deleted=True)
    return known[-1].version + 1 if known else 1


def _check_writable(state: State, subject: str) -> None:
    if state.mode_of(subject) in _READ_ONLY:
        raise refusals.not_permitted(f"subject {subject!r} is in read-only mode")


def _ids_given(state: State) -> Entry:
    """Says which ids were given, before the records that show it are deleted for good."""
    return Entry(_json({"keytype": "NOOP", "magic": 0}), _json({"id_max": state.id_max}))


def _schema_key(place: Place) -> bytes:
    return _json({"keytype": "SCHEMA", "subject": place.subject, "version": place.version, "magic": 1})


def _subject_key(keytype: str, subject: str | None) -> bytes:
    return _json({"keytype": keytype, "subject": subject, "magic": 0})


def _json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
