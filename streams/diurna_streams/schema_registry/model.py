"""What the registry knows: the fold of the records on `_schemas`, in Confluent's published format.

Two registries may write at the same moment, and the topic has no compare-and-set. So the log's order decides, here:

- the first record on a (subject, version) says what that version is; a later one with another schema is rejected;
- the first record with an id says what the id means; a later one with another schema is rejected.

Every registry folds the same records to the same verdicts, and a writer counts its write as done only when it has
read its own record back as accepted (`store`). An id therefore never means two things.

What the topic's compaction adds: it keeps the *last* record of a key, and a rejected record may be that one. So a
key whose last record was rejected is remembered (`disputed`) and rewritten with what the version really is, at once
by the writer that lost, later by anyone should that writer have died. Compaction leaves the newest segment alone,
so the dispute is long over when it comes by. Such a rewrite (`settles` in its value, which other registries ignore)
confirms and never changes: where the version is no longer what the rewrite says, it is rejected in its turn. It is
never a tombstone, which would hit whatever another writer had accepted there a moment ago; a version that nobody
won is spent instead, written as deleted. What remains: a rewrite that crosses a permanent deletion brings the
version back, with the same id and the same schema. Delete it again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar, cast

from immutables import Map

from diurna_streams.schema_registry.parsing import canonical_or_text

ID_MAX: Final = 2**31 - 1

ValueT = TypeVar("ValueT", "Level", "Mode")


class Level(StrEnum):
    """Which earlier versions a new schema must get along with, and in which direction."""

    NONE = "NONE"
    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"

    @property
    def is_transitive(self) -> bool:
        return self.endswith("_TRANSITIVE")

    @property
    def reads_old(self) -> bool:
        return self.startswith(("BACKWARD", "FULL"))

    @property
    def read_by_old(self) -> bool:
        return self.startswith(("FORWARD", "FULL"))


class Mode(StrEnum):
    """What a subject may be used for."""

    READWRITE = "READWRITE"
    READONLY = "READONLY"
    READONLY_OVERRIDE = "READONLY_OVERRIDE"
    IMPORT = "IMPORT"


class Verdict(StrEnum):
    """What a record was when it was folded."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNREADABLE = "unreadable"


class Entry(NamedTuple):
    """A record to be written. A value of None is a tombstone."""

    key: bytes
    value: bytes | None


class Place(NamedTuple):
    """One version of one subject."""

    subject: str
    version: int


@dataclass(frozen=True, slots=True)
class Version:
    """A version as it is known: soft-deleted ones are kept until they are deleted for good."""

    subject: str
    version: int
    id: int
    deleted: bool


@dataclass(frozen=True, slots=True)
class StoredSchema:
    """A schema as its id names it. Other types than AVRO come from a topic that another registry wrote."""

    text: str
    schema_type: str
    canonical: str
    references: tuple[dict[str, Any], ...] = ()


_NO_VERSIONS: Final[Map[int, Version]] = Map()


@dataclass(frozen=True, slots=True)
class State:
    """All that was ever registered. `schemas` and `ids` never forget, so that an id is never given twice."""

    subjects: Map[str, Map[int, Version]] = field(default_factory=Map[str, Map[int, Version]])
    schemas: Map[int, StoredSchema] = field(default_factory=Map[int, StoredSchema])
    ids: Map[str, int] = field(default_factory=Map[str, int])
    places: Map[int, frozenset[Place]] = field(default_factory=Map[int, frozenset[Place]])
    id_max: int = 0
    level: Level = Level.BACKWARD
    levels: Map[str, Level] = field(default_factory=Map[str, Level])
    mode: Mode = Mode.READWRITE
    modes: Map[str, Mode] = field(default_factory=Map[str, Mode])
    disputed: Map[Place, tuple[int, int]] = field(default_factory=Map[Place, tuple[int, int]])
    """Where the last record of a key was rejected: its time in ms and the id it claimed."""

    def versions(self, subject: str, *, deleted: bool = False) -> list[Version]:
        """A subject's versions in order; the soft-deleted ones too where `deleted`."""
        known = self.subjects.get(subject, _NO_VERSIONS)
        return [known[number] for number in sorted(known) if deleted or not known[number].deleted]

    def schema(self, schema_id: int) -> StoredSchema | None:
        """The schema an id names, as long as any version has it."""
        return self.schemas.get(schema_id) if schema_id in self.places else None

    def level_of(self, subject: str) -> Level:
        return self.levels.get(subject, self.level)

    def mode_of(self, subject: str) -> Mode:
        return self.mode if self.mode is Mode.READONLY_OVERRIDE else self.modes.get(subject, self.mode)


def evolve(state: State, entry: Entry, *, at_ms: int) -> tuple[State, Verdict]:
    """The state after a record, and what became of the record. `at_ms` is the record's time."""
    try:
        key = _object(entry.key)
        value = None if entry.value is None or not entry.value.strip() else _object(entry.value)
        match key.get("keytype"):
            case "SCHEMA":
                return _evolve_schema(state, _place(key), value, at_ms)
            case "CONFIG":
                return _evolve_level(state, _optional_text(key, "subject"), value), Verdict.ACCEPTED
            case "MODE":
                return _evolve_mode(state, _optional_text(key, "subject"), value), Verdict.ACCEPTED
            case "DELETE_SUBJECT":
                return _evolve_delete(state, _text(key, "subject"), value), Verdict.ACCEPTED
            case "NOOP":
                return _evolve_noop(state, value), Verdict.ACCEPTED
            case _:
                return state, Verdict.UNREADABLE
    except (ValueError, TypeError, RecursionError):
        return state, Verdict.UNREADABLE


def place_of(entry: Entry) -> Place:
    """Which version a record of a schema is about."""
    return _place(_object(entry.key))


def _place(key: dict[str, Any]) -> Place:
    return Place(_text(key, "subject"), _number(key, "version"))


def _evolve_schema(state: State, place: Place, value: dict[str, Any] | None, at_ms: int) -> tuple[State, Verdict]:
    if value is None:
        settled = replace(state, disputed=state.disputed.delete(place)) if place in state.disputed else state
        return _without(settled, place), Verdict.ACCEPTED
    schema_id = _number(value, "id")
    text, schema_type = _text(value, "schema"), str(value.get("schemaType") or "AVRO")
    canonical = canonical_or_text(text, schema_type)
    there = state.subjects.get(place.subject, _NO_VERSIONS).get(place.version)
    bound = state.schemas.get(schema_id)
    is_deleted = value.get("deleted") is True
    is_other = there is not None and (there.id != schema_id or (value.get("settles") and there.deleted != is_deleted))
    if is_other or (bound is not None and bound.canonical != canonical):
        disputed = state.disputed.set(place, (at_ms, schema_id))
        # The id it claimed is not counted as given: else writers that saw it and writers that did not could give one
        # schema two ids.
        return replace(state, disputed=disputed), Verdict.REJECTED
    references = tuple(cast("list[dict[str, Any]]", value.get("references") or ()))
    version = Version(place.subject, place.version, schema_id, is_deleted)
    return replace(
        state,
        subjects=state.subjects.set(
            place.subject, state.subjects.get(place.subject, _NO_VERSIONS).set(place.version, version)
        ),
        schemas=state.schemas
        if bound
        else state.schemas.set(schema_id, StoredSchema(text, schema_type, canonical, references)),
        ids=state.ids if canonical in state.ids else state.ids.set(canonical, schema_id),
        places=state.places.set(schema_id, state.places.get(schema_id, frozenset[Place]()) | {place}),
        id_max=max(state.id_max, schema_id),
        disputed=state.disputed.delete(place) if place in state.disputed else state.disputed,
    ), Verdict.ACCEPTED


def _without(state: State, place: Place) -> State:
    """The state without a version that was deleted for good. Its id stays bound."""
    there = state.subjects.get(place.subject, _NO_VERSIONS).get(place.version)
    if there is None:
        return state
    versions = state.subjects[place.subject].delete(place.version)
    places = state.places[there.id] - {place}
    return replace(
        state,
        subjects=state.subjects.set(place.subject, versions) if versions else state.subjects.delete(place.subject),
        places=state.places.set(there.id, places) if places else state.places.delete(there.id),
    )


def _evolve_level(state: State, subject: str | None, value: dict[str, Any] | None) -> State:
    level = None if value is None or value.get("compatibilityLevel") is None else Level(value["compatibilityLevel"])
    if subject is None:
        return replace(state, level=level or Level.BACKWARD)
    return replace(state, levels=_put(state.levels, subject, level))


def _evolve_mode(state: State, subject: str | None, value: dict[str, Any] | None) -> State:
    mode = None if value is None or value.get("mode") is None else Mode(value["mode"])
    if subject is None:
        return replace(state, mode=mode or Mode.READWRITE)
    return replace(state, modes=_put(state.modes, subject, mode))


def _put(known: Map[str, ValueT], subject: str, value: ValueT | None) -> Map[str, ValueT]:
    if value is not None:
        return known.set(subject, value)
    return known.delete(subject) if subject in known else known


def _evolve_delete(state: State, subject: str, value: dict[str, Any] | None) -> State:
    if value is None or subject not in state.subjects:
        return state
    last = _number(value, "version")
    versions = {
        number: replace(version, deleted=version.deleted or number <= last)
        for number, version in state.subjects[subject].items()
    }
    return replace(state, subjects=state.subjects.set(subject, Map(versions)))


def _evolve_noop(state: State, value: dict[str, Any] | None) -> State:
    """Confluent's keep-alive record. Ours says which ids were given, lest a deleted one be given again."""
    given = None if value is None else value.get("id_max")
    return replace(state, id_max=max(state.id_max, given)) if isinstance(given, int) else state


def _object(raw: bytes) -> dict[str, Any]:
    parsed = json.loads(raw)
    if not isinstance(parsed, dict):
        raise TypeError("not an object")
    return cast("dict[str, Any]", parsed)


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise TypeError(f"{name}: a text is expected")
    return value


def _optional_text(fields: dict[str, Any], name: str) -> str | None:
    return None if fields.get(name) is None else _text(fields, name)


def _number(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= ID_MAX:
        raise ValueError(f"{name}: a number from 1 to {ID_MAX} is expected")
    return value
