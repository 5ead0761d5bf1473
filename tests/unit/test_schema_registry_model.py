"""The fold of the schema topic and what may be written to it: Confluent's format, ids that never mean two things."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diurna_schemas.errors import Unavailable
from diurna_streams.schema_registry import decisions
from diurna_streams.schema_registry.model import Entry, Level, Mode, Place, State, Verdict, Version, evolve
from diurna_streams.schema_registry.parsing import Schema, parse
from diurna_streams.schema_registry.refusals import RegistryRefusal
from diurna_streams.schema_registry.store import DISPUTE_AGE_MS, SchemaRegistry
from support.schema_logs import SharedLog, SharedRecords

INT, LONG, TEXT = parse('"int"'), parse('"long"'), parse('"string"')


def folded(*entries: Entry | tuple[str, str | None]) -> State:
    state = State()
    for key, value in entries:
        raw = Entry(key.encode() if isinstance(key, str) else key, value.encode() if isinstance(value, str) else value)
        state, verdict = evolve(state, raw, at_ms=0)
        assert verdict is Verdict.ACCEPTED
    return state


def registered(state: State, subject: str, schema: Schema) -> State:
    for entry in decisions.register(state, subject, schema).entries:
        state, verdict = evolve(state, entry, at_ms=0)
        assert verdict is Verdict.ACCEPTED
    return state


CONFLUENT = (
    ('{"keytype":"NOOP","magic":0}', None),
    (
        '{"keytype":"SCHEMA","subject":"t-value","version":1,"magic":1}',
        '{"subject":"t-value","version":1,"id":1,"schema":"\\"int\\"","deleted":false}',
    ),
    (
        '{"keytype":"SCHEMA","subject":"t-value","version":2,"magic":1}',
        '{"subject":"t-value","version":2,"id":2,"md5":"x","schema":"\\"long\\"","deleted":false}',
    ),
    (
        '{"keytype":"SCHEMA","subject":"p-value","version":1,"magic":1}',
        '{"subject":"p-value","version":1,"id":3,"schemaType":"PROTOBUF","schema":"message M {}","deleted":false}',
    ),
    ('{"keytype":"CONFIG","subject":null,"magic":0}', '{"compatibilityLevel":"FULL"}'),
    ('{"keytype":"CONFIG","subject":"t-value","magic":0}', '{"compatibilityLevel":"NONE"}'),
    ('{"keytype":"MODE","subject":"p-value","magic":0}', '{"mode":"READONLY"}'),
    ('{"keytype":"DELETE_SUBJECT","subject":"p-value","magic":0}', '{"subject":"p-value","version":1}'),
)


def test_a_topic_that_confluent_wrote_is_taken_over() -> None:
    state = folded(*CONFLUENT)
    assert [(one.version, one.id) for one in state.versions("t-value")] == [(1, 1), (2, 2)]
    assert state.versions("p-value") == []
    assert state.versions("p-value", deleted=True) == [Version("p-value", 1, 3, deleted=True)]
    assert (state.level, state.level_of("t-value"), state.mode_of("p-value")) == (Level.FULL, Level.NONE, Mode.READONLY)
    assert state.ids[LONG.canonical] == 2
    assert state.id_max == 3
    protobuf = state.schema(3)
    assert protobuf is not None
    assert protobuf.schema_type == "PROTOBUF"


def test_our_records_are_written_as_confluent_writes_them() -> None:
    (entry,) = decisions.register(State(), "t-value", INT).entries
    assert entry.key == b'{"keytype":"SCHEMA","subject":"t-value","version":1,"magic":1}'
    assert entry.value == b'{"subject":"t-value","version":1,"id":1,"schema":"\\"int\\"","deleted":false}'
    (entry,) = decisions.set_level(State(), None, "full").entries
    assert entry == (b'{"keytype":"CONFIG","subject":null,"magic":0}', b'{"compatibilityLevel":"FULL"}')
    (entry,) = decisions.delete_subject(registered(State(), "s", INT), "s", permanent=False).entries
    assert entry.key == b'{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}'
    assert json.loads(entry.value or b"")["deleted"] is True


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"", b""),
        (b"\xff", b"{}"),
        (b"[]", b"{}"),
        (b'{"keytype":"OTHER"}', b"{}"),
        (b'{"keytype":"SCHEMA","subject":"s"}', b"{}"),
        (b'{"keytype":"SCHEMA","subject":"s","version":1}', b'{"id":0,"schema":"x"}'),
        (b'{"keytype":"SCHEMA","subject":"s","version":1}', b'{"id":true,"schema":"x"}'),
        (b'{"keytype":"SCHEMA","subject":"s","version":1}', b'{"id":1}'),
        (b'{"keytype":"SCHEMA","subject":7,"version":1}', b'{"id":1,"schema":"x"}'),
        (b'{"keytype":"CONFIG","subject":null}', b'{"compatibilityLevel":"SIDEWARD"}'),
        (b'{"keytype":"MODE","subject":null}', b'{"mode":"SOMETIMES"}'),
        (b"[" * 100_000, b"{}"),
    ],
)
def test_a_record_that_means_nothing_changes_nothing(key: bytes, value: bytes) -> None:
    state = registered(State(), "s", INT)
    assert evolve(state, Entry(key, value), at_ms=0) == (state, Verdict.UNREADABLE)


def test_one_schema_has_one_id_under_every_subject() -> None:
    state = registered(registered(registered(State(), "a", INT), "b", LONG), "c", parse('{ "type": "int" }'))
    assert [state.versions(subject)[0].id for subject in "abc"] == [1, 2, 1]


def test_registering_twice_writes_nothing() -> None:
    state = registered(State(), "a", INT)
    assert decisions.register(state, "a", INT).entries == ()


def test_a_permanently_deleted_id_is_not_given_again_even_after_compaction() -> None:
    shared = SharedRecords()
    for subject, schema in (("a", INT), ("b", LONG)):
        shared.append(decisions.register(shared.folded(), subject, schema).entries)
    shared.append(decisions.delete_subject(shared.folded(), "b", permanent=False).entries)
    shared.append(decisions.delete_subject(shared.folded(), "b", permanent=True).entries)
    state = shared.compacted().folded()
    assert state.schema(2) is None
    assert decisions.register(state, "c", TEXT).answer.id == 3


def test_the_level_is_kept_transitively_only_where_it_says_so() -> None:
    versions = [
        '{"type":"record","name":"R","fields":[]}',
        '{"type":"record","name":"R","fields":[{"name":"x","type":"int","default":0}]}',
        '{"type":"record","name":"R","fields":[{"name":"x","type":"int"}]}',
    ]
    state = State()
    for text in versions[:2]:
        state = registered(state, "s", parse(text))
    decisions.register(state, "s", parse(versions[2]))
    state, _ = evolve(state, decisions.set_level(state, "s", "BACKWARD_TRANSITIVE").entries[0], at_ms=0)
    with pytest.raises(RegistryRefusal, match="x: the reader expects a field") as caught:
        decisions.register(state, "s", parse(versions[2]))
    assert caught.value.error_code == 409


@pytest.mark.parametrize("level", list(Level))
def test_each_level_looks_in_its_direction(level: Level) -> None:
    wider = decisions.faults_of(level, LONG, [decisions.StoredSchema(INT.text, "AVRO", INT.canonical)])
    narrower = decisions.faults_of(level, INT, [decisions.StoredSchema(LONG.text, "AVRO", LONG.canonical)])
    assert (wider == []) is (level in {"NONE", "BACKWARD", "BACKWARD_TRANSITIVE"})
    assert (narrower == []) is (level in {"NONE", "FORWARD", "FORWARD_TRANSITIVE"})


def test_a_read_only_subject_takes_nothing_new_and_loses_nothing() -> None:
    state = registered(State(), "s", INT)
    state, _ = evolve(state, decisions.set_mode(state, "s", "READONLY", force=False).entries[0], at_ms=0)
    assert decisions.register(state, "s", INT).answer.id == 1
    for refused in (
        lambda: decisions.register(state, "s", LONG),
        lambda: decisions.delete_subject(state, "s", permanent=False),
    ):
        with pytest.raises(RegistryRefusal, match="read-only") as caught:
            refused()
        assert caught.value.error_code == 42205


def test_import_keeps_the_ids_of_another_registry_but_gives_none_twice() -> None:
    state, _ = evolve(State(), decisions.set_mode(State(), "s", "IMPORT", force=False).entries[0], at_ms=0)
    state, _ = evolve(state, decisions.register(state, "s", INT, schema_id=77, version=5).entries[0], at_ms=0)
    assert state.versions("s") == [Version("s", 5, 77, deleted=False)]
    with pytest.raises(RegistryRefusal, match="id 77 names another schema"):
        decisions.register(state, "s", LONG, schema_id=77)
    with pytest.raises(RegistryRefusal, match="a schema id is needed"):
        decisions.register(state, "s", LONG)
    assert decisions.register(state, "t", LONG).answer.id == 78


def test_of_two_records_with_one_key_the_first_counts() -> None:
    (first,), (second,) = (decisions.register(State(), "s", schema).entries for schema in (INT, TEXT))
    state = folded(first)
    state, verdict = evolve(state, second, at_ms=5)
    assert verdict is Verdict.REJECTED
    assert state.schemas[state.versions("s")[0].id].text == INT.text
    settled, verdict = evolve(state, decisions.settle(state, Place("s", 1)), at_ms=6)
    assert verdict is Verdict.ACCEPTED
    assert settled.versions("s") == state.versions("s")
    assert not settled.disputed


def test_a_rewrite_that_comes_late_does_not_bring_back_what_was_deleted() -> None:
    (first,), (second,) = (decisions.register(State(), "s", schema).entries for schema in (INT, TEXT))
    disputed, _ = evolve(folded(first), second, at_ms=5)
    deleted, _ = evolve(disputed, decisions.delete_subject(disputed, "s", permanent=False).entries[0], at_ms=6)
    after, verdict = evolve(deleted, decisions.settle(disputed, Place("s", 1)), at_ms=7)
    assert verdict is Verdict.REJECTED
    assert after.versions("s") == []


def test_of_two_records_with_one_id_the_first_counts_and_the_other_version_can_be_spent() -> None:
    (first,), (second,) = (
        decisions.register(State(), subject, schema).entries for subject, schema in (("s", INT), ("t", TEXT))
    )
    state, verdict = evolve(folded(first), second, at_ms=5)
    assert verdict is Verdict.REJECTED
    assert state.versions("t", deleted=True) == []
    spent, verdict = evolve(state, decisions.settle(state, Place("t", 1)), at_ms=6)
    assert verdict is Verdict.ACCEPTED
    assert spent.versions("t") == []
    assert not spent.disputed
    again = decisions.register(spent, "t", TEXT).answer
    assert (again.version, again.id) == (2, 2)


def test_spending_a_version_never_deletes_it_where_another_writer_won_it_with_the_same_schema() -> None:
    (first,), (second,) = (
        decisions.register(State(), subject, schema).entries for subject, schema in (("s", INT), ("t", TEXT))
    )
    disputed, _ = evolve(folded(first), second, at_ms=5)
    won = registered(disputed, "t", INT)
    after, verdict = evolve(won, decisions.settle(disputed, Place("t", 1)), at_ms=7)
    assert verdict is Verdict.REJECTED
    assert after.versions("t") == won.versions("t") != []


def test_spending_a_version_never_hits_a_record_that_was_accepted_in_between() -> None:
    (first,), (second,) = (
        decisions.register(State(), subject, schema).entries for subject, schema in (("s", INT), ("t", TEXT))
    )
    disputed, _ = evolve(folded(first), second, at_ms=5)
    won, _ = evolve(disputed, decisions.register(disputed, "t", LONG).entries[0], at_ms=6)
    after, verdict = evolve(won, decisions.settle(disputed, Place("t", 1)), at_ms=7)
    assert verdict is Verdict.REJECTED
    assert after.versions("t") == won.versions("t") != []


subjects = st.sampled_from(["s", "t", "u"])
texts = st.sampled_from(['"int"', '"long"', '"string"', '"bytes"', '"float"', '"double"'])
DELETE = ""
"""Stands for a schema's text where the subject is deleted."""
work = st.lists(
    st.tuples(
        st.lists(st.tuples(subjects, texts | st.just(DELETE)), min_size=1, max_size=4),
        st.lists(st.integers(0, 6), max_size=12),
    ),
    min_size=2,
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(work, st.sampled_from([0, DISPUTE_AGE_MS + 1]))
def test_registries_that_write_at_once_never_give_an_id_two_meanings(
    work: list[tuple[list[tuple[str, str]], list[int]]],
    now_ms: int,
) -> None:
    shared = SharedRecords()

    async def asked(registry: SchemaRegistry, subject: str, text: str) -> list[tuple[str, str, Version]]:
        if text != DELETE:
            version = await registry.write(lambda state: decisions.register(state, subject, parse(text)))
            return [(subject, text, version)]
        with contextlib.suppress(RegistryRefusal):
            await registry.write(lambda state: decisions.delete_subject(state, subject, permanent=False))
        return []

    async def one(asking: list[tuple[str, str]], delays: list[int]) -> list[tuple[str, str, Version]]:
        async with SchemaRegistry.open(SharedLog(shared, delays=delays), clock_ms=lambda: now_ms) as registry:
            return [found for subject, text in asking for found in await asked(registry, subject, text)]

    async def all_at_once() -> list[tuple[str, str, Version]]:
        shared.append(decisions.set_level(State(), None, "NONE").entries)
        answers = await asyncio.gather(*(one(asking, delays) for asking, delays in work))
        return [answer for found in answers for answer in found]

    acknowledged = asyncio.run(all_at_once())
    ids = {(version.id, text) for _, text, version in acknowledged}
    assert len(ids) == len({schema_id for schema_id, _ in ids}) == len({text for _, text in ids})
    whole, compacted = shared.folded(), shared.compacted().folded()
    assert not whole.disputed
    for state in (whole, compacted):
        for subject, text, version in acknowledged:
            assert (version.version, version.id) in [
                (one.version, one.id) for one in state.versions(subject, deleted=True)
            ]
            assert state.schemas[version.id].text == text
    assert compacted.subjects == whole.subjects
    assert compacted.ids == whole.ids


async def test_the_simulated_race_really_makes_writers_collide() -> None:
    shared = SharedRecords()
    logs = [SharedLog(shared, delays=[5]), SharedLog(shared, delays=[9])]
    async with SchemaRegistry.open(logs[0]) as one, SchemaRegistry.open(logs[1]) as other:
        answers = await asyncio.gather(
            one.write(lambda state: decisions.register(state, "s", INT)),
            other.write(lambda state: decisions.register(state, "t", TEXT)),
        )
    assert sorted(answer.id for answer in answers) == [1, 2]
    assert len(shared.records) > 2, "nobody collided"
    assert not shared.folded().disputed


async def test_what_a_dead_writer_left_disputed_is_put_right_by_the_next() -> None:
    shared = SharedRecords()
    (first,), (second,) = (
        decisions.register(State(), subject, schema).entries for subject, schema in (("s", INT), ("t", TEXT))
    )
    shared.append([first])
    shared.append([second])  # its writer dies here
    assert shared.folded().disputed
    registry = SchemaRegistry(SharedLog(shared), clock_ms=lambda: DISPUTE_AGE_MS + 1)
    await registry.start()
    await registry.write(lambda state: decisions.register(state, "u", LONG))
    await registry.close()
    whole, compacted = shared.folded(), shared.compacted().folded()
    assert not whole.disputed
    assert compacted.subjects == whole.subjects


async def test_a_lost_acknowledgement_is_unknown_and_asking_again_finds_the_registration() -> None:
    shared = SharedRecords()
    log = SharedLog(shared)
    async with SchemaRegistry.open(log) as registry:
        log.is_acknowledging = False
        with pytest.raises(Unavailable):
            await registry.write(lambda state: decisions.register(state, "s", INT))
        log.is_acknowledging = True
        found = await registry.write(lambda state: decisions.register(state, "s", INT))
    assert (found.version, found.id) == (1, 1)
    assert len(shared.records) == 1


async def test_a_refusal_reaches_the_client_and_writes_nothing() -> None:
    shared = SharedRecords()
    async with SchemaRegistry.open(SharedLog(shared)) as registry:
        await registry.write(lambda state: decisions.register(state, "s", INT))
        with pytest.raises(RegistryRefusal):
            await registry.write(lambda state: decisions.register(state, "s", TEXT))
    assert len(shared.records) == 1
    assert json.loads(shared.records[0].entry.value or b"")["id"] == 1
